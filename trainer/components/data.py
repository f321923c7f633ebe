"""From configuration to the data source and what varies its samples."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from trainer.components.loss import loss_class
from trainer.components.pretrained import ANY, Preprocessing
from trainer.components.targets import call, resolve
from trainer.config.keys import DataConfig
from trainer.config.schema import Config
from trainer.data.augment.base import Augmentation
from trainer.data.augment.mix import Mix
from trainer.data.dataset import Data
from trainer.data.images.pool import Progress
from trainer.data.map_dataset import from_dataset
from trainer.data.prepare import Prepare
from trainer.data.source import Source
from trainer.data.tables.table import TableSchema
from trainer.data.tasks import Regression
from trainer.errors import UserError


def build_source(
    config: DataConfig, wanted: Preprocessing = ANY, progress: Progress | None = None, schema: TableSchema | None = None
) -> Source:
    """The data source; images are read in the form that is wanted, where the configuration leaves it open.

    Args:
        schema: the columns and classes that a table must have: those that a model was trained on.
        progress: is told how far reading is, where it takes long; may raise to end it.

    Raises:
        UserError: as the source does, where data is absent or damaged.
    """
    assert config.target is not None
    target = resolve(config.target, "data")
    if not inspect.isclass(target):
        given: dict[str, Any] = {"root": config.root, "progress": progress, "schema": schema}
        if "resize" in inspect.signature(target).parameters and wanted.size:
            # Squashed to a square first, images of another form are brought to it by what prepares them.
            given |= {
                "size": wanted.size if isinstance(wanted.size, int) else max(wanted.size),
                "resize": wanted.resize,
            }
        return call("data", config, **given)
    given = {"root": config.root} if "root" in inspect.signature(target).parameters else {}

    def make(**split: str) -> Any:
        return call("data", config, **given, **split)

    if "split" in inspect.signature(target).parameters and "split" not in config.arguments:
        return from_dataset(lambda split: make(split=split), config.target)
    return from_dataset(lambda: make(), config.target)


def build_augmentation(config: Config, data: Data) -> Augmentation | None:
    """The augmentation, or None.

    Raises:
        UserError: where there are no images to augment.
    """
    if config.augment.target is None:
        return None
    if len(data.shape) != 3 or not isinstance(data.prepare, Prepare):
        raise UserError(f"augment: the data has no images but {list(data.shape)}. Use augment=none.")
    return call("augment", config.augment, mean=data.prepare.mean, std=data.prepare.std)


def build_mix(config: Config, data: Data) -> Mix | None:
    """mixup and cutmix, or None.

    Raises:
        UserError: a regression, a table for cutmix, or a loss that takes no class probabilities.
    """
    for name in ("mixup", "cutmix"):
        if getattr(config.augment, name) and isinstance(data.task, Regression):
            raise UserError(f"augment.{name}: the task is a regression; only classes are mixed.")
    if not (config.augment.mixup or config.augment.cutmix):
        return None
    if config.augment.cutmix and len(data.shape) != 3:
        raise UserError(f"augment.cutmix: the data has no images but {list(data.shape)}. Use augment.mixup.")
    chosen = loss_class(config, data.task)
    if issubclass(chosen, nn.NLLLoss):
        raise UserError("loss=nll takes classes, and augment.mixup gives class probabilities: use cross_entropy.")
    return Mix(len(data.task.classes), config.augment.mixup, config.augment.cutmix)
