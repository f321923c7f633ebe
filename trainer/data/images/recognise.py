"""What else a user's data may be, where a folder of class folders was expected, and the command that reads it."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from trainer.data.images.decode import suffixes
from trainer.data.images.finder import FileFinder, NotFound
from trainer.data.images.table import ImageTable
from trainer.data.split import SPLIT_NAMES
from trainer.data.tables.division import DivisionColumns
from trainer.data.tables.reading import stream
from trainer.data.tables.rows import BadRow
from trainer.errors import Problem, UserError
from trainer.files import open_regular

ZIP, TAR = (".zip",), (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ARRAYS, TABLES = (".npz", ".safetensors"), (".csv", ".tsv")
OWN_CLASS = "Read them in a Dataset class of your own: data=custom (docs/data.md has an example)."
TARGETS = ("label", "labels", "class", "target", "category", "y", "species", "breed", "diagnosis", "name")
LOOKED_AT, NAMING = 20, 0.8  # rows of a table, and the share of them that name files
MOST_FOLDERS = 20  # that are searched for the files of a table
PLAIN = re.compile(r"[\w./-]+")  # can be typed as the value of a key


def of_file(path: str) -> Problem:
    """Return the problem of a file where the folder `data.root` was expected."""
    name = path.lower()
    reason, advice, command = "a file; expected a folder of images", "", ""
    folder = re.sub(r"(\.tar)?\.\w+$", "", path)
    if name.endswith(ZIP):
        reason, advice = "a zip file, which is not read", f"Unpack it and set data.root={folder}"
        command = shlex.join(["python3", "-m", "zipfile", "-e", path, folder])
    elif name.endswith(TAR):
        reason, advice = "a tar file, which is not read", f"Unpack it and set data.root={folder}"
        command = f"{shlex.join(['mkdir', folder])} && {shlex.join(['tar', '-xf', path, '-C', folder])}"
    elif name.endswith(ARRAYS):
        reason, advice, command = "a file of arrays", "Train on it", f"train data=arrays data.path={shlex.quote(path)}"
    elif name.endswith(TABLES) and (proposal := image_table_command(path)):
        reason, advice, command = "a table of image files", "Train on them", proposal
    return Problem("data.root", reason, given=path, advice=advice, command=command)


def of_table(path: str, error: UserError) -> UserError:
    """Return the error of a table that was read as features; another one if the table names image files."""
    unread = any(problem.check == "identifiers" for problem in error.problems)
    if unread and (command := image_table_command(path)):
        return UserError(
            Problem("data.path", "a table of image files", given=path, advice="Train on them", command=command)
        )
    return error


def in_folder(folder: str, outer: str) -> tuple[str, str, str] | None:
    """Return what a folder without class folders, or the one around it, holds, with advice and a command, or None."""
    taken = suffixes()
    inner = os.path.join(folder, "data")  # of a data set of Hugging Face's hub
    if known := _in_folder(folder) or _in_folder(outer) or (_in_folder(inner) if os.path.isdir(inner) else None):
        return known
    if images := sum(os.path.splitext(name)[1].lower() in taken for name in _names(folder)):
        advice = "Move them to a folder for each class, or name them in a table: data=image_table."
        return f"its {images:,} images have no class", advice, ""
    return None


def _names(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _in_folder(folder: str) -> tuple[str, str, str] | None:
    names = _names(folder)
    for name in names:
        path = os.path.join(folder, name)
        if name.lower().endswith(TABLES) and (command := image_table_command(path)):
            return f"{name} names image files", "Train on them", command
    for kind, endings in (("zip", ZIP), ("tar", TAR), ("Parquet", (".parquet",))):
        files = [name for name in names if name.lower().endswith(endings)]
        if len(files) == 1 and kind != "Parquet":
            problem = of_file(os.path.join(folder, files[0]))
            return f"{files[0]} is {problem.reason}", problem.advice, problem.command
        if kind == "Parquet" and files and (command := _parquet_command(folder, files[0])):
            what = "its Parquet file holds" if len(files) == 1 else f"its {len(files):,} Parquet files hold"
            return f"{what} images", "Train on them", command
        if files:
            what = "files, such as the shards of webdataset, are" if kind == "tar" else "files are"
            return f"its {len(files):,} {kind} {what} not read", OWN_CLASS, ""
    return None


def _parquet_command(folder: str, name: str) -> str | None:
    """Return a command that trains on Parquet files in which Hugging Face's library has marked images, or None."""
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        return None
    try:
        with open_regular(Path(folder, name), follow=True) as file:
            metadata = parquet.read_schema(file).metadata or {}
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {column: feature["_type"] for column, feature in features.items() if "_type" in feature}
    except (ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # damaged, or not marked
    images, classes = ([column for column in kinds if kinds[column] == kind] for kind in ("Image", "ClassLabel"))
    typed = [f"data.image={images[0]}"] if len(images) > 1 else []
    typed += [f"data.target={classes[0]}"] if len(classes) > 1 else []
    if not images or not classes or not all(map(PLAIN.fullmatch, (folder, images[0], classes[0]))):
        return None
    return shlex.join(["train", "data=huggingface", f"data.name={folder}", *typed])


def image_table_command(path: str) -> str | None:
    """Return a command that trains on the image files that a table names; None if it names none or cannot be used."""
    if not PLAIN.fullmatch(path):
        return None
    try:
        header, rows = _first_rows(path)
    except UserError:
        return None
    for image in filter(PLAIN.fullmatch, header):
        place = header.index(image)
        root = _root_of([row[place].strip() for row in rows], os.path.dirname(path))
        if root is None:
            continue
        dividing = DivisionColumns(split=_split_column(header, rows))
        others = [name for name in header if name not in (image, dividing.split)]
        for target in sorted(others, key=lambda name: name.lower() not in TARGETS):
            table = ImageTable(path, image, target, root=root or None, dividing=dividing)
            if PLAIN.fullmatch(target) and _works(table):
                words = {"path": path, "image": image, "target": target, "root": root, "split": dividing.split}
                typed = [f"data.{key}={value}" for key, value in words.items() if value]
                return shlex.join(["train", "data=image_table", *typed])
    return None


def _first_rows(path: str) -> tuple[list[str], list[list[str]]]:
    lines: Iterator[list[str] | BadRow] = (cells for _, cells in stream(path))
    read = [cells for cells in islice(lines, LOOKED_AT + 1) if not isinstance(cells, BadRow)]
    return (read[0], read[1:]) if read else ([], [])


def _root_of(names: Sequence[str], folder: str) -> str | None:
    """Return the folder that names of files start from: empty for that of the table; None if there is none."""
    try:
        inner = sorted(entry.path for entry in os.scandir(folder or ".") if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        return None
    inner.sort(key=lambda path: SPLIT_NAMES.get(os.path.basename(path).lower()) != "train")
    for root in ["", *inner[:MOST_FOLDERS]]:
        finder = FileFinder(root or folder, follow_links=False)
        if names and sum(_is_found(finder, name) for name in names) >= NAMING * len(names):
            return root and os.path.normpath(root)
    return None


def _is_found(finder: FileFinder, name: str) -> bool:
    try:
        return Path(finder.find(name)).suffix.lower() in finder.suffixes
    except NotFound:
        return False


def _split_column(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str | None:
    columns = zip(header, zip(*rows, strict=True), strict=True)
    for name, texts in columns:
        splits = {SPLIT_NAMES.get(text.strip().lower()) for text in texts}
        if PLAIN.fullmatch(name) and None not in splits and "train" in splits and len(splits) > 1:
            return name
    return None


def _works(table: ImageTable) -> bool:
    """Return whether the whole table can be used as it is."""
    try:
        return not table.list().missing
    except UserError:
        return False
