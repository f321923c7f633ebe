"""Divide samples between splits: stratified by class, seeded, without overlap. Shape letter: N samples."""

from __future__ import annotations

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


def stratified(targets: Tensor, fraction: float, seed: int, key: str = "fraction") -> tuple[Tensor, Tensor]:
    """Return ascending indices of the samples kept and of those held out at random, `fraction` of each class.

    round(N * fraction) samples are held out, divided between the classes by largest remainder; every class keeps at
    least one sample.

    Args:
        targets: classes int64 [N], or float64 [N] of a regression, which is not stratified.
        key: the configuration key of `fraction`, for messages.

    Raises:
        UserError: no sample would be held out.
    """
    generator = torch.Generator().manual_seed(seed)
    if targets.is_floating_point():
        targets = torch.zeros(len(targets), dtype=torch.int64)
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
    labels = torch.zeros(len(targets), dtype=torch.int64) if targets.is_floating_point() else targets
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    fold_N = torch.empty(len(targets), dtype=torch.int64)
    fold_N[by_class] = torch.arange(len(targets)) % folds  # counts on from one class to the next: overall sizes agree
    return fold_N
