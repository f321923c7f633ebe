"""The house's plan: which room may be entered from which. Read from the source text; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.runs import REPOSITORY

PACKAGE = REPOSITORY / "trainer"
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}

# From the ground up: a module may import from its own package and from the rows above its own, nothing else.
LAYERS = [
    "errors seeds signals models",
    "files device processes data",
    "config",
    "records training",
    "report trackers",
    "components",
    "run inference",
    "stack doctor",
    "sweeps",
    "commands",
    "cli",
    "__main__",
]
LEAVES = {
    "config.schema": {"config.keys", "config.values", "errors"},
    "config.values": {"errors"},
    "data.images.decode": set(),  # the processes that decode start with it alone
    "data.tasks": {"errors"},
    "device": {"errors"},
    "seeds": set(),
    "errors": set(),
    "files": {"errors"},
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of all that a module imports, wherever in it, except for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow points"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imported(node)


def own_imports(name: str) -> set[str]:
    """Modules of this program that module `name` imports."""
    found = set()
    for full in imported(TREES[name]):
        top, _, rest = full.partition(".")
        if top == "trainer":
            found |= {module for module in FILES if rest == module or rest.startswith(f"{module}.")}
    return found


def using(*libraries: str) -> set[str]:
    """Modules that import one of these libraries or something in them."""
    return {
        name
        for name, tree in TREES.items()
        if any(full == lib or full.startswith(f"{lib}.") for full in imported(tree) for lib in libraries)
    }


def layer(name: str) -> int:
    package = name.partition(".")[0]
    for height, packages in enumerate(LAYERS):
        if package in packages.split():
            return height
    raise AssertionError(f"{package} has no row: add it to LAYERS, as low as it can stand")


@pytest.mark.parametrize("name", FILES)
def test_arrows_point_down(name: str) -> None:
    package = name.partition(".")[0]
    for other in own_imports(name):
        assert layer(other) < layer(name) or other.partition(".")[0] == package, f"{name} imports {other}"


def test_at_most_ten_modules_stand_outside_the_packages() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 10


def test_no_cycles() -> None:
    graph = {name: own_imports(name) for name in FILES}
    while graph:
        free = {name for name, others in graph.items() if not others & graph.keys()}
        assert free, f"a cycle among {sorted(graph)}"
        graph = {name: others for name, others in graph.items() if name not in free}


@pytest.mark.parametrize("name", LEAVES)
def test_leaves_stand_alone(name: str) -> None:
    assert own_imports(name) <= LEAVES[name]


def test_models_know_nothing_of_the_program() -> None:
    for name in FILES:
        if name.startswith("models."):
            assert all(other.startswith("models.") for other in own_imports(name))


def test_data_knows_only_other_leaves() -> None:
    for name in FILES:
        if name.startswith("data."):
            assert {other for other in own_imports(name) if not other.startswith("data.")} <= {"errors", "seeds"}


def test_only_the_report_knows_rich_and_matplotlib() -> None:
    assert {name.partition(".")[0] for name in using("rich", "matplotlib")} == {"report"}


@pytest.mark.parametrize("library", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_is_imported_by_its_adapter_alone_and_that_when_it_is_chosen(library: str) -> None:
    assert using(library, f"torch.utils.{library}") == {f"trackers.{library}"}
    for name, tree in TREES.items():
        at_once = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert f"trainer.trackers.{library}" not in [getattr(node, "module", None) for node in at_once], name


def test_only_composing_knows_hydra() -> None:
    assert using("hydra") <= {"config.compose", "config.overrides", "commands.completion", "sweeps.launch"}


@pytest.mark.parametrize(
    "name",
    [
        "cli",
        "errors",
        "commands.train",
        "commands.completion",
        "commands.help",
        "records.folder",
        *(name for name in FILES if name.startswith("config.")),
    ],
)
def test_what_answers_at_once_does_not_know_torch(name: str) -> None:
    assert name not in using("torch", "torchvision", "torchmetrics", "numpy", "trainer.models", "trainer.data")


def test_what_a_decoding_process_runs_does_not_know_torch() -> None:
    assert "data.images.decode" not in using("torch", "torchvision", "torchmetrics", "trainer")


def test_only_targets_turns_names_into_code() -> None:
    ways = ("import_module", "__import__", "instantiate", "get_class", "get_method", "get_object", "exec")
    found = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ways
    }
    assert found == {"components.targets", "commands.verbs"}  # verbs: names of its own table only


def test_nothing_can_unpickle_code() -> None:
    assert not using("pickle", "marshal", "shelve", "joblib", "dill")
    loads = [
        ast.unparse(node)
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load", "eval", "yaml.load")
    ]
    for call in loads:
        assert "weights_only=True" in call or call.startswith("np.load(file)") or "_NoAliases" in call, call


def test_environment_variables_are_read_in_few_places() -> None:
    found = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv")
    }
    assert {name for name in found if not name.startswith("report.")} <= {
        "cli",
        "data.images.cache",
        "device",
        "errors",
    }


def test_one_loop_and_one_backward() -> None:
    backward, epochs = [], []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "backward":
                backward.append(name)
            if isinstance(node, ast.For) and ast.unparse(node.target) == "epoch":
                epochs.append(name)
    assert (backward, epochs) == (["training.step"], ["training.loop"])


@pytest.mark.parametrize("path", [*sorted(PACKAGE.rglob("*.py"))], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_short_and_explain_themselves(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert len(text.splitlines()) <= 301
    public = [
        node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    assert not [node.name for node in public if not ast.get_docstring(node)]
