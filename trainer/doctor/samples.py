"""The samples of any data set, as they are loaded and split: copies, labels, balance."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from hashlib import blake2b
from itertools import chain, combinations

import torch

from trainer.data.dataset import Data, Split
from trainer.data.images.folder import ImageFiles
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tasks import Regression
from trainer.report.findings import Report, ascii_if_odd, some

CHUNK_BYTES = 2**26
IMBALANCE, SLIGHT = 10, 3  # times as many samples in the largest class as in the smallest
MOST_STREAMED = 20_000  # samples that are decoded each time they are read
DIGEST = 16
SOME = 0.05  # of the rows of a part: fewer may be measurements that came out alike


def look(report: Report, data: Data, identifiers: frozenset[str] = frozenset(), *, balanced: bool = False) -> None:
    """Adds what is wrong with the samples of `data`, and how many there are.

    Args:
        identifiers: columns of a table by which no two rows would be alike.
        balanced: rare classes are seen to already.
    """
    report.fact("data", samples={name: len(split) for name, split in data.splits.items()}, task=data.task.name)
    report.fact("data", shape=list(data.shape))
    if not isinstance(data.task, Regression):
        report.fact("data", classes=len(data.task.classes))
        _names(report, data.task.classes)
        _balance(report, data, balanced)
    streamed = sum(len(split) for split in data.splits.values() if isinstance(split.samples, ImageFiles))
    if streamed > MOST_STREAMED:
        report.skipped["duplicates"] = f"{streamed:,} images would have to be decoded for it"
        return
    report.done.append("non-finite inputs")
    kept = None
    if isinstance(data.prepare, TablePrepare):
        names = [column.name for column in data.prepare.columns]
        kept = [i for i, name in enumerate(names) if name not in identifiers] or list(range(len(names)))
    digests = {name: _digests(report, name, split, kept) for name, split in data.splits.items()}
    rows, different = sum(map(len, digests.values())), len(set(chain.from_iterable(digests.values())))
    if kept is not None and 2 * different < rows and _is_coarse(data, kept):
        report.done.append("duplicates")
        told = f"only {different:,} different rows among {rows:,}, as the columns have few values"
        report.add("duplicates", "note", different, told, "a finer column would tell more of them apart")
    elif all(split.samples.repeatable for split in data.splits.values()):
        _duplicates(report, data, digests, f" ({', '.join(sorted(identifiers))} left aside)" if identifiers else "")
    else:
        report.skipped["duplicates"] = "samples change from one reading to the next"


def _balance(report: Report, data: Data, balanced: bool) -> None:
    report.done += ["imbalance", "absent classes"]
    classes = data.task.classes
    for name, split in data.splits.items():
        counts = torch.bincount(split.targets, minlength=len(classes))
        if absent := [classes[i] for i in (counts == 0).nonzero().flatten().tolist()]:
            report.add(
                "absent classes",
                "warning",
                len(absent),
                f"the {name} part has no sample of {some(absent)}",
                "add some, leave the class out, or hold out more" if name != "train" else "it cannot be learned",
            )
        if name != "train":
            continue
        seen = counts[counts > 0]
        ratio = float(seen.max() / seen.min())
        report.fact("data", imbalance=round(ratio, 2))
        if ratio >= SLIGHT:
            largest, smallest = classes[int(counts.argmax())], classes[int(counts.where(counts > 0, 2**60).argmin())]
            report.add(
                "imbalance",
                "warning" if ratio >= IMBALANCE and not balanced else "note",
                int(seen.min()),
                f"{largest} has {int(seen.max()):,} training samples, {smallest} {int(seen.min()):,}",
                "" if balanced else "data.balance=sampler or loss, and monitor=valid_balanced_accuracy",
            )


def _names(report: Report, classes: tuple[str, ...]) -> None:
    """Adds names of classes that look like one name."""
    report.done.append("class names")
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[_bare(name)].append(name)
    twins = [names for names in alike.values() if len(names) > 1]
    if twins:
        report.add(
            "class names",
            "warning",
            sum(map(len, twins)),
            f"classes whose names are alike: {some(' and '.join(map(ascii_if_odd, names)) for names in twins)}",
            "if they are one class, write them in one way, or merge them: data.relabel",
        )


def _bare(name: str) -> str:
    """A name without case, blanks and the ways in which Unicode or a number can be written."""
    text = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    try:
        return str(float(text))
    except ValueError:
        return text


def _is_coarse(data: Data, kept: list[int]) -> bool:
    """Whether a table's columns have so few values that most rows would be equal if each were shuffled by itself."""
    rows_NK = torch.cat([split.samples.take(split.indices) for split in data.splits.values()])[:, kept].nan_to_num()
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(rows_NK), generator=generator) for _ in kept]
    shuffled_NK = torch.stack([column[order] for column, order in zip(rows_NK.T, orders, strict=True)], 1)
    return 2 * len(shuffled_NK.unique(dim=0)) < len(rows_NK)


def _digests(report: Report, name: str, split: Split, columns: list[int] | None) -> list[bytes]:
    """Of each sample's raw input; adds those that hold what is no finite number.

    Args:
        columns: of a table, whose NaN is a missing value, and which has no infinity.
    """
    first = split.samples.take(split.indices[:1])
    size = max(1, CHUNK_BYTES // max(1, first.nbytes))
    found: list[bytes] = []
    bad: list[int] = []
    for chunk in split.indices.split(size):
        inputs = split.samples.take(chunk)
        if columns is not None:
            inputs = inputs[:, columns]
        elif inputs.is_floating_point():
            bad += chunk[~inputs.isfinite().flatten(1).all(1)].tolist()
        rows = inputs.contiguous().flatten(1).numpy()
        found += [blake2b(row.tobytes(), digest_size=DIGEST).digest() for row in rows]
    if bad:
        report.add(
            "non-finite inputs",
            "error",
            len(bad),
            f"NaN or infinity in {len(bad):,} of {len(split):,} samples of the {name} part, the first is item {bad[0]}",
            "leave them out or repair them",
        )
    return found


def _duplicates(report: Report, data: Data, digests: dict[str, list[bytes]], aside: str) -> None:
    """Copies within a part, in several parts, and copies with different targets."""
    report.done += ["duplicates", "duplicates across parts", "contradictions"]
    images = len(data.shape) == 3
    for name, found in digests.items():
        copies = len(found) - len(set(found))
        if copies:
            few = not images or copies < 0.01 * len(found)
            report.add(
                "duplicates",
                "note" if few else "warning",
                copies,
                f"{copies:,} of {len(found):,} samples of the {name} part are exact copies of others{aside}",
                "delete the copies" if images else "is a row a measurement of its own?",
            )
    for before, after in combinations(digests, 2):
        known = set(digests[before])
        shared = sum(digest in known for digest in digests[after])
        if shared:
            report.add(
                "duplicates across parts",
                "warning" if images or shared >= SOME * len(digests[after]) else "note",
                shared,
                f"{shared:,} of {len(digests[after]):,} samples of the {after} part stand in the {before} part"
                f" too{aside}",
                f"delete them from one: figures of the {after} part are too good by them",
            )
    targets = defaultdict(set)
    samples: dict[bytes, int] = defaultdict(int)
    for name, found in digests.items():
        for digest, target in zip(found, data.splits[name].targets.tolist(), strict=True):
            targets[digest].add(target)
            samples[digest] += 1
    odd = [digest for digest, values in targets.items() if len(values) > 1]
    if odd and not isinstance(data.task, Regression):
        count = sum(samples[digest] for digest in odd)
        report.add(
            "contradictions",
            "warning",
            count,
            f"{count:,} samples are equal to others of another class{aside}",
            "one of the labels is wrong",
        )
