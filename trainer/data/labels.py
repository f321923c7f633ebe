"""Class labels: checks, and merging into new classes by `data.relabel`. Shape letters: N samples, C classes."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.data.samples import Samples
from trainer.data.source import Source
from trainer.errors import Problem, UserError, check_names

MAX_CLASSES = 10_000  # a confusion matrix of 800 MB


def relabel(source: Source, groups: Mapping[str, object] | None) -> tuple[tuple[str, ...], dict[str, Samples]]:
    """Return classes and splits of a source, which is not changed, merged by `data.relabel`; see `merge_classes`.

    Raises:
        UserError: labels out of range, or classes that cannot be merged like this.
    """
    classes, splits = source.classes, source.splits
    if source.task == "regression":
        if groups:
            raise UserError(Problem("data.relabel", "the task is a regression; there are no classes to merge"))
        return classes, splits
    check_count(len(classes))
    check_names("data", "label" if source.task == "multilabel" else "class", classes, check="label range")
    if source.task == "multilabel":
        if groups:
            reason = "the task is multilabel; merging needs one class for each sample"
            raise UserError(Problem("data.relabel", reason))
        _check_indicators(splits)
        return classes, splits
    _check_labels(classes, splits)
    if not groups:
        return classes, splits
    check_names("data.relabel", "class", map(str, groups))
    classes, labels = merge_classes(classes, groups)
    splits = {name: copy.copy(samples) for name, samples in splits.items()}
    for samples in splits.values():
        samples.targets = labels[samples.targets]
        if samples.probabilities is not None:
            zeros_NC = torch.zeros(len(samples), len(classes))
            samples.probabilities = zeros_NC.index_add_(1, labels, samples.probabilities)
    return classes, splits


def check_count(num_classes: int) -> None:
    """Refuse more classes than a confusion matrix has room for.

    Raises:
        UserError: there are more than `MAX_CLASSES`.
    """
    if num_classes > MAX_CLASSES:
        reason = f"the labels go up to {num_classes - 1:,}; expected classes counted from 0, {MAX_CLASSES:,} at most"
        advice = "Numbers to predict are floats, not integers."
        raise UserError(Problem("data", reason, advice=advice, check="label range"))


def reordered(source: Source, splits: Mapping[str, Samples], classes: tuple[str, ...]) -> dict[str, Samples]:
    """Return copies of the splits of a multi-label source with the labels in another order."""
    order = [source.classes.index(name) for name in classes]
    copies = {name: copy.copy(samples) for name, samples in splits.items()}
    for samples in copies.values():
        samples.targets = samples.targets[:, order]
    return copies


def _check_indicators(splits: Mapping[str, Samples]) -> None:
    """Check that labels are 0 or 1."""
    for name, samples in splits.items():
        wrong = samples.targets[(samples.targets != 0) & (samples.targets != 1)]
        if len(wrong):
            reason = f"a label of the {name} split is {wrong[0].item():g}; expected 0 or 1 for each label"
            raise UserError(Problem("data", reason, check="label range"))


def _check_labels(classes: tuple[str, ...], splits: dict[str, Samples]) -> None:
    for name, samples in splits.items():
        lowest, highest = int(samples.targets.min()), int(samples.targets.max())
        if lowest < 0 or highest >= len(classes):
            label = lowest if lowest < 0 else highest
            reason = f"a label of the {name} split is {label}; expected 0 to {len(classes) - 1}"
            raise UserError(Problem("data", reason, check="label range"))
    if len(classes) < 2:
        raise UserError(Problem("data", f"{len(classes)} class; expected two or more", check="label range"))


def merge_classes(classes: tuple[str, ...], groups: Mapping[str, object]) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the new classes and, for each old class [C], its new label.

    `groups` is {new name: [old names] or "rest"}.

    Raises:
        UserError: an unknown class, one in two groups, or one in none.
    """
    labels = torch.full((len(classes),), -1)
    rest = None
    for label, (name, members) in enumerate(groups.items()):
        if members == "rest":
            rest = label
            continue
        for member in members if isinstance(members, list) else [members]:
            if str(member) not in classes:
                raise _problem(f"{name} names class {member}; the classes are {', '.join(classes[:20])}")
            old = classes.index(str(member))
            if labels[old] >= 0:
                raise _problem(f"class {member} is in two groups")
            labels[old] = label
    if rest is not None:
        labels[labels < 0] = rest
    if (labels < 0).any():
        remaining = [name for name, label in zip(classes, labels.tolist(), strict=True) if label < 0]
        raise _problem(
            f"{', '.join(remaining)} are in no group", "`rest` as the value of a group takes all other classes."
        )
    if len(set(labels.tolist())) < 2:
        raise _problem("expected two groups or more, each with a class")
    return tuple(map(str, groups)), labels


def _problem(reason: str, advice: str = "") -> UserError:
    return UserError(Problem("data.relabel", reason, advice=advice))
