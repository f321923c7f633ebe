"""Map-style data sets of the user's own, with items `(input, target)`."""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainer.data.item_targets import TASKS, read_targets
from trainer.data.labels import check_count
from trainer.data.samples import Samples
from trainer.data.source import Source
from trainer.data.streams import ALL, STREAMS, drawn_from, kept_streams, seed_streams
from trainer.errors import Problem, UserError, out_of_memory
from trainer.seeds import derive

CHUNK = 256  # items that are read at a time for their targets: noticing what they draw takes 0.1 ms

FEW = 8  # items that are read again

T = TypeVar("T")


class MapDataset(Samples):
    """A map-style data set with items `(input, target)`; all items are read once for their targets.

    A target is a class (int), a number (float), or a row: one-hot or probabilities of the classes, labels (0 and 1), or
    several numbers. `name` is the `_target_` of the data set, for messages; `task` is inferred if it is None.

    Items may draw from the global random streams. What an item draws is the same at every reading but those of `draw`;
    only these leave the streams changed.

    Attributes:
        task: `classification`, `multilabel` or `regression`.
        count: number of classes, labels or numbers.
        drawn: names of the streams from which items have drawn so far.

    Raises:
        UserError: an item cannot be read or is not `(input, target)`.
    """

    def __init__(self, dataset: Any, name: str, task: str | None = None) -> None:
        self.dataset, self.name = dataset, name
        self.drawn: set[str] = set()
        targets: list[Any] = []
        drawing: list[int] = []  # items among which those are that were the first to draw from a stream
        for start in range(0, len(dataset), CHUNK):
            chunk, before = range(len(dataset))[start : start + CHUNK], len(self.drawn)
            targets += self._read_alike(chunk, self._target)
            drawing += chunk if len(self.drawn) > before else ()
        read = read_targets(targets, task, lambda reason: self._error(reason, check="label range"))
        self.task, self.targets, self.probabilities, self.count = read.task, read.values, read.probabilities, read.count
        probes = range(min(FEW, len(dataset)))
        self.repeatable = all(np.array_equal(self.input(i), self.input(i), equal_nan=True) for i in probes)
        self.fixed = self.repeatable and not any(map(self._draws, drawing))
        self._check_targets({index: targets[index] for index in (*probes, *drawing[:FEW])})

    def _check_targets(self, targets: Mapping[int, Any]) -> None:
        """Check that the targets of these items do not change with what is drawn: an input would get another's."""
        with kept_streams():
            again = self._read(list(targets), itertools.count(1), self._target)
        for (index, target), other in zip(targets.items(), again, strict=True):
            if not np.array_equal(target, other, equal_nan=True):
                reason = f"the target of item {index} changes from one reading to the next, and targets are read once"
                raise self._error(reason, check="label range")

    def _read(self, indices: Sequence[int], seeds: Iterable[int], use: Callable[[int, Any], T]) -> list[T]:
        """Return `use(index, item)` of items, each read with the random streams seeded. Mutates the streams.

        Only streams from which items draw are seeded for each, because most data sets draw from none. If an item turns
        out to be the first to draw from a stream, all of `indices` are read again.
        """
        seeds = list(itertools.islice(seeds, len(indices)))
        while True:
            others = ALL - self.drawn
            seed_streams(0, others)
            results = []
            for index, seed in zip(indices, seeds, strict=True):
                if self.drawn:
                    seed_streams(seed, self.drawn)
                results.append(use(index, self.item(index)))
            more = drawn_from(others, 0)
            if not more:
                return results
            self.drawn |= more

    def _read_alike(self, indices: Sequence[int], use: Callable[[int, Any], T]) -> list[T]:
        """Return `use(index, item)` of items that draw the same numbers each time. Restores the streams."""
        with kept_streams():
            return self._read(indices, (derive(0, "item", index) for index in indices), use)

    def _draws(self, index: int) -> bool:
        """Return whether an item draws from a stream as it was seeded; some items seed it themselves."""
        with kept_streams():
            seeds = [derive(number, "probe") for number in range(2)]
            ends = []
            for seed in seeds:
                seed_streams(seed, self.drawn)
                self.item(index)
                ends.append({name: STREAMS[name].number() for name in self.drawn})
            seed_streams(seeds[0], self.drawn)
            return any(ends[0][name] not in (STREAMS[name].number(), ends[1][name]) for name in self.drawn)

    def _target(self, index: int, item: Any) -> int | float | bool | list[float]:
        if isinstance(item, Mapping):
            keys = ", ".join(map(str, item))
            reason = f"item {index} is not (input, target) but a {type(item).__name__} with {keys}"
            raise self._error(reason, check="label range")
        try:
            target = torch.as_tensor(item[1])
            return target.tolist() if target.ndim == 1 and len(target) > 1 else target.item()
        except (TypeError, ValueError, LookupError, RuntimeError) as error:
            reason = f"item {index} is not (input, target) with a class or a number: {error}"
            raise self._error(reason, check="label range") from error

    def _error(self, reason: str, *, check: str = "") -> UserError:
        return UserError(Problem("data._target_", reason, given=self.name, check=check))

    def item(self, index: int) -> Any:
        """Return the item of the data set.

        Raises:
            UserError: the user's code fails, in whatever way.
        """
        try:
            return self.dataset[index]
        except Exception as error:
            if out_of_memory(error):
                raise
            raise self._error(f"item {index} cannot be read ({type(error).__name__}: {error})") from error

    def input(self, index: int) -> Tensor:
        return self._read_alike([index], self._input)[0]

    def _input(self, index: int, item: Any) -> Tensor:
        try:
            return as_tensor(item[0])
        except ValueError as error:
            raise self._error(f"item {index}: {error}", check="shapes") from error

    def take(self, indices: Tensor) -> Tensor:
        return self._stack(self._read_alike(indices.tolist(), self._input))

    def draw(self, indices: Tensor, seed: int) -> Tensor:
        draw = random.Random(seed)
        return self._stack(self._read(indices.tolist(), (draw.getrandbits(63) for _ in indices), self._input))

    def _stack(self, inputs: Sequence[Tensor]) -> Tensor:
        shapes = {tuple(x.shape) for x in inputs}
        if len(shapes) > 1:
            raise self._error(f"inputs differ in shape: {sorted(shapes)[:3]}", check="shapes")
        return torch.stack(list(inputs))

    def fingerprint(self) -> bytes:
        sample = self.input(0).contiguous().view(-1).view(torch.uint8).numpy().data if self.repeatable else b""
        digest = blake2b(self.name.encode(), digest_size=16)
        digest.update(self.loss_targets.numpy().data)
        digest.update(sample)
        return digest.digest()


def as_tensor(value: Any) -> Tensor:
    """Return the input of an item: images as uint8 [channels, H, W], anything else as floats.

    Raises:
        ValueError: it has neither one dimension nor three.
    """
    if isinstance(value, Image.Image):
        value = np.array(value)
        value = value[None] if value.ndim == 2 else value.transpose(2, 0, 1)
    tensor = torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value)
    if tensor.ndim == 2 and tensor.dtype == torch.uint8:
        tensor = tensor[None]
    if tensor.dtype == torch.uint8 and tensor.ndim == 3:
        return tensor
    if tensor.ndim not in (1, 3):
        raise ValueError(f"an input of shape {list(tensor.shape)}; expected [features] or [channels, h, w]")
    return tensor.float()


def from_dataset(make: Callable[..., Any], name: str) -> Source:
    """Return the source of a user's data set.

    Args:
        make: creates the data set; called with `split="train"`, `"valid"` and `"test"` if it takes that argument, where
            it may return None, and once without arguments otherwise.
        name: the `_target_` of the data set, for messages.

    Raises:
        UserError: it is empty, its items are not `(input, target)`, or the inputs of its splits differ in shape.
    """
    names = ("train", "valid", "test") if "split" in inspect.signature(make).parameters else (None,)
    datasets = {split or "train": make(split=split) if split else make() for split in names}
    task = getattr(datasets["train"], "task", None)
    task = task if isinstance(task, str) and task in TASKS else None
    splits: dict[str, MapDataset] = {}
    for split, dataset in datasets.items():
        if dataset is None:
            continue
        if not hasattr(dataset, "__len__") or len(dataset) == 0:
            raise UserError(Problem("data._target_", f"the {split} split has no samples", given=name))
        splits[split] = MapDataset(dataset, name, splits["train"].task if "train" in splits else task)
    if "train" not in splits:
        raise UserError(Problem("data._target_", "there is no train split", given=name))
    shapes = {split: list(samples.input(0).shape) for split, samples in splits.items()}
    if others := [split for split, shape in shapes.items() if shape != shapes["train"]]:
        listed = ", ".join(f"{split} {shapes[split]}" for split in ("train", *others))
        raise UserError(Problem("data._target_", f"inputs differ in shape: {listed}", given=name, check="shapes"))
    return _with_names(splits, getattr(datasets["train"], "classes", None), name)


def _with_names(splits: dict[str, MapDataset], classes: Iterable[Any] | None, name: str) -> Source:
    """Return the source with the names of classes, labels or several numbers; by default they are numbered.

    Raises:
        UserError: the targets of the splits, or the names, are not as many.
    """
    train = splits["train"]
    counts = [samples.count for samples in splits.values()]
    names = None if classes is None else tuple(map(str, classes))
    for split, samples in splits.items():
        if samples.targets.shape[1:] != train.targets.shape[1:]:
            reason = f"targets of the {split} split have {samples.count} numbers, those of train {train.count}"
            raise UserError(Problem("data._target_", reason, given=name, check="label range"))
    if train.task == "regression":
        several = train.targets.ndim == 2
        names = names if names and len(names) == counts[0] else tuple(f"y{place}" for place in range(counts[0]))
        return Source(dict(splits), (), task="regression", targets=names if several else ())
    if names is None:
        check_count(max(counts))
        names = tuple(map(str, range(max(counts))))
    if train.task == "multilabel" and len(names) != counts[0]:
        reason = f"it names {len(names)} classes, and its targets have {counts[0]} labels"
        raise UserError(Problem("data._target_", reason, given=name, check="label range"))
    return Source(dict(splits), names, task=train.task)
