"""Which arrays of a file are inputs and targets, and of which split, from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainer.data.arrays.containers import arrays_in
from trainer.data.arrays.inputs import Pair
from trainer.data.arrays.stored import NamedArray, shape_of
from trainer.data.split import SPLIT_NAMES, SPLITS
from trainer.errors import Problem, UserError, first_few, suggestions

INPUTS = ("x", "data", "images", "image", "inputs", "input", "features", "samples", "arr_0")
TARGETS = ("y", "target", "targets", "labels", "label", "classes", "arr_1")
_SPLITS = "|".join(sorted(SPLIT_NAMES, key=len, reverse=True))
SPLIT = re.compile(rf"(?:({_SPLITS})[_.\-/ ]*(.+)|(.+?)[_.\-/ ]*({_SPLITS}))", re.IGNORECASE)


def parts_of(name: str) -> tuple[str, str | None]:
    """Return what a name says besides its split, and the split: `x_train` gives `x` and `train`."""
    match = SPLIT.fullmatch(name)
    if match is None:
        return name, None
    before, rest, other, after = match.groups()
    return rest or other, SPLIT_NAMES[(before or after).lower()]


def pairs(arrays: Mapping[str, NamedArray], where: str, x: str | None, y: str | None) -> dict[str, Pair]:
    """Return inputs and targets of each split, in the order train, valid, test.

    Args:
        arrays: by name.
        where: the file, for messages.
        x: name of the inputs, with or without that of the split; default: one of `INPUTS`.
        y: name of the targets; default: one of `TARGETS`.

    Raises:
        UserError: they are missing or ambiguous, a split has only one of them, or they differ in length.
    """
    inputs = _chosen("x", x, INPUTS, arrays, where)
    targets = _chosen("y", y, TARGETS, arrays, where)
    if alone := sorted(set(inputs) ^ set(targets)):
        key, missing = ("x", "inputs") if alone[0] not in inputs else ("y", "targets")
        reason = f"there are no {missing} of the {alone[0]} split; {_contents(arrays)}"
        raise UserError(Problem(f"data.{key}", reason, source=where))
    if "train" not in inputs:
        raise UserError(Problem("data.path", f"there is no train split; {_contents(arrays)}", given=where))
    chosen = {split: Pair(inputs[split], targets[split]) for split in SPLITS if split in inputs}
    check_pairs(chosen, where)
    return chosen


def inputs_in(path: str) -> NamedArray:
    """Return the inputs in a file: the only array, or the one that is called like inputs of a test or of any split.

    Raises:
        UserError: the file cannot be read, or no array is called so.
    """
    arrays = arrays_in(path)
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    splits = _chosen("x", None, INPUTS, arrays, path)
    return splits.get("test", next(iter(splits.values())))


def check_pairs(chosen: Mapping[str, Pair], where: str = "") -> None:
    """Check that there is a target for each sample, and that the samples of all splits have one shape.

    Raises:
        UserError: they do not fit.
    """
    for split, pair in chosen.items():
        if len(pair.inputs) != len(pair.targets) or 0 in (*pair.inputs.shape, *pair.targets.shape):
            shapes = f"{pair.inputs.name} is {shape_of(pair.inputs)} and {pair.targets.name} {shape_of(pair.targets)}"
            reason = f"{shapes}; expected as many targets as samples, and one or more of each"
            raise UserError(Problem("data.y", reason, source=where, check="shapes"))
        if pair.inputs.shape[1:] != chosen["train"].inputs.shape[1:]:
            reason = f"samples of the {split} split are {list(pair.inputs.shape[1:])}"
            shapes = f"{reason} and of the train split {list(chosen['train'].inputs.shape[1:])}"
            raise UserError(Problem("data.x", shapes, source=where, check="shapes"))


def _chosen(
    key: str, typed: str | None, usual: tuple[str, ...], arrays: Mapping[str, NamedArray], where: str
) -> dict[str, NamedArray]:
    """Return the arrays of this role by split."""
    stems = {name: parts_of(name) for name in arrays}
    accepted = usual if typed is None else (typed,) if typed in {stem for stem, _ in stems.values()} else ()
    names = [
        name for name, (stem, _) in stems.items() if stem in accepted or (typed is None and stem.lower() in accepted)
    ]
    if not names and typed is not None and typed in arrays:
        return {"train": arrays[typed]}
    if not names and typed is not None:
        advice = suggestions(typed, list(arrays), most=20)
        raise UserError(Problem(f"data.{key}", f"{where} has no such array", given=typed, advice=advice))
    if not names:
        reason = f"no array is called like {'inputs' if key == 'x' else 'targets'} ({', '.join(usual)})"
        reason = f"{reason}; {_contents(arrays)}"
        raise UserError(Problem("data.path", reason, given=where, advice="Name it", command=f"data.{key}=NAME"))
    splits: dict[str, NamedArray] = {}
    for name in names:
        split = stems[name][1] or "train"
        if split in splits:
            reason = f"both {splits[split].name} and {name} could be meant"
            raise UserError(Problem("data.path", reason, given=where, advice="Choose", command=f"data.{key}={name}"))
        splits[split] = arrays[name]
    return splits


def _contents(arrays: Mapping[str, NamedArray]) -> str:
    shown = [f"{name} ({shape_of(array)})" for name, array in arrays.items()]
    return f"the file has {first_few(shown, 12)}"
