"""Which package may import which, and where libraries and dangerous calls are allowed, read from the source."""

from __future__ import annotations

import ast

import pytest

from helpers.source import FILES, importers, own_imports, trees

# From the ground up: a module may import from its own package and from the rows before its own, nothing else.
# Packages in one row do not import each other.
LAYERS = [
    "errors seeds signals traits models",
    "files device processes",
    "data",
    "config",
    "records",
    "training",
    "report trackers",
    "components",
    "run inference",
    "stack doctor",
    "sweeps",
    "commands api",
    "cli sklearn",
    "__main__",
]
LEAVES = {
    "config.schema": {
        "config.declare",
        "config.keys",
        "config.sweep_keys",
        "config.values",
        "data.metrics",
        "errors",
        "traits",
    },
    "config.values": {"errors"},
    "data.images.decode": set(),
    "data.images.serve": {"data.images.decode"},  # the processes that decode start with these alone
    "data.metrics": set(),
    "data.streams": {"traits"},
    "data.tables.numerals": set(),
    "data.multilabel": {"data.extra_metrics", "data.classification", "data.metrics", "errors"},
    "data.regression": {"data.extra_metrics", "data.metrics"},
    "data.tasks": {
        *("data.classification", "data.extra_metrics", "data.metrics", "data.multilabel", "data.regression"),
        "errors",
    },
    "device": {"errors", "traits"},
    "seeds": set(),
    "errors": set(),
    "files": {"errors"},
}


def layer(name: str) -> int:
    """Return the row of a module's package."""
    package = name.partition(".")[0]
    rows = [row for row, packages in enumerate(LAYERS) if package in packages.split()]
    assert rows, f"{package} has no row: add it to LAYERS, as low as it can stand"
    return rows[0]


def test_arrows_point_down() -> None:
    upward = [
        f"{name} imports {other}"
        for name in FILES
        for other in own_imports(name)
        if layer(other) >= layer(name) and other.partition(".")[0] != name.partition(".")[0]
    ]
    assert not upward


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
            assert {other for other in own_imports(name) if not other.startswith("data.")} <= {
                "device",
                "errors",
                "files",
                "processes",
                "seeds",
                "signals",
                "traits",
            }


def test_only_the_report_knows_rich_and_matplotlib() -> None:
    assert {name.partition(".")[0] for name in importers("rich", "matplotlib")} == {"report"}


def test_only_the_estimators_know_scikit_learn() -> None:
    assert importers("sklearn") <= {"sklearn", "sklearn.estimators"}


@pytest.mark.parametrize("library", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_is_imported_by_its_adapter_alone_and_that_when_it_is_chosen(library: str) -> None:
    assert importers(library, f"torch.utils.{library}") == {f"trackers.{library}"}
    for name, tree in trees().items():
        at_once = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert f"trainer.trackers.{library}" not in [getattr(node, "module", None) for node in at_once], name


def test_only_composing_knows_hydra() -> None:
    assert importers("hydra") <= {
        "commands.completion",
        "config.compose",
        "config.hydra_state",
        "config.overrides",
        "sweeps.launch",
    }


@pytest.mark.parametrize(
    "name",
    [
        "cli",
        "errors",
        "traits",
        "commands.train",
        "commands.completion",
        "commands.help",
        "data.metrics",
        *(name for name in FILES if name.startswith(("config.", "records."))),
    ],
)
def test_what_answers_at_once_does_not_know_torch(name: str) -> None:
    assert name not in importers("torch", "torchvision", "torchmetrics", "numpy", "trainer.models")
    assert {other for other in own_imports(name) if other.startswith("data.")} <= {
        "data.metrics",
        "data.tables.formulas",
        "data.tables.numerals",
    }


def test_what_a_decoding_process_runs_does_not_know_torch() -> None:
    assert not importers("torch", "torchvision", "torchmetrics") & {"data.images.decode", "data.images.serve"}


def test_only_targets_turns_names_into_code() -> None:
    ways = ("import_module", "__import__", "instantiate", "get_class", "get_method", "get_object", "exec")
    found = {
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ways
    }
    # verbs: names of its own table only; trackers: names of the modules in its own package only
    assert found == {"components.targets", "commands.verbs", "trackers.base"}


def test_nothing_can_unpickle_code() -> None:
    assert not importers("pickle", "marshal", "shelve", "joblib", "dill")
    loads = [
        ast.unparse(node)
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load", "eval", "yaml.load")
    ]
    for call in loads:
        assert "weights_only=True" in call or call.startswith("np.load(file)") or "BoundedLoader" in call, call


def test_environment_variables_are_read_in_few_places() -> None:
    found = {
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.putenv")
    }
    assert {name for name in found if not name.startswith("report.")} <= {
        "api.driver",
        "api.isolation",
        "cli",
        "data.images.cache",
        "device",
        "errors",
        "records.folder",
    }
