"""Which sample belongs to which part: stratified, seeded, never shared; and new labels for old classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.errors import UserError


def stratified(targets: Tensor, fraction: float, seed: int, key: str = "fraction") -> tuple[Tensor, Tensor]:
    """Splits [N] samples into (kept, held out), `fraction` of each class held out, at random by `seed`.

    The held-out counts sum to round(N * fraction); classes get theirs by largest remainder and keep at least one
    sample. Both results are ascending indices into `targets`.

    Raises:
        UserError: where a part would be empty.
    """
    generator = torch.Generator().manual_seed(seed)
    if targets.is_floating_point():  # a regression has no classes: any sample, equally likely
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
        raise UserError(f"{key}={fraction:g}: of {len(targets)} samples none would be held out.")
    mask = torch.ones(len(targets), dtype=torch.bool)
    mask[out] = False
    return mask.nonzero().flatten(), out.sort().values


def fold_of_each(targets: Tensor, folds: int, seed: int) -> Tensor:
    """The fold [N], 0 to folds - 1, of each sample: counts differ by at most one, in every class and in all.

    Raises:
        UserError: more folds than samples.
    """
    if folds > len(targets):
        raise UserError(f"data.folds={folds}: there are only {len(targets)} samples to divide.")
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(len(targets), dtype=torch.int64) if targets.is_floating_point() else targets
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    found = torch.empty(len(targets), dtype=torch.int64)
    found[by_class] = torch.arange(len(targets)) % folds  # dealt out class after class, without a break between them
    return found


def relabelled(classes: tuple[str, ...], groups: dict[str, Any]) -> tuple[tuple[str, ...], Tensor]:
    """New class names and, for each old class [C], its new label.

    Args:
        groups: {new name: [old names] or "rest"}.

    Raises:
        UserError: an unknown class, one in two groups, or one in none.
    """
    labels = torch.full((len(classes),), -1)
    rest = None
    for new, (name, members) in enumerate(groups.items()):
        if members == "rest":
            rest = new
            continue
        for member in members if isinstance(members, list) else [members]:
            if str(member) not in classes:
                raise UserError(f"data.relabel: {name} names class {member}; there is {', '.join(classes[:20])}.")
            old = classes.index(str(member))
            if labels[old] >= 0:
                raise UserError(f"data.relabel: class {member} stands in two groups.")
            labels[old] = new
    if rest is not None:
        labels[labels < 0] = rest
    if (labels < 0).any():
        left = [name for name, label in zip(classes, labels.tolist(), strict=True) if label < 0]
        raise UserError(
            f"data.relabel: {', '.join(left)} stand in no group. `rest` as a group's value takes the others."
        )
    if len(set(labels.tolist())) < 2:
        raise UserError("data.relabel: two groups or more are needed, each with a class.")
    return tuple(map(str, groups)), labels
