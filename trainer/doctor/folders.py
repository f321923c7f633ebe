"""A folder of images: its classes and parts by their names, and the files that are no images."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np

from trainer.config.keys import DataConfig
from trainer.data.images.decode import DIGEST_BYTES, ResizeSpec, SizeMismatch
from trainer.data.images.listing import FolderReport, readable, survey
from trainer.data.images.pool import Progress, decode_all
from trainer.errors import UserError, did_you_mean, show
from trainer.report.findings import Report, ascii_if_odd, some

TARGET = "trainer.data.images.folder.image_folder"
SIDE = 64  # pixels to which files are brought that are only looked at


def look(report: Report, config: DataConfig, progress: Progress) -> bool:
    """Adds what is wrong with the folder; returns whether its files can be loaded.

    Where they can, unreadable files and duplicates are found while they are loaded; else here, from the files.
    """
    report.done += ["class lists", "hidden folders", "images left out", "empty classes", "unreadable images"]
    try:
        found = survey(config.root)
    except UserError as error:
        report.errors("class lists", error.problems)
        return False
    report.fact("data", images={part: sum(map(len, classes.values())) for part, classes in found.splits.items()})
    whole = _class_lists(report, found)
    _left_out(report, found)
    wanted = config.arguments.get("classes")
    if wanted is not None:
        names = set(map(show, wanted))
        found.splits = {
            p: {c: files for c, files in classes.items() if c in names} for p, classes in found.splits.items()
        }
    for part, classes in found.splits.items():
        if empty := [name for name, files in classes.items() if not files]:
            whole = False
            report.add(
                "empty classes",
                "error",
                len(empty),
                f"no images in {some(f'{part}/{name}' for name in empty)}",
                "delete the folders, fill them, or name the classes to use: data.classes=[...]",
            )
    if not whole:
        _decode(report, found, progress)
    return whole


def _left_out(report: Report, found: FolderReport) -> None:
    """Adds the images that no run would see, and where they stand."""
    for folder, count in found.hidden.items():
        report.add(
            "hidden folders",
            "warning",
            count,
            f"{folder} is left out, as its name begins with a dot; images in it: {count:,}",
            "rename it if it is data, delete it if not",
        )
    lacking = [part for part in ("valid", "test") if part not in found.splits]
    for folder, count in found.beside.items():
        meant = did_you_mean(folder.lower(), lacking)
        report.add(
            "images left out",
            "warning",
            count,
            f"{_shown(folder)} stands beside the parts and is left out; images in it: {count:,}. {meant}".rstrip(". "),
            "parts are called train, valid or val, and test; move it elsewhere if it is none",
        )
    for folder, count in found.loose.items():
        report.add(
            "images left out",
            "warning",
            count,
            f"images that stand in {folder} outside the class folders are left out: {count:,}",
            "move them to the folders of their classes",
        )
    if found.links:
        count = len(found.links)
        told = f"symbolic links that lead nowhere, outside or back are left out: {some(found.links)}"
        report.add("images left out", "note", count, told)
    if found.others:
        plural = "s" * (found.others != 1)
        told = f"{found.others:,} file{plural} in the class folders left out: no image by name"
        report.add("images left out", "note", found.others, told)


def _class_lists(report: Report, found: FolderReport) -> bool:
    """Whether every part has the classes of the training part, and there are two or more."""
    train = set(found.splits["train"])
    for part, classes in found.splits.items():
        for odd, where, near in (
            (sorted(train - set(classes)), f"only train has, not {part}", sorted(set(classes) - train)),
            (sorted(set(classes) - train), f"only {part} has, not train", sorted(train - set(classes))),
        ):
            if odd:
                meant = next((hint for name in odd if (hint := did_you_mean(readable(name).lower(), near))), "")
                report.add(
                    "class lists",
                    "error",
                    len(odd),
                    f"classes that {where}: {some(map(_shown, odd), 10)}. {meant}".rstrip(". "),
                    "give every part the same class folders: labels are counted off their names",
                )
    if len(train) < 2:
        report.add("class lists", "error", 1, f"{len(train)} class folders in the training part", "two are needed")
    return not any(finding.check == "class lists" for finding in report.findings)


def _decode(report: Report, found: FolderReport, progress: Progress) -> None:
    """Unreadable and duplicate files of a folder that cannot be loaded as it is."""
    files = [
        (split, name, path)
        for split, classes in found.splits.items()
        for name, each in classes.items()
        for path in each
    ]
    if not files:
        return
    paths = [os.path.join(found.root, path) for _, _, path in files]
    try:
        result = decode_all(paths, (SIDE, SIDE, 3), ResizeSpec(SIDE), None, progress)
    except SizeMismatch:  # all are brought to one size
        raise AssertionError from None
    unreadable(report, [{"path": paths[row], "reason": reason} for row, reason in result.problems], len(files))
    bad = {row for row, _ in result.problems}
    digests = np.frombuffer(result.digests, np.uint8).reshape(-1, DIGEST_BYTES)
    counts = Counter(digests[row].tobytes() for row in range(len(files)) if row not in bad)
    report.done.append("duplicates")
    if doubled := sum(count - 1 for count in counts.values()):
        report.add(
            "duplicates",
            "warning",
            doubled,
            f"{doubled:,} images are exact copies of others (brought to {SIDE} pixels)",
            "delete the copies",
        )


def _shown(name: str) -> str:
    return ascii_if_odd(readable(name))


def unreadable(report: Report, bad: list[dict[str, str]], total: int, *, skipped: bool = False) -> None:
    """Adds the files that cannot be used; a mere warning where they are to be skipped."""
    if bad:
        shown = some(f"{readable(file['path'])} ({file['reason']})" for file in bad)
        report.add(
            "unreadable images",
            "warning" if skipped else "error",
            len(bad),
            f"{len(bad):,} of {total:,} images cannot be used: {shown}",
            "repair or delete them" + ("" if skipped else ", or leave them out: data.on_bad_image=skip"),
        )
