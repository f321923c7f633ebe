"""The keys of the shipped options, which commands and YAML files of users name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from helpers.runs import REPOSITORY
from trainer.components.targets import resolve_targets
from trainer.config.job import Job

PRETRAINED = "name weights head hidden dropout"
KEYS = {
    **dict.fromkeys(("model/resnet18", "model/vgg16", "model/torchvision", "model/timm"), PRETRAINED),
    "model/ann": "hidden dropout",
    "model/mlp": "hidden activation norm dropout",
    "model/sequential": "layers",
    **dict.fromkeys(("data/breast_cancer", "data/diabetes", "data/iris", "data/wine"), "dataset target"),
    **dict.fromkeys(("data/cifar10", "data/cifar100", "data/fashion_mnist", "data/mnist"), "name download"),
    "data/arrays": "path x y task layout classes missing",
    "data/huggingface": "name image target task missing download size resize",
    "data/torchvision": "name download size resize",
    "data/csv": "path target features drop task separator missing",
    "data/image_folder": "size resize interpolation classes on_bad_image cache",
    "data/mnist_below_3": "relabel",
    "loss/cross_entropy": "label_smoothing",
    "loss/huber": "delta",
    **dict.fromkeys(("optim/adagrad", "optim/adam", "optim/nadam"), "lr"),
    "optim/adamw": "lr weight_decay",
    "optim/rmsprop": "lr momentum",
    "optim/sgd": "lr momentum nesterov weight_decay",
    "schedule/cosine": "eta_min",
    "schedule/one_cycle": "pct_start",
    "schedule/plateau": "interval factor patience",
    "schedule/step": "interval step_size gamma",
    "augment/colour_jitter": "brightness contrast saturation hue",
    "augment/erasing": "probability area",
    "augment/flip_crop": "padding",
    "augment/light": "degrees translate scale",
    "augment/photo": "steps",
    "augment/resized_crop": "scale ratio flip",
    "augment/strong": "degrees translate scale shear colour erase erase_area",
    "logger/mlflow": "project uri",
    "logger/wandb": "project online",
}


@pytest.mark.parametrize("option", KEYS)
def test_no_key_of_a_shipped_option_is_lost(option: str) -> None:
    assert set(KEYS[option].split()) <= yaml.safe_load((REPOSITORY / f"conf/{option}.yaml").read_text()).keys()


@pytest.mark.slow
@pytest.mark.parametrize("option", [option for option in KEYS if option.startswith(("augment", "optim", "schedule"))])
def test_each_key_of_an_option_reaches_its_target(option: str, job: Callable[..., Job]) -> None:
    group, _, name = option.partition("/")
    config = job(f"{group}={name}").config
    target = getattr(resolve_targets(config, [group], trusted=True), group)
    own = set(KEYS[option].split()) - {"interval"}
    assert own <= target.parameters.keys()
    assert target.arguments.keys() == own


def test_the_strength_of_strong_augmentation_is_set_by_its_keys(job: Callable[..., Job]) -> None:
    targets = resolve_targets(job("augment=strong", "augment.erase=0.1").config, ["augment"], trusted=True)
    assert targets.augment is not None
    assert targets.augment.build().erasing.probability == 0.1
