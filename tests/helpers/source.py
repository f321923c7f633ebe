"""The program's source text: its files, their imports, classes and functions. Nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from helpers.runs import REPOSITORY

PACKAGE = REPOSITORY / "trainer"
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}


@cache
def tree(name: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(FILES[name].read_text())


def trees() -> dict[str, ast.Module]:
    """Return the syntax trees of all modules."""
    return {name: tree(name) for name in FILES}


@cache
def imported(name: str) -> frozenset[str]:
    """Return the full names that a module imports."""
    return frozenset(imports(tree(name)))


def imports(node: ast.AST) -> Iterator[str]:
    """Yield the full name of each import of a module, inside functions too; those for type checkers are left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports hide where an arrow points"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from imports(child)


@cache
def own_imports(name: str) -> set[str]:
    """Return the modules of this program that module `name` imports."""
    own = [full.removeprefix("trainer.") for full in imported(name) if full.startswith("trainer.")]
    return {module for module in FILES for full in own if full == module or full.startswith(f"{module}.")}


def importers(*libraries: str) -> set[str]:
    """Return the modules that import one of these libraries or something in them."""
    return {
        name
        for name in FILES
        if any(full == library or full.startswith(f"{library}.") for full in imported(name) for library in libraries)
    }


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield every function and method as `module:Class.name` with its node; nested functions too."""

    def inside(node: ast.AST, path: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = f"{path}{child.name}"
                if isinstance(child, ast.FunctionDef):
                    yield name, child
                yield from inside(child, f"{name}.")
            else:
                yield from inside(child, path)

    for module in FILES:
        yield from inside(tree(module), f"{module}:")


def parameters(function: ast.FunctionDef) -> list[ast.arg]:
    """Return a function's parameters, `*args` and `**kwargs` among them, but not `self` or `cls`."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    collecting = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [argument for argument in [*named, *collecting] if argument.arg not in ("self", "cls")]


def annotations(function: ast.FunctionDef) -> list[str]:
    """Return the source text of the annotations of a function's parameters."""
    return [ast.unparse(argument.annotation) for argument in parameters(function) if argument.annotation]
