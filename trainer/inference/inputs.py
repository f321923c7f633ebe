"""The inputs of `trainer predict`: files, folders, patterns and lists of paths, read one after the other."""

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
from trainer.data.arrays.containers import SUFFIXES
from trainer.data.arrays.names import inputs_in
from trainer.data.images.decode import BadImage, suffixes
from trainer.data.images.listing import readable
from trainer.data.images.survey import images_below
from trainer.data.tables.reading import stream
from trainer.data.tables.rows import BadRow, Encoder
from trainer.errors import Problem, UserError
from trainer.inference.predictor import Predictor

DECODED = 64  # images decoded at a time


@dataclass(frozen=True)
class Sample:
    """One input of a prediction: its file (and line), and the raw sample [...] or why it cannot be read."""

    name: str
    raw: Tensor | None
    problem: str | None = None


def paths(words: Iterable[str], lines: Iterable[str]) -> Iterator[str | Sample]:
    """Yield the files that words name, in order, and for a word without a file a sample with its problem.

    A folder stands for the images below it, sorted; `-` for the paths in `lines`; a word with *, ? or [ that is not
    a file for the files that match.
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
            matching = sorted(path for path in glob.glob(word, recursive=True) if os.path.isfile(path))
            yield from matching
            if not matching:
                yield Sample(word, None, "no file matches this pattern")
        elif not os.path.exists(word):
            yield Sample(readable(word), None, "no such file")
        elif not os.path.isfile(word):  # reading a named pipe would wait
            yield Sample(readable(word), None, "not a regular file")
        else:
            yield word


def samples(predictor: Predictor, words: Iterable[str], lines: Iterable[str] = ()) -> Iterator[Sample]:
    """Read all inputs in order; only a few of them are in memory at a time. For `words` and `lines`, see `paths`.

    Raises:
        UserError: the model takes neither image files nor tables, and an input is no file of arrays.
    """
    for arrays, files in itertools.groupby(paths(words, lines), _holds_arrays):
        if arrays:
            yield from itertools.chain.from_iterable(_rows_of_array(predictor, str(path)) for path in files)
        elif predictor.columns:
            yield from _rows(predictor, files)
        elif predictor.takes_images and predictor.metadata.dtype == torch.uint8:
            yield from _images(predictor, files)
        else:
            shape = list(predictor.prepare.shape)
            reason = f"the model takes arrays {shape}, which only .npy, .npz and .safetensors files provide"
            advice = "In Python: trainer.load(RUN).predict(array)."
            raise UserError(Problem(predictor.checkpoint.name, reason, advice=advice))


def _holds_arrays(path: str | Sample) -> bool:
    return isinstance(path, str) and Path(path).suffix.lower() in SUFFIXES


def _rows_of_array(predictor: Predictor, path: str) -> Iterator[Sample]:
    """Yield the samples of the inputs in a file of arrays, named by their index."""
    name = readable(path)
    try:
        array = inputs_in(path).read()
        for start in range(0, len(array), DECODED):
            for number, sample in enumerate(predictor.raw(array[start : start + DECODED]), start):
                yield Sample(f"{name}[{number}]", sample)
    except UserError as error:
        yield Sample(name, None, _reasons(error))


def _images(predictor: Predictor, files: Iterator[str | Sample]) -> Iterator[Sample]:
    shape, dtype, spec = predictor.prepare.shape, predictor.metadata.dtype, predictor.checkpoint.decode_spec

    def read(path: str | Sample) -> Sample:
        if isinstance(path, Sample):
            return path
        try:
            return Sample(readable(path), raw.image(path, shape, dtype, spec))
        except BadImage as error:
            return Sample(readable(path), None, str(error))

    with ThreadPoolExecutor(device.cores()) as pool:
        while batch := list(itertools.islice(files, DECODED)):
            yield from pool.map(read, batch)


def _rows(predictor: Predictor, files: Iterator[str | Sample]) -> Iterator[Sample]:
    encoder, images = predictor.encoder(), suffixes()
    separator = predictor.checkpoint.separator
    for path in files:
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
        assert not isinstance(header, BadRow)  # `stream` raises it
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


def chunks(inputs: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Yield lists of `size` readable samples each, divided as a split is divided into batches.

    A single remaining sample joins the last list. Samples that cannot be read keep their place.
    """
    held: list[Sample] = []
    places: list[int] = []  # of the readable ones in `held`
    for sample in inputs:
        if sample.raw is not None:
            places.append(len(held))
        held.append(sample)
        if len(places) == size + 2:
            cut = places[size]
            yield held[:cut]
            held, places = held[cut:], [place - cut for place in places[size:]]
    if held:
        yield held
