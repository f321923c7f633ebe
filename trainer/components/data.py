"""Build the data source, its splits, and the augmentation and mixing of its samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from trainer.components.metadata import Preprocessing
from trainer.components.target import Target, returned_classes
from trainer.config.keys import AugmentConfig, DataConfig
from trainer.data.augment.base import Augmentation
from trainer.data.augment.mix import Mix
from trainer.data.dataset import Data, load
from trainer.data.images import recognise
from trainer.data.images.pool import Progress
from trainer.data.loader import DataCache
from trainer.data.map_dataset import from_dataset
from trainer.data.prepare import Prepare
from trainer.data.source import Source
from trainer.data.split_file import with_split_file
from trainer.data.streams import seeded_streams
from trainer.data.tables.table import TableSchema
from trainer.data.tasks import Task
from trainer.errors import Problem, UserError, show
from trainer.seeds import derive

CSV_TABLE = "trainer.data.tables.table.csv_table"


class DataReader:
    """Reader of the data that a configuration names.

    Args:
        preprocessing: image size that the model expects, for a configuration that sets none.
        cache: shares data with the other runs of the process.
        progress: called while data is read, if that takes long; may raise to end it.
    """

    def __init__(
        self,
        config: DataConfig,
        target: Target,
        preprocessing: Preprocessing,
        cache: DataCache | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config, self.target, self.preprocessing = config, target, preprocessing
        self.cache, self.progress = cache, progress

    def read(self, seed: int) -> Data:
        """Return the data, split with this seed, but not yet fitted to the model's input.

        Raises:
            UserError: the data is missing or damaged, or too small to be split.
        """
        key = repr((self.target.name, self.target.arguments, self.config.root, self.preprocessing))

        def source() -> Source:
            return self.cache.get_source(key, self.source) if self.cache else self.source()

        return split(self.config, source, seed, self.cache, key)

    def source(self, schema: TableSchema | None = None) -> Source:
        """Return the data source; images are read at the size that the model expects.

        The global random streams are seeded alike for every run, so that what a user's data set draws when it is made
        depends neither on the run's seed nor on which run of a sweep reads it first.

        Args:
            schema: columns and classes that a model was trained on, which a table must have.

        Raises:
            UserError: the data is missing or damaged.
        """
        with seeded_streams(derive(0, "data")):
            return self._source(schema)

    def _source(self, schema: TableSchema | None) -> Source:
        target = self.target
        if self.config.root is None and "root" in target.parameters and target.parameters["root"].default is not None:
            raise UserError(Problem("data.root", "expected the folder of the data", given="null"))
        returned = returned_classes(target.factory)
        makes_dataset = inspect.isclass(target.factory) or any(issubclass(one, Dataset) for one in returned)
        if not makes_dataset:
            defaults: dict[str, Any] = {"root": self.config.root, "progress": self.progress, "schema": schema}
            if "resize" in target.parameters and self.preprocessing.size:
                defaults |= {"size": self.preprocessing.size, "resize": self.preprocessing.resize}
            try:
                return target.build(**defaults)
            except UserError as error:
                if target.name != CSV_TABLE:
                    raise
                raise recognise.of_table(str(target.arguments["path"]), error) from error
        defaults = {"root": self.config.root}
        if "split" in target.parameters and "split" not in target.arguments:
            return from_dataset(lambda split: target.build(**defaults, split=split), target.name)
        if len(returned) > 1:
            datasets = dict(zip(("train", "valid", "test"), target.build(**defaults), strict=False))
            return from_dataset(lambda split: datasets.get(split), target.name)
        return from_dataset(lambda: target.build(**defaults), target.name)


def split(
    config: DataConfig, source: Callable[[], Source], seed: int, cache: DataCache | None = None, key: str = ""
) -> Data:
    """Return a source's data, split as the configuration says.

    Args:
        source: returns the source; called if it is not in the cache.
        key: key of the source in `cache`.

    Raises:
        UserError: too few samples, or a split file that does not fit.
    """
    splitting: dict[str, Any] = {
        "valid_fraction": config.valid_fraction,
        "test_fraction": config.test_fraction,
        "seed": seed,
        "relabel": config.relabel,
        "folds": _folds(config),
    }

    def divided() -> Data:
        whole = source()
        return load(with_split_file(whole, config.split_file) if config.split_file else whole, **splitting)

    data = cache.get_data(repr((key, splitting, config.split_file)), divided) if cache else divided()
    if config.per_class is not None:
        data.subsample_per_class(config.per_class, seed)
    return data


def _folds(config: DataConfig) -> tuple[int, int] | None:
    folds, fold = config.folds, config.fold
    if folds is None and fold is None:
        return None
    if folds is None or fold is None or fold >= folds:
        number = folds or 5
        reason = f"expected a fold from 0 to {number - 1} of {number}"
        command = f"train -m data.folds={number} 'data.fold=range({number})'"
        raise UserError(Problem(f"data.fold={show(fold)} data.folds={show(folds)}", reason, command=command))
    return folds, fold


def monitored(task: Task, monitor: str, output: str) -> Task:
    """Return the task for a model with this `output`, with the metric that `monitor` names among those it computes.

    Raises:
        UserError: the task has no such column.
    """
    task = task.configured(output, monitor)
    if monitor not in task.columns:
        reason = f"the task is {task.name}; expected one of {', '.join(task.monitors)}"
        raise UserError(Problem("monitor", reason, given=monitor))
    return task


def build_augmentation(target: Target | None, data: Data) -> Augmentation | None:
    """Return the augmentation, or None.

    Raises:
        UserError: there are no images to augment.
    """
    if target is None:
        return None
    if len(data.shape) != 3 or not isinstance(data.prepare, Prepare):
        reason = f"the data has no images, but samples of shape {list(data.shape)}"
        raise UserError(Problem("augment", reason, advice="Use augment=none."))
    mean, std = data.prepare.statistics
    return target.build(mean=mean, std=std)


def build_mix(augment: AugmentConfig, data: Data, loss: type[nn.Module]) -> Mix | None:
    """Return mixup and cutmix, or None.

    Raises:
        UserError: a regression, a table for cutmix, or a loss that takes no class probabilities.
    """
    if not (augment.mixup or augment.cutmix):
        return None
    if not data.task.classes:
        key = "augment.mixup" if augment.mixup else "augment.cutmix"
        raise UserError(Problem(key, "the task is a regression; only classes are mixed"))
    if augment.cutmix and len(data.shape) != 3:
        reason = f"the data has no images, but samples of shape {list(data.shape)}"
        raise UserError(Problem("augment.cutmix", reason, advice="Use augment.mixup."))
    if issubclass(loss, nn.NLLLoss):
        reason = "it takes classes, and augment.mixup gives class probabilities"
        raise UserError(Problem("loss", reason, given="nll", advice="Use loss=cross_entropy."))
    return Mix(len(data.task.classes), augment.mixup, augment.cutmix)
