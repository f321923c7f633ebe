"""Map-style data sets of the user's own, with items `(input, target)`. Shape letters: N samples, C classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainer.data.samples import Samples
from trainer.data.source import Source
from trainer.errors import Problem, UserError


class MapDataset(Samples):
    """A map-style data set with items `(input, target)`; all items are read once for their targets.

    A target is a class (int), a number (float), or one number for each class: one-hot or probabilities. `name` is the
    `_target_` of the data set, for messages.

    Raises:
        UserError: an item cannot be read or is not `(input, target)`.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name = dataset, name
        targets: list[Any] = [self._target(index) for index in range(len(dataset))]
        kinds = {type(target) for target in targets}
        if kinds not in ({int}, {float}, {bool}, {list}):
            words = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise self._error(
                f"targets are {words}; expected all int (classes), all float, or all one number for each class",
                check="label range",
            )
        if kinds == {list}:
            self.targets, self.probabilities = self._distributions(targets)
            self.num_classes = len(targets[0])
        else:
            self.targets = torch.tensor(targets, dtype=torch.float64 if kinds == {float} else torch.int64)
            self.num_classes = int(self.targets.max()) + 1
        probes = range(min(3, len(dataset)))
        self.repeatable = all(np.array_equal(self.input(i), self.input(i), equal_nan=True) for i in probes)

    def _target(self, index: int) -> int | float | bool | list[float]:
        item = self.item(index)
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

    def _distributions(self, rows: list[list[float]]) -> tuple[Tensor, Tensor | None]:
        """Return the most probable class of each sample [N], and probabilities [N, C] or None if all are one-hot."""
        lengths = sorted(set(map(len, rows)))
        if len(lengths) > 1:
            reason = f"targets have {lengths[0]} to {lengths[-1]} numbers; expected one for each class"
            raise self._error(reason, check="label range")
        table_NC = torch.tensor(rows, dtype=torch.float64)
        wrong_N = (table_NC < 0).any(1) | ((table_NC.sum(1) - 1).abs() > 1e-3) | table_NC.isnan().any(1)
        if wrong_N.any():
            first = int(wrong_N.nonzero()[0])
            reason = f"the target of item {first} is {rows[first]}; expected probabilities that sum to 1"
            raise self._error(reason, check="label range")
        one_hot = bool(((table_NC == 0) | (table_NC == 1)).all())
        return table_NC.argmax(1), None if one_hot else table_NC.float()

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
            raise self._error(f"item {index} cannot be read ({type(error).__name__}: {error})") from error

    def input(self, index: int) -> Tensor:
        value = self.item(index)[0]
        try:
            return as_tensor(value)
        except ValueError as error:
            raise self._error(f"item {index}: {error}", check="shapes") from error

    def take(self, indices: Tensor) -> Tensor:
        inputs = [self.input(i) for i in indices.tolist()]  # one thread: the user's code may not be thread-safe
        shapes = {tuple(x.shape) for x in inputs}
        if len(shapes) > 1:
            raise self._error(f"inputs differ in shape: {sorted(shapes)[:3]}", check="shapes")
        return torch.stack(inputs)

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
    splits: dict[str, MapDataset] = {}
    for split, dataset in datasets.items():
        if dataset is None:
            continue
        if not hasattr(dataset, "__len__") or len(dataset) == 0:
            raise UserError(Problem("data._target_", f"the {split} split has no samples", given=name))
        splits[split] = MapDataset(dataset, name)
    if "train" not in splits:
        raise UserError(Problem("data._target_", "there is no train split", given=name))
    shapes = {split: list(samples.input(0).shape) for split, samples in splits.items()}
    if others := [split for split, shape in shapes.items() if shape != shapes["train"]]:
        listed = ", ".join(f"{split} {shapes[split]}" for split in ("train", *others))
        raise UserError(Problem("data._target_", f"inputs differ in shape: {listed}", given=name, check="shapes"))
    if splits["train"].targets.is_floating_point():
        return Source(dict(splits), (), task="regression")
    classes = getattr(datasets["train"], "classes", None)
    if classes is None:
        classes = range(max(samples.num_classes for samples in splits.values()))
    return Source(dict(splits), tuple(map(str, classes)))
