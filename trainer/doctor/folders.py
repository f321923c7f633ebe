"""Checks of a folder of images: its classes and splits by their names, and files that cannot be used."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np

from trainer.config.keys import DataConfig
from trainer.data.images import recognise
from trainer.data.images.decode import DIGEST_BYTES
from trainer.data.images.listing import readable
from trainer.data.images.options import ImageOptions
from trainer.data.images.pool import Progress, decode_all
from trainer.data.images.survey import FolderReport, survey
from trainer.data.images.walk import FOLLOW
from trainer.errors import UserError, did_you_mean, first_few, show
from trainer.report.findings import Report, ascii_if_odd

SIDE = 64  # pixels that files are resized to if they are decoded only to be checked


def check_folder(report: Report, config: DataConfig, progress: Progress) -> bool:
    """Report what is wrong with the folder, and return whether it can be loaded.

    If it can, unreadable files and duplicates are found when it is loaded; otherwise here.
    """
    report.checks += ["class lists", "hidden folders", "images left out", "empty classes", "unreadable images"]
    try:
        folder = survey(str(config.root), follow_links=config.arguments.get("follow_links") is True)
    except UserError as error:
        report.add_problems(error.problems, "class lists")
        return False
    report.fact("data", images={split: sum(map(len, classes.values())) for split, classes in folder.splits.items()})
    usable = _check_class_lists(report, folder)
    _check_left_out(report, folder)
    selected = config.arguments.get("classes")
    if selected is not None:
        names = set(map(show, selected))
        for split, classes in folder.splits.items():
            folder.splits[split] = {name: files for name, files in classes.items() if name in names}
    for split, classes in folder.splits.items():
        if empty := [name for name, files in classes.items() if not files]:
            usable = False
            message = f"no images in {first_few(f'{split}/{name}' for name in empty)}"
            advice = "delete the folders, fill them, or name the classes to use: data.classes=[...]"
            report.add("empty classes", "error", len(empty), message, advice)
    if not usable:
        _check_files(report, folder, config.arguments.get("range"), progress)
    return usable


def _check_left_out(report: Report, folder: FolderReport) -> None:
    """Report images that no run would read."""
    for name, count in folder.hidden.items():
        message = f"{name} is ignored, because its name begins with a dot; images in it: {count:,}"
        report.add("hidden folders", "warning", count, message, "rename it if it is data, delete it if not")
    absent = [split for split in ("valid", "test") if split not in folder.splits]
    for name, count in folder.beside.items():
        message = f"{_shown(name)} is not one of the splits and is ignored; images in it: {count:,}"
        message += _hint(did_you_mean(name.lower(), absent))
        advice = "splits are named train, valid or val, and test; move it elsewhere if it is not one of them"
        report.add("images left out", "warning", count, message, advice)
    for name, count in folder.loose.items():
        message = f"images in {name} outside the class folders are ignored: {count:,}"
        report.add("images left out", "warning", count, message, "move them to the folders of their classes")
    if folder.outside:
        message = f"symbolic links that lead outside are ignored: {first_few(folder.outside)}"
        report.add("images left out", "note", len(folder.outside), message, f"{FOLLOW} follows them")
    if folder.back:
        message = f"symbolic links that are broken or form a loop are ignored: {first_few(folder.back)}"
        report.add("images left out", "note", len(folder.back), message)
    if folder.others:
        plural = "s" * (folder.others != 1)
        message = f"{folder.others:,} file{plural} in the class folders ignored, without the suffix of an image"
        report.add("images left out", "note", folder.others, message)


def _hint(question: str) -> str:
    return f". {question}" if question else ""


def _check_class_lists(report: Report, folder: FolderReport) -> bool:
    """Return whether all splits have the same classes, and two or more of them."""
    train = set(folder.splits["train"])
    usable = True
    for split, classes in folder.splits.items():
        missing, added = sorted(train - set(classes)), sorted(set(classes) - train)
        for names, where, others in (
            (missing, f"in train but not in {split}", added),
            (added, f"in {split} but not in train", missing),
        ):
            if names:
                usable = False
                hints = (did_you_mean(readable(name).lower(), others) for name in names)
                message = f"classes {where}: {first_few(map(_shown, names), 10)}{_hint(next(filter(None, hints), ''))}"
                advice = "give every split the same class folders: labels are derived from their names"
                report.add("class lists", "error", len(names), message, advice)
    if len(train) < 2:
        message, advice = f"{len(train)} class folders in the training split", "at least two are needed"
        if known := recognise.in_folder(str(folder.train), str(folder.root)):
            message, advice = f"{message}; {known[0]}", ": ".join(filter(None, known[1:]))
        report.add("class lists", "error", 1, message, advice)
        return False
    return usable


def _check_files(report: Report, folder: FolderReport, limits: Any, progress: Progress) -> None:
    """Report unreadable and duplicate files of a folder that cannot be loaded."""
    paths = [
        os.path.join(folder.root, path) for classes in folder.splits.values() for c in classes.values() for path in c
    ]
    if not paths:
        return
    result = decode_all(paths, (SIDE, SIDE, 3), ImageOptions(SIDE, range=limits).spec(), None, progress)
    report_unreadable(report, [{"path": paths[row], "reason": reason} for row, reason in result.problems], len(paths))
    bad = {row for row, _ in result.problems}
    digests = np.frombuffer(result.digests, np.uint8).reshape(-1, DIGEST_BYTES)
    counts = Counter(digests[row].tobytes() for row in range(len(paths)) if row not in bad)
    report.checks.append("duplicates")
    if copies := sum(count - 1 for count in counts.values()):
        message = f"{copies:,} images are exact copies of others (resized to {SIDE} pixels)"
        report.add("duplicates", "warning", copies, message, "delete the copies")


def _shown(name: str) -> str:
    return ascii_if_odd(readable(name))


def report_unreadable(report: Report, files: list[dict[str, str]], total: int, *, skipped: bool = False) -> None:
    """Report files that cannot be used, each with `path` and `reason`: an error, or a warning if they are skipped."""
    if files:
        listed = first_few(f"{readable(file['path'])} ({file['reason']})" for file in files)
        message = f"{len(files):,} of {total:,} images cannot be used: {listed}"
        advice = "repair or delete them" + ("" if skipped else ", or leave them out: data.on_bad_image=skip")
        report.add("unreadable images", "warning" if skipped else "error", len(files), message, advice)
