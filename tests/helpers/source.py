"""The program's source text: its files, their imports, classes and functions. Nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from helpers.runs import REPOSITORY

PACKAGE = REPOSITORY / "trainer"
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of each import of a module, inside functions too; those for type checkers are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow points"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def own_imports(name: str) -> set[str]:
    """Return the modules of this program that module `name` imports."""
    own = [full.removeprefix("trainer.") for full in imports(TREES[name]) if full.startswith("trainer.")]
    return {module for module in FILES for full in own if full == module or full.startswith(f"{module}.")}


def importers(*libraries: str) -> set[str]:
    """Return the modules that import one of these libraries or something in them."""
    return {
        name
        for name, tree in TREES.items()
        if any(full == library or full.startswith(f"{library}.") for full in imports(tree) for library in libraries)
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

    for module, tree in TREES.items():
        yield from inside(tree, f"{module}:")


def parameters(function: ast.FunctionDef) -> list[ast.arg]:
    """Return a function's parameters, `*args` and `**kwargs` among them, but not `self` or `cls`."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    collecting = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [argument for argument in [*named, *collecting] if argument.arg not in ("self", "cls")]


def annotations(function: ast.FunctionDef) -> list[str]:
    """Return the source text of the annotations of a function's parameters."""
    return [ast.unparse(argument.annotation) for argument in parameters(function) if argument.annotation]
