"""Divide samples between splits: by class, by group or in order, seeded, without overlap.

Shape letters: N samples, G groups, C classes, F folds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainer.errors import Problem, UserError

SPLITS = ("train", "valid", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
ORDERS = 64  # random orders of the groups that are tried for one that divides sizes and classes well


def _classes(targets: Tensor) -> Tensor:
    """Return the classes int64 [N] to stratify by; all 0 for numbers, and for rows of labels or numbers."""
    has_classes = targets.ndim == 1 and not targets.is_floating_point()
    return targets if has_classes else torch.zeros(len(targets), dtype=torch.int64)


def stratified(targets: Tensor, fraction: float, seed: int, key: str = "fraction") -> tuple[Tensor, Tensor]:
    """Return ascending indices of the samples kept and of those held out at random, `fraction` of each class.

    round(N * fraction) samples are held out, divided between the classes by largest remainder; every class keeps at
    least one sample.

    Args:
        targets: classes int64 [N]; numbers (float64) and rows of labels or numbers [N, K] are not stratified.
        key: the configuration key of `fraction`, for messages.

    Raises:
        UserError: no sample would be held out.
    """
    generator = torch.Generator().manual_seed(seed)
    targets = _classes(targets)
    counts = torch.bincount(targets)
    exact = counts.double() * fraction
    held = exact.floor().long()
    missing = round(len(targets) * fraction) - int(held.sum())
    for label in (exact - held).argsort(descending=True, stable=True)[: max(missing, 0)].tolist():
        held[label] += 1
    held = torch.minimum(held, (counts - 1).clamp(min=0))
    out = torch.cat(
        [
            members[torch.randperm(len(members), generator=generator)[: int(n)]]
            for label, n in enumerate(held)
            if len(members := (targets == label).nonzero().flatten())
        ]
    )
    if len(out) == 0:
        raise UserError(Problem(key, f"of {len(targets)} samples none would be held out", given=f"{fraction:g}"))
    mask = torch.ones(len(targets), dtype=torch.bool)
    mask[out] = False
    return mask.nonzero().flatten(), out.sort().values


def fold_of_each(targets: Tensor, folds: int, seed: int) -> Tensor:
    """Return the fold, int64 [N] from 0 to folds - 1, of each sample.

    The sizes of the folds differ by at most one, overall and within every class.

    Raises:
        UserError: more folds than samples.
    """
    if folds > len(targets):
        raise UserError(Problem("data.folds", f"there are only {len(targets)} samples to divide", given=str(folds)))
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[_classes(targets)[shuffled].argsort(stable=True)]
    fold_N = torch.empty(len(targets), dtype=torch.int64)
    fold_N[by_class] = torch.arange(len(targets)) % folds  # counts on from one class to the next: overall sizes agree
    return fold_N


def by_group(groups: Tensor, targets: Tensor, fraction: float, seed: int, key: str) -> tuple[Tensor, Tensor]:
    """Return ascending indices of the samples kept and of those held out, whole groups at random.

    Of 64 random orders of the groups, the one whose first groups come nearest to `fraction` of all samples and of each
    class is used.

    Args:
        groups: codes int64 [N].
        targets: classes int64 [N], or float64 [N] of a regression, of which only the number of samples counts.
        fraction: share of the samples to hold out.
        seed: of the random orders.
        key: the configuration key of `fraction`, for messages.

    Raises:
        UserError: there is one group.
    """
    generator = torch.Generator().manual_seed(seed)
    labels, groups = _classes(targets), groups.unique(return_inverse=True)[1]
    sizes_G, totals_C = torch.bincount(groups), torch.bincount(labels)
    if len(sizes_G) < 2:
        reason = "none can be held out: the samples that are left are of a single group"
        raise UserError(Problem(key, reason, given=f"{fraction:g}"))
    best, smallest = torch.zeros(0, dtype=torch.bool), float("inf")
    for _ in range(ORDERS):
        order = torch.randperm(len(sizes_G), generator=generator)
        held = sizes_G[order].cumsum(0)[:-1]
        mask_G = torch.zeros(len(sizes_G), dtype=torch.bool)
        mask_G[order[: int((held - fraction * len(groups)).abs().argmin()) + 1]] = True
        mask_N = mask_G[groups]
        held_C = torch.bincount(labels[mask_N], minlength=len(totals_C))
        distance = float((held_C - fraction * totals_C).abs().sum() + abs(int(mask_N.sum()) - fraction * len(groups)))
        unlearned = int(((held_C == totals_C) & (totals_C > 0)).sum())  # classes without a sample to train on
        if (distance := distance + unlearned * len(groups)) < smallest:
            best, smallest = mask_N, distance
    return (~best).nonzero().flatten(), best.nonzero().flatten()


def fold_of_each_group(groups: Tensor, targets: Tensor, folds: int, seed: int) -> Tensor:
    """Return the fold, int64 [N] from 0 to folds - 1, of each sample; the samples of a group are in one fold.

    Groups are placed one by one, the largest first, each where the sum of the squared shares of its classes grows least
    (as in scikit-learn's StratifiedGroupKFold, which compares deviations).

    Args:
        groups: codes int64 [N].
        targets: classes int64 [N], or float64 [N] of a regression.
        folds: their number.
        seed: of the order of groups of equal size.

    Raises:
        UserError: more folds than groups.
    """
    generator = torch.Generator().manual_seed(seed)
    labels, groups = _classes(targets), groups.unique(return_inverse=True)[1]
    sizes_G = torch.bincount(groups)
    if folds > len(sizes_G):
        reason = f"there are only {len(sizes_G)} groups to divide"
        raise UserError(Problem("data.folds", reason, given=str(folds)))
    shuffled = torch.randperm(len(sizes_G), generator=generator)
    by_size = shuffled[sizes_G[shuffled].argsort(descending=True, stable=True)]
    members = np.split(groups.argsort(stable=True).numpy(), sizes_G.cumsum(0)[:-1].numpy())
    classes_N, counts_C = labels.numpy(), torch.bincount(labels).clamp(min=1).double().numpy()
    share_FC, size_F = np.zeros((folds, len(counts_C))), np.zeros(folds)
    fold_N = torch.empty(len(targets), dtype=torch.int64)
    for group in by_size.tolist():
        own = classes_N[members[group]]
        # Equal shares of the classes are decided by the sizes.
        costs = np.round((share_FC[:, own] / counts_C[own]).sum(1), 12)
        fold = int(np.lexsort((size_F, costs))[0])
        np.add.at(share_FC, (fold, own), 1 / counts_C[own])
        size_F[fold] += len(own)
        fold_N[members[group]] = fold
    return fold_N


def last(order: Tensor, fraction: float, key: str) -> tuple[Tensor, Tensor]:
    """Return ascending indices of the samples kept and of those held out: the last ones.

    Samples with equal values stay on one side, so the share held out is the nearest possible to `fraction`.

    Args:
        order: float64 [N].
        fraction: share of the samples to hold out.
        key: the configuration key of `fraction`, for messages.

    Raises:
        UserError: all values are equal.
    """
    values, counts = order.unique(return_counts=True)
    if len(values) < 2:
        reason = "none can be held out: the samples that are left have one value, which is not divided"
        raise UserError(Problem(key, reason, given=f"{fraction:g}"))
    kept = counts.cumsum(0)[:-1]
    first = values[int((kept - (1 - fraction) * len(order)).abs().argmin()) + 1]
    held_out = order >= first
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
