"""The targets that a stored configuration may name without trust: this list is frozen.

Checkpoints and run folders hold these names. Renaming one makes them unreadable, and adding one lets a file that
somebody else wrote call it: both are decisions, not side effects of moving code.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torchvision
import yaml

from helpers.runs import REPOSITORY
from helpers.source import FILES
from trainer.components.targets import resolve
from trainer.errors import UserError

OURS = {
    "model": {
        "trainer.models.cnn.CNN",
        "trainer.models.cnn.SequentialCNN",
        "trainer.models.lenet.LeNet5",
        "trainer.models.lenet.Net",
        "trainer.models.mlp.ANN",
        "trainer.models.mlp.MLP",
        "trainer.models.mlp.MNISTClassifier",
        "trainer.models.mlp.Perceptron",
        "trainer.models.sequential.sequential",
        "trainer.models.vision.timm_model",
        "trainer.models.vision.torchvision_model",
    },
    "data": {
        "trainer.data.arrays.source.array_file",
        "trainer.data.huggingface.huggingface_dataset",
        "trainer.data.images.folder.image_folder",
        "trainer.data.sources.digits",
        "trainer.data.sources.torchvision_dataset",
        "trainer.data.tables.table.bundled_table",
        "trainer.data.images.table.image_table",
        "trainer.data.tables.table.csv_table",
    },
    "augment": {
        "trainer.data.augment.chain.Chain",
        "trainer.data.augment.colour.ColourJitter",
        "trainer.data.augment.erasing.RandomErasing",
        "trainer.data.augment.geometry.FlipCrop",
        "trainer.data.augment.geometry.RandomAffine",
        "trainer.data.augment.geometry.RandomResizedCrop",
        "trainer.data.augment.strong.Strong",
    },
    "loss": set(),
    "optim": set(),
    "schedule": set(),
    "metric": set(),
}
LIBRARIES = ("torch", "torchvision", "torchmetrics", "numpy")
# Modules of other libraries: their own classes of the kind, and torchvision's builders of models.
THEIRS = {
    "model": {"torch.nn", "torchvision.models"},
    "data": set(),
    "augment": set(),
    "loss": {"torch.nn"},
    "optim": {"torch.optim"},
    "schedule": {"torch.optim.lr_scheduler"},
    "metric": {"torchmetrics.classification", "torchmetrics.regression"},
}


def accepts(name: str, kind: str) -> bool:
    try:
        resolve(name, kind, trusted=False)
    except UserError:
        return False
    return True


def names(module_name: str) -> Iterator[str]:
    """Yield the full name of everything callable that a module holds, imported names included."""
    module = importlib.import_module(module_name)
    yield from (f"{module_name}.{name}" for name, value in vars(module).items() if callable(value))


@pytest.mark.parametrize("kind", OURS)
def test_what_is_accepted_of_this_program(kind: str) -> None:
    modules = [f"trainer.{name}" for name in FILES]
    assert {name for module in modules for name in names(module) if accepts(name, kind)} == OURS[kind]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of names that torch itself gives up
@pytest.mark.parametrize("kind", THEIRS)
def test_what_is_accepted_of_other_libraries(kind: str) -> None:
    importlib.import_module("torchmetrics.regression")
    modules = [name for name in list(sys.modules) if name.partition(".")[0] in LIBRARIES]
    accepted = {
        module
        for module in modules
        for name, value in list(vars(sys.modules[module]).items())
        if (inspect.isclass(value) or inspect.isfunction(value)) and accepts(f"{module}.{name}", kind)
    }
    assert accepted == THEIRS[kind]


def test_only_builders_of_models_are_accepted_of_torchvision() -> None:
    builders = {f"torchvision.models.{name}" for name in torchvision.models.list_models(torchvision.models)}
    assert {name for name in names("torchvision.models") if accepts(name, "model")} == builders


def targets(path: Path) -> Iterator[str]:
    """Yield every `_target_` of this program in a YAML file, at whatever depth."""

    def inside(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (value for key, value in node.items() if key == "_target_")
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from inside(child)

    yield from (name for name in inside(yaml.safe_load(path.read_text())) if str(name).startswith("trainer."))


@pytest.mark.parametrize("kind", ["model", "data", "augment"])
def test_the_yaml_files_name_all_of_them_and_nothing_else(kind: str) -> None:
    assert {name for path in (REPOSITORY / "conf" / kind).glob("*.yaml") for name in targets(path)} == OURS[kind]
