"""What a data source gives: the samples of its parts, raw, and the names of the classes."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.split import relabelled
from trainer.data.tables.prepare import Column
from trainer.errors import UserError


class Samples(Dataset):
    """Raw samples of one part, in a fixed order.

    Attributes:
        targets: int64 [N], the class of each sample, or float64 [N] for a regression.
        probabilities: [N, C], where a sample belongs to several classes in part; `targets` has the likeliest.
        repeatable: whether a sample is the same each time it is read; if not, it is streamed, never kept.
    """

    targets: Tensor
    probabilities: Tensor | None = None
    repeatable = True

    @property
    def loss_targets(self) -> Tensor:
        """[N] or [N, C]: what the loss is given."""
        return self.targets if self.probabilities is None else self.probabilities

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> Tensor:
        """Raw inputs [len(indices), ...] of these samples, decoded by as many threads as there are cores."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return torch.stack(list(pool.map(self.input, indices.tolist())))

    def input(self, index: int) -> Tensor:
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A whole batch for a DataLoader: inputs [B, ...], targets [B]."""
        return torch.stack([self.input(i) for i in indices]), self.loss_targets[list(indices)]

    def fingerprint(self) -> bytes:
        """Digest that changes when the samples change."""
        raise NotImplementedError


class Arrays(Samples):
    """Samples in memory: inputs [N, ...] (images: uint8 [N, C, H, W]; tables: float64 [N, K]) and targets [N]."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets if targets.is_floating_point() else targets.long()

    def take(self, indices: Tensor) -> Tensor:
        return self.inputs[indices]

    def input(self, index: int) -> Tensor:
        return self.inputs[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(indices)
        return self.inputs[chosen], self.targets[chosen]

    def fingerprint(self) -> bytes:
        digest = blake2b(str((tuple(self.inputs.shape), self.inputs.dtype)).encode(), digest_size=16)
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.digest()


class MapDataset(Samples):
    """A map-style data set of somebody else's, with items `(input, target)`; read once for its targets.

    A target is a class (int), a number (float), or one number for each class: one-hot or probabilities.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset, self.name = dataset, name
        targets: list[Any] = []
        for index in range(len(dataset)):
            item = self.item(index)
            if isinstance(item, Mapping):
                raise UserError(
                    f"data._target_={name}: item {index} is no (input, target) but a {type(item).__name__} with "
                    f"{', '.join(map(str, item))}."
                )
            try:
                target = torch.as_tensor(item[1])
                targets.append(target.tolist() if target.ndim == 1 and len(target) > 1 else target.item())
            except (TypeError, ValueError, LookupError, RuntimeError) as error:
                raise UserError(
                    f"data._target_={name}: item {index} is no (input, target) with a class or a number: {error}."
                ) from error
        kinds = {type(target) for target in targets}
        if kinds not in ({int}, {float}, {bool}, {list}):
            words = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise UserError(
                f"data._target_={name}: targets are {words}; expected all int (classes), all float, or all one number "
                "for each class."
            )
        if kinds == {list}:
            self.targets, self.probabilities = _distributions(targets, f"data._target_={name}")
            self.num_classes = len(targets[0])
        else:
            self.targets = torch.tensor(targets, dtype=torch.float64 if kinds == {float} else torch.int64)
            self.num_classes = int(self.targets.max()) + 1
        probes = range(min(3, len(dataset)))
        self.repeatable = all(np.array_equal(self.input(i), self.input(i), equal_nan=True) for i in probes)

    def item(self, index: int) -> Any:
        """What the data set has there.

        Raises:
            UserError: its code fails, in whatever way.
        """
        try:
            return self.dataset[index]
        except Exception as error:
            raise UserError(
                f"data._target_={self.name}: item {index} cannot be read ({type(error).__name__}: {error})."
            ) from error

    def input(self, index: int) -> Tensor:
        return as_tensor(self.item(index)[0], f"data._target_={self.name}: item {index}")

    def take(self, indices: Tensor) -> Tensor:
        inputs = [self.input(i) for i in indices.tolist()]  # a stranger's code is not called from several threads
        shapes = {tuple(x.shape) for x in inputs}
        if len(shapes) > 1:
            raise UserError(f"data._target_={self.name}: inputs differ in shape: {sorted(shapes)[:3]}.")
        return torch.stack(inputs)

    def fingerprint(self) -> bytes:
        sample = self.input(0).contiguous().view(-1).view(torch.uint8).numpy().data if self.repeatable else b""
        digest = blake2b(self.name.encode(), digest_size=16)
        digest.update(self.loss_targets.numpy().data)
        digest.update(sample)
        return digest.digest()


def _distributions(rows: list[list[float]], where: str) -> tuple[Tensor, Tensor | None]:
    """The likeliest class of each sample [N] and the probabilities [N, C]; None for these where all are one-hot.

    Raises:
        UserError: rows of different length, or one that is no distribution.
    """
    lengths = sorted(set(map(len, rows)))
    if len(lengths) > 1:
        raise UserError(f"{where}: targets have {lengths[0]} to {lengths[-1]} numbers; expected one for each class.")
    table_NC = torch.tensor(rows, dtype=torch.float64)
    wrong_N = (table_NC < 0).any(1) | ((table_NC.sum(1) - 1).abs() > 1e-3) | table_NC.isnan().any(1)
    if wrong_N.any():
        first = int(wrong_N.nonzero()[0])
        raise UserError(f"{where}: the target of item {first} is {rows[first]}; expected probabilities that sum to 1.")
    one_hot = bool(((table_NC == 0) | (table_NC == 1)).all())
    return table_NC.argmax(1), None if one_hot else table_NC.float()


def as_tensor(value: Any, where: str) -> Tensor:
    """An item's input as a tensor: images uint8 [C, H, W], anything else as floats."""
    if isinstance(value, Image.Image):
        value = np.array(value)
        value = value[None] if value.ndim == 2 else value.transpose(2, 0, 1)
    tensor = torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value)
    if tensor.ndim == 2 and tensor.dtype == torch.uint8:
        tensor = tensor[None]
    if tensor.dtype == torch.uint8 and tensor.ndim == 3:
        return tensor
    if tensor.ndim not in (1, 3):
        raise UserError(f"{where}: an input of shape {list(tensor.shape)}; expected [features] or [channels, h, w].")
    return tensor.float()


@dataclass
class Source:
    """Parts by name (`train`, and where they exist `valid` and `test`) and the classes' names in label order."""

    parts: dict[str, Samples]
    classes: tuple[str, ...]
    task: str = "classification"  # or "regression"
    columns: tuple[Column, ...] = ()  # of a table
    missing: str | None = None  # how a table's missing values are filled: mean, median
    notes: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)  # path, class and reason of files that are left out

    @cached_property
    def fingerprint(self) -> str:
        """Changes when samples, labels or their order do; taken once, as it reads every byte of arrays."""
        digest = blake2b(digest_size=16)
        for name, samples in self.parts.items():
            digest.update(name.encode() + samples.fingerprint())
        return digest.hexdigest()


def labelled(source: Source, relabel: dict[str, Any] | None) -> tuple[tuple[str, ...], dict[str, Samples]]:
    """The classes and the parts of a source, with new classes for old ones where `relabel` says so.

    Raises:
        UserError: labels that are no classes, or classes that cannot be grouped like this.
    """
    classes, parts = source.classes, source.parts
    if source.task == "regression":
        if relabel:
            raise UserError("data.relabel: the data has no classes to give other names to.")
        return classes, parts
    _check_labels(classes, parts)
    if not relabel:
        return classes, parts
    classes, labels = relabelled(classes, relabel)
    parts = {name: copy.copy(samples) for name, samples in parts.items()}  # the source may be used by others
    for samples in parts.values():
        samples.targets = labels[samples.targets]
        if samples.probabilities is not None:
            empty_NC = torch.zeros(len(samples), len(classes))
            samples.probabilities = empty_NC.index_add_(1, labels, samples.probabilities)
    return classes, parts


def _check_labels(classes: tuple[str, ...], parts: dict[str, Samples]) -> None:
    for name, samples in parts.items():
        low, high = int(samples.targets.min()), int(samples.targets.max())
        if low < 0 or high >= len(classes):
            wrong = low if low < 0 else high
            raise UserError(f"data: a label of the {name} part is {wrong}; expected 0 to {len(classes) - 1}.")
    if len(classes) < 2:
        raise UserError(f"data: {len(classes)} class; expected two or more.")


def from_dataset(make: Callable[..., Any], name: str) -> Source:
    """A source from a user's Dataset: called once per `split` if it takes that argument, and once otherwise.

    Raises:
        UserError: where it is empty, its items are no `(input, target)`, or its parts' inputs differ in shape.
    """
    splits = ("train", "valid", "test") if "split" in inspect.signature(make).parameters else (None,)
    datasets = {split or "train": make(split=split) if split else make() for split in splits}
    parts: dict[str, MapDataset] = {}
    for split, dataset in datasets.items():
        if dataset is None:
            continue
        if not hasattr(dataset, "__len__") or len(dataset) == 0:
            raise UserError(f"data._target_={name}: the {split} part has no samples.")
        parts[split] = MapDataset(dataset, name)
    if "train" not in parts:
        raise UserError(f"data._target_={name}: there is no train part.")
    shapes = {split: list(part.input(0).shape) for split, part in parts.items()}
    if odd := [split for split, shape in shapes.items() if shape != shapes["train"]]:
        told = ", ".join(f"{split} {shapes[split]}" for split in ("train", *odd))
        raise UserError(f"data._target_={name}: inputs differ in shape: {told}.")
    if parts["train"].targets.is_floating_point():
        return Source(dict(parts), (), task="regression")
    classes = getattr(datasets["train"], "classes", None)
    if classes is None:
        classes = range(max(part.num_classes for part in parts.values()))
    return Source(dict(parts), tuple(map(str, classes)))
