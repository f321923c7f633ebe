"""The metadata of a checkpoint: all that is needed besides the weights to use a trained model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.components.stored_task import expect, is_name, numbers, one_of, stored_scale, stored_task
from trainer.data.dataset import Data
from trainer.data.prepare import Prepare
from trainer.data.regression import Regression
from trainer.data.tables.prepare import KINDS, TablePrepare
from trainer.data.tasks import Task
from trainer.errors import Problem, UserError

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.float32, torch.float64)}
MAX_SIDE = 65_535  # pixels
MAX_NUMBERS = 2**28  # of one prepared sample: no image that is accepted comes near
MAX_CATEGORIES = 2**20  # of all columns


@dataclass(frozen=True)
class Preprocessing:
    """The size and normalisation of images that a model expects.

    Attributes:
        size: side of the square images, or (height, width), in pixels; None leaves it to the data.
        resize: the shorter side in pixels before the centre is cut out; None squashes images, or leaves them alone.
        mean, std: per channel, from 0 to 255; None leaves them to the data.
        published: whether the weights are torchvision's or timm's own.
    """

    size: int | tuple[int, int] | None = None
    resize: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    published: bool = False


@dataclass(frozen=True)
class CheckpointMetadata:
    """Configuration, task and preprocessing of a run, stored in each of its checkpoints.

    Attributes:
        config: text of the run's config.yaml; environment variables stand in it as `${...}`.
        task: the classes or labels, or the scale of a regression.
        prepare: from raw samples to model inputs.
        preprocessing: what the initial weights expect of images.
        fingerprint: fingerprint of the data.
        splits: digest of the samples in each split.
        num_outputs: outputs of the model for each sample.
        dtype: type of a raw sample.
        class_weights: weights [classes] of the loss, float64; None if all classes weigh the same.
    """

    config: str
    task: Task
    prepare: Prepare | TablePrepare
    preprocessing: Preprocessing
    fingerprint: str
    splits: str
    num_outputs: int
    dtype: torch.dtype
    class_weights: Tensor | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in label order; empty for a regression."""
        return self.task.classes

    @classmethod
    def of_run(
        cls, config: str, data: Data, preprocessing: Preprocessing, num_outputs: int, class_weights: Tensor | None
    ) -> CheckpointMetadata:
        """Return the metadata of a run on `data`."""
        train = data.splits["train"]
        dtype = train.samples.take(train.indices[:1]).dtype
        digests = (data.fingerprint, data.splits_digest)
        return cls(config, data.task, data.prepare, preprocessing, *digests, num_outputs, dtype, class_weights)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which `torch.load` reads with `weights_only=True`."""
        task = self.task
        return {
            "config": self.config,
            "task": task.name,
            "classes": list(task.classes),
            "target_scale": stored_scale(task) if isinstance(task, Regression) else None,
            "output": task.output,
            "prepare": self.prepare.to_dict(),
            "preprocessing": asdict(self.preprocessing),
            "fingerprint": self.fingerprint,
            "splits": self.splits,
            "num_outputs": self.num_outputs,
            "dtype": str(self.dtype).removeprefix("torch."),
            "class_weights": None if self.class_weights is None else self.class_weights.tolist(),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any], path: Path) -> CheckpointMetadata:
        """Return the metadata that `to_dict` described. Every value is checked, because the file is untrusted.

        Args:
            content: the metadata as loaded.
            path: the file, for messages.

        Raises:
            UserError: a value is missing or invalid.
        """
        try:
            expect(isinstance(content["config"], str), "config")
            expect(isinstance(content["fingerprint"], str), "fingerprint")
            expect(isinstance(content["splits"], str), "splits")
            task = stored_task(content)
            return cls(
                content["config"],
                task,
                _prepare(content["prepare"]),
                _preprocessing(content["preprocessing"]),
                content["fingerprint"],
                content["splits"],
                _num_outputs(content["num_outputs"], task),
                DTYPES[one_of(content["dtype"], tuple(DTYPES), "dtype")],
                _class_weights(content["class_weights"], task),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(Problem(str(path), f"not a complete checkpoint of this program: {reason}")) from error


def _prepare(stored: Any) -> Prepare | TablePrepare:
    expect(isinstance(stored, dict), "prepare")
    return _table_prepare(stored) if "columns" in stored else _image_prepare(stored)


def _table_prepare(stored: Any) -> TablePrepare:
    # Counted before they are copied: a list that the file holds once may stand for every column.
    columns = stored["columns"]
    expect(sum(len(c["categories"]) + len(c["seen"]) for c in columns) <= MAX_CATEGORIES, "columns")
    prepare = TablePrepare.from_dict(stored)
    expect(len(prepare.columns) > 0, "columns")
    for column in prepare.columns:
        texts, codes = column.categories, column.seen
        expect(is_name(column.name) and all(isinstance(text, str) for text in texts), "columns")
        one_of(column.kind, KINDS, "columns")
        expect(all(type(code) is int and 0 <= code < len(texts) for code in codes), "columns")
        numbers((column.fill, column.mean), "columns")
        numbers((column.std,), "columns", above=0)
    return prepare


def _image_prepare(stored: Any) -> Prepare:
    """Return how images, or rows of numbers without named columns, are prepared."""
    prepare = Prepare.from_dict(stored)
    sizes = (*prepare.shape, *(prepare.size or ()), prepare.channels or 1)
    expect(all(type(n) is int and n > 0 for n in sizes) and len(prepare.shape) in (1, 2, 3), "prepare.shape")
    expect(prepare.size is None or (len(prepare.size) == 2 and len(prepare.shape) == 3), "prepare.size")
    expect(max(math.prod(prepare.shape), math.prod(prepare.output_shape)) <= MAX_NUMBERS, "prepare.shape")
    expect(prepare.channels is None or prepare.shape[0] in (1, prepare.channels), "prepare.channels")
    channels = (1, prepare.shape[0], prepare.output_shape[0])
    expect(len(numbers(prepare.mean, "prepare.mean")) in channels, "prepare.mean")
    expect(len(numbers(prepare.std, "prepare.std", above=0)) in channels, "prepare.std")
    return prepare


def _preprocessing(stored: Any) -> Preprocessing:
    preprocessing = Preprocessing(**stored)
    sides = [*(preprocessing.size if isinstance(preprocessing.size, (list, tuple)) else [preprocessing.size])]
    expect(len(sides) in (1, 2) and isinstance(preprocessing.published, bool), "preprocessing")
    for side in (*sides, preprocessing.resize):
        expect(side is None or (type(side) is int and 0 < side <= MAX_SIDE), "preprocessing")
    for values in (preprocessing.mean, preprocessing.std):
        numbers(values or (), "preprocessing")
    return preprocessing


def _num_outputs(value: Any, task: Task) -> int:
    sizes = (
        {task.answers} if task.several or not task.classes else {len(task.classes), *([1] * (task.name == "binary"))}
    )
    expect(type(value) is int and value in sizes, "num_outputs")
    return value


def _class_weights(stored: Any, task: Task) -> Tensor | None:
    if stored is None:
        return None
    weights = numbers(stored, "class_weights", above=0)
    expect(len(weights) == len(task.classes), "class_weights")
    return torch.tensor(weights, dtype=torch.float64)
