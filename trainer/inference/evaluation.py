"""The data of an evaluation: the splits on which a finished run can be evaluated."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from torch import Tensor

from trainer.components.data import DataReader, split
from trainer.data.dataset import Split
from trainer.data.images.options import TABLE
from trainer.data.images.pool import Progress
from trainer.data.labels import relabel, reordered
from trainer.data.regression import Regression
from trainer.data.samples import Samples
from trainer.data.source import Source
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tables.table import TableSchema
from trainer.errors import Problem, UserError, first_few
from trainer.inference.settings import EvaluationSettings

SHOWN = 10  # classes in a sentence
ALL = "all"  # name of the only split of other data


@dataclass(frozen=True)
class EvaluationData:
    """Data on which a finished run can be evaluated.

    Attributes:
        settings: the run and its configuration.
        own: whether the run was trained on this data; the splits are then the same as in training.
        samples: the samples by the original splits of the data.
        splits: the splits that can be evaluated.
    """

    settings: EvaluationSettings
    own: bool
    samples: dict[str, Samples]
    splits: dict[str, Split]

    @property
    def default_split(self) -> str:
        """The test split, or the only one of other data.

        Raises:
            UserError: there is no test split, and more than one other.
        """
        if "test" in self.splits:
            return "test"
        if len(self.splits) > 1:
            raise self.settings.refusal(f"it has {', '.join(self.splits)}; choose one of these: --part")
        return next(iter(self.splits))

    def split(self, name: str) -> Split:
        """Return a split whose samples have the shape and type that the model was trained on.

        Raises:
            UserError: there is no such split, or its samples are of another shape or type.
        """
        if name not in self.splits:
            whose = "the run's data" if self.own else "this data is not the run's own, and it"
            reason = f"{whose} has no such split"
            raise UserError(Problem(f"--part {name}", f"{reason}; it has {', '.join(self.splits)}"))
        split, metadata = self.splits[name], self.settings.checkpoint.metadata
        raw = split.samples.take(split.indices[:1])
        shape, expected = list(raw.shape[1:]), list(metadata.prepare.shape)
        if shape != expected:
            raise self.settings.refusal(f"samples of {shape}; the model was trained on {expected}")
        if (raw.dtype == torch.uint8) != (metadata.dtype == torch.uint8):
            raise self.settings.refusal(f"samples are {raw.dtype}; the model was trained on {metadata.dtype}")
        return split

    def shown_name(self, name: str) -> str:
        """Return the name of a split as it is shown: data without splits is evaluated as a whole."""
        return ALL if not self.own and len(self.splits) == 1 else name

    def identity(self, name: str) -> str:
        """Return a digest that two evaluations share if their samples are the same, in the same order."""
        digest = blake2b(str(self.settings.config.data.target).encode(), digest_size=16)
        for samples in self.samples.values():
            digest.update(samples.targets.numpy().data)
        digest.update(self.splits[name].indices.numpy().data)
        return digest.hexdigest()

    def spread_samples(self, count: int) -> tuple[str, Tensor]:
        """Return at most `count` raw samples [N, ...] of the test, validation or only split, after its shown name.

        Raises:
            UserError: its samples are of another shape or type.
        """
        held_out = [name for name in ("test", "valid") if name in self.splits]
        name = held_out[0] if held_out else self.default_split
        split = self.split(name)
        spread = torch.linspace(0, len(split) - 1, min(count, len(split))).long()
        return self.shown_name(name), split.samples.take(split.indices[spread])


def read_data(settings: EvaluationSettings, progress: Progress | None = None) -> EvaluationData:
    """Read the data of an evaluation; `progress` is called meanwhile, and may raise to stop.

    Raises:
        UserError: the data cannot be read, or does not match the run's data.
    """
    config, metadata = settings.config, settings.checkpoint.metadata
    if str(config.data.target).endswith(".torchvision_dataset") and not os.path.isdir(str(config.data.root)):
        # Nothing is downloaded to a path that was stored on another machine.
        reason = "there is no such folder"
        advice = "Set the folder of the data"
        raise UserError(Problem("data.root", reason, given=config.data.root, advice=advice, command="data.root=DIR"))
    schema = None
    columns = metadata.prepare.columns if isinstance(metadata.prepare, TablePrepare) else ()
    if columns or config.data.target == TABLE:
        schema = TableSchema(columns, None if config.data.relabel else metadata.classes, metadata.task.name)
    reader = DataReader(config.data, settings.targets.data, metadata.preprocessing, progress=progress)
    source = reader.source(schema)
    classes, samples = relabel(source, config.data.relabel)
    _check_classes(settings, source, classes)
    own = source.fingerprint == metadata.fingerprint and classes == metadata.classes
    if own:
        return EvaluationData(settings, own, samples, _training_splits(settings, source))
    if classes != metadata.classes and source.task == "multilabel":
        samples = reordered(source, samples, metadata.classes)
    elif classes != metadata.classes:
        order = {name: [name] for name in metadata.classes}
        _, samples = relabel(replace(source, classes=classes, splits=samples), order)
    splits = {name: Split(each, torch.arange(len(each))) for name, each in samples.items()}
    return EvaluationData(settings, own, samples, splits)


def _check_classes(settings: EvaluationSettings, source: Source, classes: tuple[str, ...]) -> None:
    """Check that the data has the targets that the model predicts."""
    metadata, answers = settings.checkpoint.metadata, {"multilabel": "labels", "regression": "numbers"}
    if answers.get(metadata.task.name) != answers.get(source.task):
        targets = answers.get(source.task, "classes")
        raise settings.refusal(f"its targets are {targets}, and the model's task is {metadata.task.name}")
    if isinstance(metadata.task, Regression) and source.targets != metadata.task.targets:
        names = [", ".join(each) or "one number" for each in (source.targets, metadata.task.targets)]
        raise settings.refusal(f"its targets are {names[0]}, and the model predicts {names[1]}")
    if differing := sorted(set(metadata.classes) ^ set(classes)):
        raise settings.refusal(f"its classes are not the model's: {first_few(differing, SHOWN)} differ")


def _training_splits(settings: EvaluationSettings, source: Source) -> dict[str, Split]:
    """Return the splits of the run's own data, divided as in training."""
    config = settings.config
    data = split(config.data, lambda: source, config.data_seed)
    if config.debug.batches:
        samples = config.debug.batches * config.batch_size
        data.truncate(samples, overfit=config.debug.overfit, seed=config.data_seed)
    if data.splits_digest != settings.checkpoint.metadata.splits:
        reason = "the samples are divided otherwise than in training: training samples must not be tested on"
        path = config.data.split_file
        raise UserError(Problem("data.split_file", reason, given=path) if path else Problem("data", reason))
    return data.splits
