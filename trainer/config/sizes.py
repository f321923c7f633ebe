"""Check the sizes of this program's models: units, channels and pixels are whole numbers from 1.

Which arguments are sizes is read from the annotations in the models' source, which is not imported: that needs torch.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trainer.config.keys import ComponentConfig
from trainer.errors import Problem, show

MODELS = "trainer.models"
FROM_DATA = ("in_channels", "image_size", "in_features", "num_outputs")  # null: as the data says
LISTS = {"Sequence[int]", "list[int]"}
PAIR = "tuple[int, int]"


def size_problems(model: ComponentConfig) -> list[Problem]:
    """Return a problem for each argument that is a size of one of this program's models, and not in range."""
    problems = []
    for name, kinds in _sizes_of(str(model.target)).items():
        value = model.arguments.get(name)
        if name not in model.arguments or (value is None and (name in FROM_DATA or "None" in kinds)):
            continue
        if expected := _expected(value, kinds):
            problems.append(Problem(f"model.{name}", f"expected {expected}", given=show(value)))
    return problems


def _expected(value: Any, kinds: frozenset[str]) -> str:
    """Return what a size may be, or an empty string if the value is in range."""
    if isinstance(value, (list, tuple)) and kinds & {PAIR, *LISTS}:
        in_range = all(map(_is_size, value)) and (bool(kinds & LISTS) or len(value) == 2)
    else:
        in_range = "int" in kinds and _is_size(value)
    if in_range:
        return ""
    if PAIR in kinds:
        return "two whole numbers from 1, such as [32, 32]"
    if "int" in kinds:
        return "a whole number from 1" + (", or a list of them, such as [64, 32]" if kinds & LISTS else "")
    return f"a list of sizes, such as [{value}]" if _is_size(value) else "a list of whole numbers from 1, such as [64]"


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@cache
def _sizes_of(target: str) -> Mapping[str, frozenset[str]]:
    """Return the parameters of a model that are sizes, with the types that they accept, such as `Sequence[int]`."""
    module, _, name = target.rpartition(".")
    package, _, file = module.rpartition(".")
    path = Path(__file__).parents[1] / "models" / f"{file}.py"
    if package != MODELS or not file.isidentifier() or not path.is_file():
        return {}
    by_name = {node.name: node for node in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(node, "name")}
    node = by_name.get(name)
    if isinstance(node, ast.ClassDef):
        node = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
    if not isinstance(node, ast.FunctionDef):
        return {}
    parameters = [*node.args.args, *node.args.kwonlyargs]
    kinds = {p.arg: frozenset(ast.unparse(p.annotation).split(" | ")) for p in parameters if p.annotation is not None}
    return {name: each for name, each in kinds.items() if each - {"None"} and each <= {"int", "None", PAIR, *LISTS}}
