"""Limits that keep the program readable: how long files and functions may be, how many parameters they may take.

A number here is a promise of the project. Raise none of them; split the file or the function instead.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import types

import trainer
from helpers.runs import REPOSITORY
from helpers.source import FILES, PACKAGE, annotations, functions, parameters, trees

FILE_LINES = 250
FUNCTION_LINES = 50
PARAMETERS = 6
MODULES_OUTSIDE_PACKAGES = 10
FUNCTIONS_WITH_CONFIG = 25  # that take the whole configuration
SIGNATURES_WITH_DICTS = 60  # that hold `dict[str, Any]`


def lines(function: ast.FunctionDef) -> int:
    """Return the number of lines of a function from its `def` on, decorators not counted."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def is_a_target(name: str, function: ast.FunctionDef) -> bool:
    """Return whether the parameters are keys of users: of what `model._target_` or `data._target_` may name.

    scikit-learn asks for the same: every parameter of an estimator stands in the signature of its constructor.
    """
    returns = ast.unparse(function.returns) if function.returns else ""
    model = name.startswith(("models.", "sklearn.")) and (function.name == "__init__" or returns == "nn.Module")
    return model or (name.startswith("data.") and not function.name.startswith("_") and returns == "Source")


def test_no_file_is_long() -> None:
    long = {name for name, path in FILES.items() if len(path.read_text().splitlines()) > FILE_LINES}
    assert not long


def test_no_function_is_long() -> None:
    long = {name for name, function in functions() if lines(function) > FUNCTION_LINES}
    assert not long


def test_no_function_takes_many_parameters() -> None:
    many = {
        name
        for name, function in functions()
        if len(parameters(function)) > PARAMETERS and not is_a_target(name, function)
    }
    assert not many


def test_few_functions_take_the_whole_configuration() -> None:
    takers = [name for name, function in functions() if any(re.search(r"\bConfig\b", a) for a in annotations(function))]
    assert len(takers) <= FUNCTIONS_WITH_CONFIG, takers


def test_few_signatures_hold_loose_dictionaries() -> None:
    loose = []
    for name, function in functions():
        returns = [ast.unparse(function.returns)] if function.returns else []
        if any("dict[str, Any]" in annotation for annotation in [*annotations(function), *returns]):
            loose.append(name)
    assert len(loose) <= SIGNATURES_WITH_DICTS, loose


def test_few_modules_stand_outside_the_packages() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MODULES_OUTSIDE_PACKAGES


def test_there_is_one_loop_and_one_backward_pass() -> None:
    nodes = [(name, node) for name, tree in trees().items() for node in ast.walk(tree)]
    backward = [name for name, node in nodes if isinstance(node, ast.Attribute) and node.attr == "backward"]
    epochs = [name for name, node in nodes if isinstance(node, ast.For) and ast.unparse(node.target) == "epoch"]
    assert (backward, epochs) == (["training.step"], ["training.loop"])


def test_docstrings_have_the_form_of_the_configured_rules() -> None:
    """Public modules, classes and functions have docstrings of Google's form, the first line in the imperative."""
    lint = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert {"D", "D401"} <= set(lint["select"])
    assert lint["pydocstyle"]["convention"] == "google"
    # Methods of a protocol and arguments that their names explain need no words.
    assert {rule for rule in lint["ignore"] if rule.startswith("D")} == {"D102", "D105", "D107", "D417"}
    assert set(lint["per-file-ignores"]) == {"tests/**", "scripts/**"}
    command = [sys.executable, "-m", "ruff", "check", "--output-format=concise", "trainer"]
    checked = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_no_submodule_hides_a_function_of_the_package() -> None:
    """`import trainer.load` would replace the function `trainer.load` by a module."""
    for name in FILES:
        importlib.import_module(f"trainer.{name}")
    for name in ("train", "sweep", "load"):
        assert f"trainer.{name}" not in sys.modules
        assert isinstance(getattr(trainer, name), types.FunctionType)
    assert all(hasattr(trainer, name) for name in trainer.__all__)
    assert dir(trainer) == sorted(trainer.__all__)


def test_the_tests_mirror_the_packages() -> None:
    tests = {path.parent.relative_to(REPOSITORY / "tests").as_posix() for path in (REPOSITORY / "tests").rglob("*.py")}
    packages = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert tests - packages == {"faults", "helpers"}
    assert {path.split("/")[0] for path in packages} <= tests
