"""The samples of any data set, as they are loaded and split: copies, labels, balance."""

from __future__ import annotations

from collections import defaultdict
from hashlib import blake2b
from itertools import combinations

import torch

from trainer.data.images import ImageFiles
from trainer.data.load import Data, Split
from trainer.doctor.findings import Report, some
from trainer.tasks import Regression

CHUNK_BYTES = 2**26
IMBALANCE, SLIGHT = 10, 3  # times as many samples in the largest class as in the smallest
MOST_STREAMED = 20_000  # samples that are decoded each time they are read
DIGEST = 16
SOME = 0.05  # of the rows of a part: fewer may be measurements that came out alike


def look(report: Report, data: Data) -> None:
    """Adds what is wrong with the samples of `data`, and how many there are."""
    report.fact("data", samples={name: len(split) for name, split in data.splits.items()}, task=data.task.name)
    report.fact("data", shape=list(data.shape))
    if not isinstance(data.task, Regression):
        report.fact("data", classes=len(data.task.classes))
        _balance(report, data)
    if not all(split.samples.repeatable for split in data.splits.values()):
        report.skipped["duplicates"] = "samples change from one reading to the next"
        return
    streamed = sum(len(split) for split in data.splits.values() if isinstance(split.samples, ImageFiles))
    if streamed > MOST_STREAMED:
        report.skipped["duplicates"] = f"{streamed:,} images would have to be decoded for it"
        return
    digests = {name: _digests(report, name, split) for name, split in data.splits.items()}
    _duplicates(report, data, digests)


def _balance(report: Report, data: Data) -> None:
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
                "warning" if ratio >= IMBALANCE else "note",
                int(seen.min()),
                f"{largest} has {int(seen.max()):,} training samples, {smallest} {int(seen.min()):,}",
                "data.balance=sampler or loss, and monitor=valid_balanced_accuracy",
            )


def _digests(report: Report, name: str, split: Split) -> list[bytes]:
    """Of each sample's raw input; adds what is no finite number."""
    first = split.samples.take(split.indices[:1])
    size = max(1, CHUNK_BYTES // max(1, first.nbytes))
    found, bad = [], 0
    for chunk in split.indices.split(size):
        inputs = split.samples.take(chunk)
        if inputs.is_floating_point() and inputs.ndim > 2:  # of a table, NaN is a missing value
            bad += int((~inputs.isfinite().flatten(1).all(1)).sum())
        rows = inputs.contiguous().flatten(1).numpy()
        found += [blake2b(row.tobytes(), digest_size=DIGEST).digest() for row in rows]
    if bad:
        report.add(
            "non-finite inputs",
            "error",
            bad,
            f"{bad:,} samples of the {name} part hold NaN or infinity",
            "leave them out or repair them",
        )
    return found


def _duplicates(report: Report, data: Data, digests: dict[str, list[bytes]]) -> None:
    """Copies within a part, in several parts, and copies with different targets."""
    report.done += ["duplicates", "duplicates across parts", "contradictions", "non-finite inputs"]
    images = len(data.shape) == 3
    for name, found in digests.items():
        copies = len(found) - len(set(found))
        if copies:
            few = not images or copies < 0.01 * len(found)
            report.add(
                "duplicates",
                "note" if few else "warning",
                copies,
                f"{copies:,} of {len(found):,} samples of the {name} part are exact copies of others",
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
                f"{shared:,} of {len(digests[after]):,} samples of the {after} part stand in the {before} part too",
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
            f"{count:,} samples are equal to others of another class",
            "one of the labels is wrong",
        )
