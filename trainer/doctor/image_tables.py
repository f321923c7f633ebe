"""Checks of a table that names image files: files that are not there, and images that no row names."""

from __future__ import annotations

import os
from collections import Counter

from trainer.config.keys import DataConfig
from trainer.data.images.table import CHECK, ImageTable
from trainer.data.images.walk import FolderWalk
from trainer.errors import UserError
from trainer.report.findings import Report


def check_image_table(report: Report, config: DataConfig) -> bool:
    """Report what is wrong with the rows, and return whether they can be loaded.

    Unreadable images, duplicates and classes are examined when they are.
    """
    report.checks += [CHECK, "images left out", "unreadable images"]
    source = ImageTable.of(config.arguments, config.root)
    try:
        listing = source.list()
    except UserError as error:
        report.add_problems(error.problems, CHECK)
        return False
    report.fact("data", images={split: len(files) for split, files in listing.splits.items()})
    walk = FolderWalk(listing.root, listing.root)
    named = {path for path, _ in listing.files}
    unnamed = Counter(os.path.dirname(path) for path in walk.images(listing.root) if path not in named)
    for folder, count in sorted(unnamed.items()):
        message = f"{os.path.join(listing.shown, folder) or '.'} holds images that no row names: {count:,}"
        report.add("images left out", "note", count, message)
    return True
