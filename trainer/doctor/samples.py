"""Checks of the samples of any data set, loaded and split: copies, labels, balance."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from hashlib import blake2b
from itertools import chain, combinations

import torch

from trainer.data.dataset import Data, Split
from trainer.data.images.samples import ImageFiles
from trainer.data.multilabel import MultiLabel
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tasks import Classification
from trainer.errors import first_few
from trainer.report.findings import Report, ascii_if_odd

CHUNK_BYTES = 2**26
IMBALANCE, SLIGHT_IMBALANCE = 10, 3  # samples of the largest class / samples of the smallest
MAX_STREAMED = 20_000  # images that are decoded each time they are read
DIGEST_BYTES = 16
MANY_COPIES = 0.05  # of a split's rows: fewer may be measurements that agree by chance

Digests = dict[str, list[bytes]]  # of the samples of each split


def check_samples(
    report: Report, data: Data, identifiers: frozenset[str] = frozenset(), *, balanced: bool = False
) -> None:
    """Report the numbers of samples, and what is wrong with them.

    Args:
        identifiers: columns of a table that number its rows; without them equal rows are copies.
        balanced: whether the configuration handles rare classes.
    """
    report.fact("data", samples={name: len(split) for name, split in data.splits.items()}, task=data.task.name)
    report.fact("data", shape=list(data.shape))
    if data.task.classes:
        report.fact("data", **{"labels" if data.task.several else "classes": len(data.task.classes)})
        _check_names(report, data.task.classes)
    if isinstance(data.task, Classification):
        _check_balance(report, data, balanced)
    elif isinstance(data.task, MultiLabel):
        _check_labels(report, data, balanced)
    streamed = sum(len(split) for split in data.splits.values() if isinstance(split.samples, ImageFiles))
    if streamed > MAX_STREAMED:
        report.skipped["duplicates"] = f"{streamed:,} images would have to be decoded for it"
        return
    report.checks.append("non-finite inputs")
    columns = None
    if isinstance(data.prepare, TablePrepare):
        names = [column.name for column in data.prepare.columns]
        columns = [i for i, name in enumerate(names) if name not in identifiers] or list(range(len(names)))
    digests = {name: _digests(report, name, split, columns) for name, split in data.splits.items()}
    rows, distinct = sum(map(len, digests.values())), len(set(chain.from_iterable(digests.values())))
    if columns is not None and 2 * distinct < rows and _is_coarse(data, columns):
        report.checks.append("duplicates")
        message = f"only {distinct:,} different rows among {rows:,}, as the columns have few values"
        report.add("duplicates", "note", distinct, message, "a column with finer values would distinguish more of them")
    elif all(split.samples.fixed for split in data.splits.values()):
        aside = f" (without {', '.join(sorted(identifiers))})" if identifiers else ""
        images = len(data.shape) == 3
        report.checks += ["duplicates", "duplicates across splits", "contradictions"]
        _check_copies(report, digests, images, aside)
        _check_copies_across_splits(report, digests, images, aside)
        _check_contradictions(report, data, digests, aside)
    else:
        report.skipped["duplicates"] = "samples change from one reading to the next"


def _check_balance(report: Report, data: Data, balanced: bool) -> None:
    report.checks += ["imbalance", "absent classes"]
    classes = data.task.classes
    for name, split in data.splits.items():
        counts = torch.bincount(split.targets, minlength=len(classes))
        if absent := [classes[i] for i in (counts == 0).nonzero().flatten().tolist()]:
            message = f"the {name} split has no sample of {first_few(absent)}"
            advice = "add some, leave the class out, or hold out more" if name != "train" else "it cannot be learned"
            report.add("absent classes", "warning", len(absent), message, advice)
        if name != "train":
            continue
        present = counts[counts > 0]
        most, fewest = int(present.max()), int(present.min())
        report.fact("data", imbalance=round(most / fewest, 2))
        if most / fewest >= SLIGHT_IMBALANCE:
            largest, smallest = classes[int(counts.argmax())], classes[int(counts.where(counts > 0, 2**60).argmin())]
            severity = "warning" if most / fewest >= IMBALANCE and not balanced else "note"
            message = f"{largest} has {most:,} training samples, {smallest} {fewest:,}"
            advice = "" if balanced else "data.balance=sampler or loss, and monitor=valid_balanced_accuracy"
            report.add("imbalance", severity, fewest, message, advice)


def _check_labels(report: Report, data: Data, balanced: bool) -> None:
    """Report labels that no sample of a split has, and rare ones."""
    report.checks += ["imbalance", "absent classes"]
    labels = data.task.classes
    for name, split in data.splits.items():
        shares = split.targets.double().mean(0).tolist()
        if absent := [label for label, share in zip(labels, shares, strict=True) if share == 0]:
            message = f"no sample of the {name} split has the label {first_few(absent)}"
            advice = "add some, leave the label out, or hold out more" if name != "train" else "it cannot be learned"
            report.add("absent classes", "warning", len(absent), message, advice)
        rare = [label for label, share in zip(labels, shares, strict=True) if 0 < share < 1 / (1 + IMBALANCE)]
        if name == "train" and rare:
            message = f"fewer than one in {1 + IMBALANCE} training samples have the label {first_few(rare)}"
            advice = "" if balanced else "loss.weight=balanced, and monitor=valid_mean_average_precision"
            report.add("imbalance", "note" if balanced else "warning", len(rare), message, advice)


def _check_names(report: Report, classes: tuple[str, ...]) -> None:
    """Report class names that look like the same name."""
    report.checks.append("class names")
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        by_name[_normalised(name)].append(name)
    twins = [names for names in by_name.values() if len(names) > 1]
    if twins:
        listed = first_few(" and ".join(map(ascii_if_odd, names)) for names in twins)
        advice = "if they are one class, write them in one way, or merge them: data.relabel"
        report.add("class names", "warning", sum(map(len, twins)), f"classes with similar names: {listed}", advice)


def _normalised(name: str) -> str:
    """Return a name regardless of case, blanks, Unicode form and the spelling of a number."""
    text = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    try:
        return str(float(text))
    except ValueError:
        return text


def _is_coarse(data: Data, columns: list[int]) -> bool:
    """Return whether a table's columns have so few values that most rows would be equal if each were shuffled."""
    rows_NK = torch.cat([split.samples.take(split.indices) for split in data.splits.values()])[:, columns].nan_to_num()
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(rows_NK), generator=generator) for _ in columns]
    shuffled_NK = torch.stack([column[order] for column, order in zip(rows_NK.T, orders, strict=True)], 1)
    return 2 * len(shuffled_NK.unique(dim=0)) < len(rows_NK)


def _digests(report: Report, name: str, split: Split, columns: list[int] | None) -> list[bytes]:
    """Return a digest of each sample's raw input, and report inputs that are not finite.

    Only `columns` of a table are compared; NaNs in it are missing values, and it has no infinity.
    """
    first = split.samples.take(split.indices[:1])
    size = max(1, CHUNK_BYTES // max(1, first.nbytes))
    digests: list[bytes] = []
    bad: list[int] = []
    for chunk in split.indices.split(size):
        inputs = split.samples.take(chunk)
        if columns is not None:
            inputs = inputs[:, columns]
        elif inputs.is_floating_point():
            bad += chunk[~inputs.isfinite().flatten(1).all(1)].tolist()
        rows = inputs.contiguous().flatten(1).numpy()
        digests += [blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest() for row in rows]
    if bad:
        message = (
            f"NaN or infinity in {len(bad):,} of {len(split):,} samples of the {name} split, first in item {bad[0]}"
        )
        report.add("non-finite inputs", "error", len(bad), message, "leave them out or repair them")
    return digests


def _check_copies(report: Report, digests: Digests, images: bool, aside: str) -> None:
    for name, samples in digests.items():
        if copies := len(samples) - len(set(samples)):
            severity = "note" if not images or copies < 0.01 * len(samples) else "warning"
            message = f"{copies:,} of {len(samples):,} samples of the {name} split are exact copies of others{aside}"
            advice = "delete the copies" if images else "check that each row is a separate measurement"
            report.add("duplicates", severity, copies, message, advice)


def _check_copies_across_splits(report: Report, digests: Digests, images: bool, aside: str) -> None:
    for first, second in combinations(digests, 2):
        earlier, samples = set(digests[first]), digests[second]
        if copies := sum(digest in earlier for digest in samples):
            severity = "warning" if images or copies >= MANY_COPIES * len(samples) else "note"
            message = (
                f"{copies:,} of {len(samples):,} samples of the {second} split are in the {first} split too{aside}"
            )
            advice = f"delete them from one: they make the metrics of the {second} split too good"
            report.add("duplicates across splits", severity, copies, message, advice)


def _check_contradictions(report: Report, data: Data, digests: Digests, aside: str) -> None:
    """Report equal samples of different classes or labels."""
    if not data.task.classes:
        return
    targets: dict[bytes, set[str]] = defaultdict(set)
    counts: dict[bytes, int] = defaultdict(int)
    for name, samples in digests.items():
        for digest, target in zip(samples, data.splits[name].targets.tolist(), strict=True):
            targets[digest].add(str(target))
            counts[digest] += 1
    if count := sum(counts[digest] for digest, classes in targets.items() if len(classes) > 1):
        others = "with other labels" if data.task.several else "of another class"
        message = f"{count:,} samples are equal to others {others}{aside}"
        report.add("contradictions", "warning", count, message, "one of the labels is wrong")
