"""Decoding of many files at once, by a process per core."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from trainer.data.images import decode
from trainer.data.images.decode import DIGEST_BYTES, DecodeResult, ResizeSpec, SizeMismatch
from trainer.errors import RunFailed

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much; may raise to end it
Rows = Path | np.ndarray | None  # a file of rows, an array [N, H, W, 3], or nothing: only the bad files are wanted
DOING = "decoding images"
PROBES = 4  # images by which it is told how long all will take
WORTH_SECONDS = 0.5  # work for a process that is worth its start
CHUNK = 16
AHEAD = 2
FITS = 8192  # bytes that a pipe takes without anyone reading
LOOK_SECONDS = 0.1


def decode_all(
    paths: list[str],
    shape: tuple[int, ...],
    geometry: ResizeSpec,
    rows: Rows,
    progress: Progress,
    *,
    processes: int | None = None,
) -> DecodeResult:
    """Decodes files, each into its row.

    Args:
        shape: [H, W, 3] of a row.
        processes: default: one per core, fewer or none for little work.

    Raises:
        Unequal: an image is not of this shape.
        OSError: the file of rows could not be written.
    """
    begin = time.perf_counter()
    chunks = [(first, paths[first : first + CHUNK]) for first in range(PROBES, len(paths), CHUNK)]
    found = _decode_here([(0, paths[:PROBES])], shape, geometry, rows, lambda done: progress(DOING, done, len(paths)))
    if processes is None:
        seconds = (time.perf_counter() - begin) / PROBES * len(paths)
        processes = min(_cores(), int(seconds / WORTH_SECONDS))

    def look(done: int) -> None:
        progress(DOING, PROBES + done, len(paths))

    if processes < 2:
        found |= _decode_here(chunks, shape, geometry, rows, look)
    elif chunks:
        found |= _Processes(shape, geometry, rows).decode(chunks, processes, look)
    ordered = sorted(found.items())
    problems = [(first + number, why) for first, part in ordered for number, why in part.problems]
    return DecodeResult(b"".join(part.digests for _, part in ordered), problems)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Chunk = tuple[int, list[str]]  # the first row and the files
Look = Callable[[int], None]  # is told how many files are done


def _decode_here(
    chunks: list[Chunk], shape: tuple[int, ...], geometry: ResizeSpec, rows: Rows, look: Look
) -> dict[int, DecodeResult]:
    """What was found in each chunk, by its first row."""
    found, done = {}, 0
    file = os.open(rows, os.O_WRONLY) if isinstance(rows, Path) else None
    sink = decode.into_file(file) if file is not None else _sink(rows)
    try:
        for first, paths in chunks:
            look(done)
            found[first] = decode.decode_rows(paths, first, shape, geometry, sink)
            done += len(paths)
    finally:
        if file is not None:
            os.close(file)
    if chunks:
        look(done)
    return found


def _sink(rows: Rows) -> decode.Sink:
    return rows.__setitem__ if isinstance(rows, np.ndarray) else lambda row, pixels: None


class _Processes:
    """Decodes in processes of `decode.py`, each led by a thread that waits for its answers.

    Not multiprocessing: its processes import the main module again, which may be a user's script without a guard or
    one that imports torch, and they outlive a parent that is killed. These end with their standard input.
    """

    def __init__(self, shape: tuple[int, ...], geometry: ResizeSpec, rows: Rows) -> None:
        self.rows = rows
        path = rows if isinstance(rows, Path) else None
        self.request = decode.request(shape, geometry, path, send=isinstance(rows, np.ndarray)).encode()
        self.queue: deque[Chunk] = deque()
        self.found: dict[int, DecodeResult] = {}
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock, self.ended = threading.Lock(), False

    def decode(self, chunks: list[Chunk], processes: int, look: Look) -> dict[int, DecodeResult]:
        """What was found in each chunk, by its first row."""
        self.queue.extend(chunks)
        with ThreadPoolExecutor(processes) as threads:
            try:
                waiting = {threads.submit(self._lead) for _ in range(processes)}
                while waiting:
                    done, waiting = wait(waiting, LOOK_SECONDS)
                    for future in done:
                        future.result()
                    look(sum(len(found.digests) for found in list(self.found.values())) // DIGEST_BYTES)
            finally:
                with self.lock:
                    self.ended = True
                    for process in self.running:
                        process.kill()
        return self.found

    def _lead(self) -> None:
        """Starts a process and hands it chunks until none is left; a file that ends it is found by itself."""
        process = self._start()
        handed: deque[Chunk] = deque()
        try:
            while not self.ended:
                self._hand(process, handed)
                if not handed:
                    return
                assert process.stdout
                first, paths = handed.popleft()
                line = process.stdout.readline()
                if line.endswith(b"\n") and (found := self._read(process, line, first)):
                    self.found[first] = found
                elif not self.ended:
                    reason = f"not a readable image (its decoding ended with {_ending(process.wait())})"
                    if len(paths) > 1:
                        self.queue.extend((first + number, [path]) for number, path in enumerate(paths))
                    else:
                        self.found[first] = DecodeResult(bytes(DIGEST_BYTES), [(0, reason)])
                    self.queue.extend(handed)
                    handed.clear()
                    self._stop(process)
                    process = self._start()
        finally:
            self._stop(process)

    def _hand(self, process: subprocess.Popen[bytes], handed: deque[Chunk]) -> None:
        """Two chunks at a time, so that a process has the next one while its answer is read."""
        while len(handed) < AHEAD and self.queue:
            try:
                chunk = self.queue.popleft()
            except IndexError:  # another thread was quicker
                return
            line = json.dumps(chunk).encode()
            if handed and len(line) > FITS:  # else both sides could wait for the other to read
                self.queue.appendleft(chunk)
                return
            handed.append(chunk)
            _tell(process, line)

    def _start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-P", "-W", "ignore", decode.__file__]
        with self.lock:
            # A session of its own: Ctrl-C is for this process, which ends the others.
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            self.running.add(process)
            if self.ended:
                process.kill()
        assert process.stdout
        _tell(process, self.request)
        if not process.stdout.readline() and not self.ended:
            self._stop(process)
            raise RunFailed(f"a decoding process did not start: {' '.join(words)}.")
        return process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()
        with self.lock:
            self.running.discard(process)

    def _read(self, process: subprocess.Popen[bytes], line: bytes, first: int) -> DecodeResult | None:
        """What an answer says, its pixels put into their rows; None where the process ended in the middle."""
        answer = json.loads(line)
        if "unequal" in answer:
            raise SizeMismatch(*answer["unequal"])
        if "error" in answer:
            raise OSError(answer["error"])
        found = DecodeResult(base64.b64decode(answer["digests"]), [tuple(problem) for problem in answer["problems"]])
        if isinstance(self.rows, np.ndarray):
            assert isinstance(process.stdout, io.BufferedReader)
            without = {number for number, _ in found.problems}
            for number in range(len(found.digests) // DIGEST_BYTES):
                row = self.rows[first + number]
                if number not in without and process.stdout.readinto(row.data) < row.nbytes:
                    return None
        return found


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Hands a line to a process; that it has ended is seen where its answer is read."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line + b"\n")
        process.stdin.flush()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"
