"""Decode image files in turn, in this process or in one of its own.

Imports nothing of this package but decode.py, so that such a process starts at once: `python -P serve.py` runs `serve`.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO

import numpy as np

if __name__ == "__main__":  # -P keeps other folders out
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from trainer.data.images.decode import DIGEST_BYTES, BadImage, DecodeSpec, decode


class SizeMismatch(ValueError):
    """An image of another size than the first one; the text is its size, `row` its number."""

    def __init__(self, row: int, size: str) -> None:
        super().__init__(size)
        self.row = row


@dataclass
class DecodeResult:
    """Digests of decoded files, DIGEST_BYTES each (zeros if unusable), and (number, reason) of the unusable ones."""

    digests: bytes
    problems: list[tuple[int, str]]


Sink = Callable[[int, np.ndarray], None]  # takes the number of a row and its pixels


def decode_rows(paths: list[str], first: int, shape: tuple[int, ...], spec: DecodeSpec, sink: Sink) -> DecodeResult:
    """Decode files in turn and pass the pixels of each to `sink`.

    The first file belongs to the row `first`; `shape` is that of a row, [H, W, C].

    Raises:
        SizeMismatch: an image of another shape.
    """
    digests, problems = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file is either used or refused with a reason
        for number, path in enumerate(paths):
            digest = bytes(DIGEST_BYTES)
            try:
                pixels = np.ascontiguousarray(decode(path, spec))
                if pixels.shape != shape:
                    raise SizeMismatch(first + number, f"{pixels.shape[1]}x{pixels.shape[0]}")
                digest = blake2b(pixels.data, digest_size=DIGEST_BYTES).digest()
                sink(first + number, pixels)
            except BadImage as error:
                problems.append((number, str(error)))
            digests.append(digest)
    return DecodeResult(b"".join(digests), problems)


def file_sink(file: int) -> Sink:
    """Return a sink that writes to a file: on a full disk, a memory map would end the process by a signal."""

    def write(row: int, pixels: np.ndarray) -> None:
        data, at = pixels.data.cast("B"), row * pixels.nbytes
        while data:
            written = os.pwrite(file, data, at)
            data, at = data[written:], at + written

    return write


def serve(lines: Iterator[str], answers: IO[bytes]) -> None:
    """Decode files until there are no more lines.

    The first line is a JSON object with `shape`, `spec` (a DecodeSpec), `path` of the file that takes the rows or
    null, and `send`: whether the pixels of good files follow each answer instead. Each further line is [first row,
    paths]; the answer is a line with the fields of DecodeResult, or {"mismatch": ...} or {"error": ...}.
    """
    settings = json.loads(next(lines))
    spec, shape = DecodeSpec(**settings["spec"]), tuple(settings["shape"])
    sent: list[np.ndarray] = []
    write = file_sink(os.open(settings["path"], os.O_WRONLY | os.O_NOFOLLOW)) if settings["path"] else None

    def sink(row: int, pixels: np.ndarray) -> None:
        if write:
            write(row, pixels)
        elif settings["send"]:
            sent.append(pixels)

    answers.write(b"ready\n")
    answers.flush()
    for line in lines:
        first, paths = json.loads(line)
        try:
            result = decode_rows(paths, first, shape, spec, sink)
            answer: dict[str, object] = {"digests": result.digests.hex(), "problems": result.problems}
        except SizeMismatch as error:
            answer = {"mismatch": [error.row, str(error)]}
        except OSError as error:
            answer = {"error": error.strerror or str(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        for pixels in sent:
            answers.write(pixels.data)
        sent.clear()
        answers.flush()


if __name__ == "__main__":
    try:
        serve(iter(sys.stdin), sys.stdout.buffer)
    except BrokenPipeError:  # the parent process is gone
        os._exit(1)
