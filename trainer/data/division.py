"""Division of a source's samples between train, valid and test: as it says itself, by group, in order or at random.

Shape letter: N training samples of a source.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

import torch
from torch import Tensor

from trainer.data.source import Division, SplitKey
from trainer.data.split import SPLITS, by_group, fold_of_each, fold_of_each_group, last, stratified
from trainer.errors import Problem, UserError, first_few
from trainer.seeds import derive


@dataclass(frozen=True)
class Splitting:
    """The settings of the division of samples.

    Attributes:
        valid_fraction: share of the samples that is held out if there is no validation split.
        test_fraction: the same for the test split.
        seed: of the choice of these samples.
        folds: number of folds for cross-validation, and the fold that validates.
    """

    valid_fraction: float
    test_fraction: float
    seed: int
    folds: tuple[int, int] | None = None


def divide(
    targets: Tensor, own: Collection[str], splitting: Splitting, division: Division
) -> tuple[dict[str, Tensor], list[str]]:
    """Return ascending indices of the samples of each split, and sentences for the header.

    Args:
        targets: classes int64 [N] or numbers float64 [N] of the training samples.
        own: splits that the source has besides `train`, which are not divided off.
        splitting: settings.
        division: keys of the training samples.

    Raises:
        UserError: too few samples or groups, or keys that contradict each other.
    """
    _check(division, splitting)
    parts, notes = _assigned(targets, division)
    if splitting.folds is not None and ("valid" in own or "valid" in parts):
        reason = "the data has a validation split of its own; leave data.folds out"
        raise UserError(Problem("data.folds", reason))
    for name, fraction in (("test", splitting.test_fraction), ("valid", splitting.valid_fraction)):
        if name in own or name in parts:
            continue
        pool = parts["train"]
        if name == "valid" and splitting.folds is not None:
            folds, fold = splitting.folds
            out = _folds(targets[pool], pool, splitting, division.group) == fold
            parts["train"], parts[name] = pool[~out], pool[out]
            notes.append(f"fold {fold} of {folds} is the validation split")
            continue
        seed = derive(splitting.seed, "split", name)
        kept, held_out = _hold_out(targets[pool], pool, (fraction, seed, f"data.{name}_fraction"), division)
        parts["train"], parts[name] = pool[kept], pool[held_out]
        if name == "test":
            notes.append(f"no test split: {fraction:.0%} of the samples held out for it")
    _check_groups(parts, division)
    return parts, notes + _describe(parts, division)


def _check(division: Division, splitting: Splitting) -> None:
    if division.order is not None and division.group is not None:
        reason = "samples cannot be divided in order and by group at once"
        raise UserError(Problem("data.order", reason, given=division.order.name, advice="Leave data.group out."))
    if division.order is not None and splitting.folds is not None:
        reason = "folds validate on samples from before the training samples"
        raise UserError(Problem("data.folds", reason, advice="Leave it out, or data.order."))


def _assigned(targets: Tensor, division: Division) -> tuple[dict[str, Tensor], list[str]]:
    """Return the indices of the splits that the source assigns, or all as `train`."""
    if division.split is None:
        return {"train": torch.arange(len(targets))}, []
    codes, name = division.split.values, division.split.name
    parts = {split: (codes == code).nonzero().flatten() for code, split in enumerate(SPLITS)}
    parts = {split: indices for split, indices in parts.items() if len(indices)}
    if "train" not in parts:
        raise UserError(Problem("data", f"{name} assigns no sample to train", check="splits"))
    left_out = int((codes < 0).sum())
    notes = [f"{left_out:,} samples are left out: {name} says no split for them"] if left_out else []
    return parts, [f"divided by {name}", *notes]


def _folds(targets: Tensor, pool: Tensor, splitting: Splitting, group: SplitKey | None) -> Tensor:
    assert splitting.folds is not None
    seed = derive(splitting.seed, "folds")
    if group is not None:
        return fold_of_each_group(group.values[pool], targets, splitting.folds[0], seed)
    return fold_of_each(targets, splitting.folds[0], seed)


def _hold_out(targets: Tensor, pool: Tensor, how: tuple[float, int, str], division: Division) -> tuple[Tensor, Tensor]:
    """Return positions in `pool` of the samples kept and of those held out; `how` is fraction, seed and key."""
    fraction, seed, key = how
    if division.order is not None:
        return last(division.order.values[pool], fraction, key)
    if division.group is not None:
        return by_group(division.group.values[pool], targets, fraction, seed, key)
    return stratified(targets, fraction, seed, key)


def _check_groups(parts: dict[str, Tensor], division: Division) -> None:
    """Check that the splits which the source assigns divide no group."""
    group = division.group
    if group is None or division.split is None:
        return
    places = torch.zeros(len(SPLITS), int(group.values.max()) + 1, dtype=torch.bool)
    for name, indices in parts.items():
        places[SPLITS.index(name), group.values[indices]] = True
    divided = (places.sum(0) > 1).nonzero().flatten().tolist()
    if divided:
        names = first_few(group.texts[code] if group.texts else str(code) for code in divided)
        reason = f"{division.split.name} divides {len(divided):,} of its groups between splits: {names}"
        raise UserError(Problem("data.group", reason, given=group.name))


def _describe(parts: dict[str, Tensor], division: Division) -> list[str]:
    """Return sentences on the groups of each split, or the values at which it begins and ends."""
    if division.group is not None:
        values = division.group.values
        counts = ", ".join(f"{len(values[parts[name]].unique()):,} {name}" for name in SPLITS if name in parts)
        return [f"no {division.group.name} is in two splits: {counts}"]
    if division.order is not None:
        values, show = division.order.values, _shown_date if division.order.dates else "{:g}".format
        ends = [
            f"{name} {show(float(values[parts[name]].min()))} to {show(float(values[parts[name]].max()))}"
            for name in SPLITS
            if name in parts
        ]
        return [f"in order of {division.order.name}: {', '.join(ends)}"]
    return []


def _shown_date(days: float) -> str:
    return str(date(1970, 1, 1) + timedelta(days=int(days // 1)))
