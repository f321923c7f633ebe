"""What `trainer predict` is given: files, folders, patterns and lists of them, read one after the other."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer import device
from trainer.data import raw
from trainer.data.images.decode import BadImage, suffixes
from trainer.data.images.listing import images_below, readable
from trainer.data.tables.rows import BadRow, Encoder, stream
from trainer.errors import UserError
from trainer.inference.predictor import Predictor

DECODED = 64  # images that are decoded at a time


@dataclass(frozen=True)
class Sample:
    """One thing to predict.

    Attributes:
        name: its file, with a line for a row.
        raw: [...], a raw sample; None where there is none to be had.
        problem: why not.
    """

    name: str
    raw: Tensor | None
    problem: str | None = None


def paths(words: Iterable[str], lines: Iterable[str]) -> Iterator[str | Sample]:
    """The files that words stand for, in order; a sample with its problem for a word that stands for none.

    A folder stands for the images below it, sorted; `-` for the paths in `lines`; what is no file and has * ? or [ in
    it for the files that match.
    """
    for word in words:
        if word == "-":
            yield from paths((line.rstrip("\r\n") for line in lines if line.strip()), ())
        elif os.path.isdir(word):
            try:
                below = images_below(word)
            except UserError as error:
                yield Sample(word, None, _reasons(error))
                continue
            yield from below
            if not below:
                yield Sample(word, None, "no images in this folder")
        elif not os.path.exists(word) and glob.has_magic(word):
            found = sorted(path for path in glob.glob(word, recursive=True) if os.path.isfile(path))
            yield from found
            if not found:
                yield Sample(word, None, "no file matches this pattern")
        elif not os.path.exists(word):
            yield Sample(readable(word), None, "no such file")
        elif not os.path.isfile(word):  # a named pipe would be waited for
            yield Sample(readable(word), None, "no regular file")
        else:
            yield word


def samples(predictor: Predictor, words: Iterable[str], lines: Iterable[str] = ()) -> Iterator[Sample]:
    """All that is to be predicted, in order; few of them are held at a time.

    Args:
        lines: what `-` stands for.

    Raises:
        UserError: the model takes neither image files nor tables.
    """
    found = paths(words, lines)
    if predictor.columns:
        return _rows(predictor, found)
    if predictor.takes_images and predictor.about.dtype == torch.uint8:
        return _images(predictor, found)
    raise UserError(
        f"{predictor.saved.name}: the model takes numbers of a data set of your own, {list(predictor.prepare.shape)}; "
        "files do not hold these. In Python: trainer.load(RUN).predict(array)."
    )


def _images(predictor: Predictor, found: Iterator[str | Sample]) -> Iterator[Sample]:
    shape, dtype, geometry = predictor.prepare.shape, predictor.about.dtype, predictor.about.geometry

    def read(path: str | Sample) -> Sample:
        if isinstance(path, Sample):
            return path
        try:
            return Sample(readable(path), raw.image(path, shape, dtype, geometry))
        except BadImage as error:
            return Sample(readable(path), None, str(error))

    with ThreadPoolExecutor(device.cores()) as pool:
        while some := list(itertools.islice(found, DECODED)):
            yield from pool.map(read, some)


def _rows(predictor: Predictor, found: Iterator[str | Sample]) -> Iterator[Sample]:
    encoder, images = predictor.encoder(), suffixes()
    separator = predictor.about.separator
    for path in found:
        if isinstance(path, Sample):
            yield path
        elif Path(path).suffix.lower() in images:
            yield Sample(readable(path), None, "an image; the model takes the rows of a table")
        else:
            yield from _rows_of(path, encoder, separator)


def _rows_of(path: str, encoder: Encoder, separator: str | None) -> Iterator[Sample]:
    name = readable(path)
    try:
        lines = stream(path, separator)
        header = next(lines, (1, []))[1]
        assert not isinstance(header, BadRow)  # which `stream` raises
        encoder.check(header)
        for line, cells in lines:
            try:
                if isinstance(cells, BadRow):
                    raise cells
                row = encoder.row(dict(zip(header, cells, strict=True)))
            except BadRow as error:
                yield Sample(f"{name}:{line}", None, str(error))
                continue
            yield Sample(f"{name}:{line}", torch.tensor(row, dtype=torch.float64))
    except BadRow as error:
        yield Sample(name, None, str(error))
    except UserError as error:
        yield Sample(name, None, _reasons(error))


def _reasons(error: UserError) -> str:
    return "; ".join(problem.reason for problem in error.problems)


def chunks(found: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Lists with `size` readable samples each, as a part of a data set is cut into batches: a single one that is left
    over joins those before it. What is not readable stands where it stood."""
    held: list[Sample] = []
    good: list[int] = []  # where the readable ones stand in it
    for sample in found:
        if sample.raw is not None:
            good.append(len(held))
        held.append(sample)
        if len(good) == size + 2:
            cut = good[size]
            yield held[:cut]
            held, good = held[cut:], [place - cut for place in good[size:]]
    if held:
        yield held
