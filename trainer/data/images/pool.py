"""Decode many image files at once, with a process per core."""

from __future__ import annotations

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
from dataclasses import asdict
from pathlib import Path

import numpy as np

from trainer.data.images import serve
from trainer.data.images.decode import DIGEST_BYTES, DecodeSpec
from trainer.data.images.serve import DecodeResult, Sink, SizeMismatch, decode_rows, file_sink
from trainer.device import cores
from trainer.errors import RunFailed

Progress = Callable[[str, int, int], None]  # takes an activity, the number done and the total; may raise to end it
Rows = Path | np.ndarray | None  # destination: a file of rows, an array [N, H, W, C], or None to keep no pixels
Chunk = tuple[int, list[str]]  # the first row and the files
ACTIVITY = "decoding images"
PROBES = 4  # images from which the total time is estimated
MIN_SECONDS = 0.5  # of work per process: less is not worth starting one
CHUNK = 16
QUEUED_CHUNKS = 2  # per process, so that it has the next one while its answer is read
PIPE_BYTES = 8192  # can be written to a pipe without anyone reading
POLL_SECONDS = 0.1


def decode_all(
    paths: list[str],
    shape: tuple[int, ...],
    spec: DecodeSpec,
    rows: Rows,
    progress: Progress,
    *,
    processes: int | None = None,
) -> DecodeResult:
    """Decode files, each into its row.

    Args:
        shape: [H, W, C] of a row.
        rows: where the pixels go.
        processes: default: one per core, fewer or none if there is little to do.

    Raises:
        SizeMismatch: an image of another shape.
        OSError: the file of rows could not be written.
        RunFailed: a decoding process does not start.
    """
    begin = time.perf_counter()
    chunks = [(first, paths[first : first + CHUNK]) for first in range(PROBES, len(paths), CHUNK)]
    probes = [(0, paths[:PROBES])]
    results = _decode_here(probes, shape, spec, rows, lambda done: progress(ACTIVITY, done, len(paths)))
    if processes is None:
        seconds = (time.perf_counter() - begin) / PROBES * len(paths)
        processes = min(cores(), int(seconds / MIN_SECONDS))

    def report(done: int) -> None:
        progress(ACTIVITY, PROBES + done, len(paths))

    if processes < 2:
        results |= _decode_here(chunks, shape, spec, rows, report)
    elif chunks:
        results |= _DecoderPool(shape, spec, rows).decode(chunks, processes, report)
    ordered = sorted(results.items())
    problems = [(first + number, reason) for first, result in ordered for number, reason in result.problems]
    return DecodeResult(b"".join(result.digests for _, result in ordered), problems)


def _decode_here(
    chunks: list[Chunk], shape: tuple[int, ...], spec: DecodeSpec, rows: Rows, report: Callable[[int], None]
) -> dict[int, DecodeResult]:
    """Decode in this process; return the result of each chunk by its first row."""
    results, done = {}, 0
    file = os.open(rows, os.O_WRONLY | os.O_NOFOLLOW) if isinstance(rows, Path) else None
    sink = file_sink(file) if file is not None else _sink(rows)
    try:
        for first, paths in chunks:
            report(done)
            results[first] = decode_rows(paths, first, shape, spec, sink)
            done += len(paths)
    finally:
        if file is not None:
            os.close(file)
    if chunks:
        report(done)
    return results


def _sink(rows: Rows) -> Sink:
    return rows.__setitem__ if isinstance(rows, np.ndarray) else lambda row, pixels: None


class _DecoderPool:
    """Processes that run `serve.py`, each led by a thread that waits for its answers.

    Not multiprocessing: its processes would import the main module again, which may be a user's script that imports
    torch or has no guard, and would outlive a parent that is killed. These end when their standard input does. A file
    that crashes its process is found and named, and another process takes over.
    """

    def __init__(self, shape: tuple[int, ...], spec: DecodeSpec, rows: Rows) -> None:
        self.rows = rows
        path = str(rows) if isinstance(rows, Path) else None
        settings = {"shape": shape, "spec": asdict(spec), "path": path, "send": isinstance(rows, np.ndarray)}
        self.settings = json.dumps(settings).encode()
        self.queue: deque[Chunk] = deque()
        self.results: dict[int, DecodeResult] = {}
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock, self.ended = threading.Lock(), False

    def decode(self, chunks: list[Chunk], num_processes: int, report: Callable[[int], None]) -> dict[int, DecodeResult]:
        """Return the result of each chunk by its first row; `report` takes the number of files done."""
        self.queue.extend(chunks)
        with ThreadPoolExecutor(num_processes) as threads:
            try:
                waiting = {threads.submit(self._lead) for _ in range(num_processes)}
                while waiting:
                    done, waiting = wait(waiting, POLL_SECONDS)
                    for future in done:
                        future.result()
                    report(sum(len(result.digests) for result in list(self.results.values())) // DIGEST_BYTES)
            finally:
                with self.lock:
                    self.ended = True
                    for process in self.running:
                        process.kill()
        return self.results

    def _lead(self) -> None:
        """Run a process until the queue is empty; if it crashes, retry the files of its chunk one by one."""
        process = self._start()
        sent: deque[Chunk] = deque()
        try:
            while not self.ended:
                self._send_chunks(process, sent)
                if not sent:
                    return
                assert process.stdout
                first, paths = sent.popleft()
                line = process.stdout.readline()
                if line.endswith(b"\n") and (result := self._receive(process, line, first)):
                    self.results[first] = result
                elif not self.ended:
                    reason = f"not a readable image (its decoding ended with {_ending(process.wait())})"
                    if len(paths) > 1:
                        self.queue.extend((first + number, [path]) for number, path in enumerate(paths))
                    else:
                        self.results[first] = DecodeResult(bytes(DIGEST_BYTES), [(0, reason)])
                    self.queue.extend(sent)
                    sent.clear()
                    self._stop(process)
                    process = self._start()
        finally:
            self._stop(process)

    def _send_chunks(self, process: subprocess.Popen[bytes], sent: deque[Chunk]) -> None:
        while len(sent) < QUEUED_CHUNKS and self.queue:
            try:
                chunk = self.queue.popleft()
            except IndexError:  # another thread took the last one
                return
            line = json.dumps(chunk).encode()
            if sent and len(line) > PIPE_BYTES:  # both sides could block, each waiting for the other to read
                self.queue.appendleft(chunk)
                return
            sent.append(chunk)
            _send(process, line)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-W", "ignore", serve.__file__]
        with self.lock:
            # A session of its own: Ctrl-C goes to this process alone, which ends the others.
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            self.running.add(process)
            if self.ended:
                process.kill()
        assert process.stdout
        _send(process, self.settings)
        if not process.stdout.readline() and not self.ended:
            self._stop(process)
            raise RunFailed(f"a decoding process did not start: {' '.join(command)}.")
        return process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()
        with self.lock:
            self.running.discard(process)

    def _receive(self, process: subprocess.Popen[bytes], line: bytes, first: int) -> DecodeResult | None:
        """Return the result in an answer and store its pixels; None if the process ended in the middle of it."""
        answer = json.loads(line)
        if "mismatch" in answer:
            raise SizeMismatch(*answer["mismatch"])
        if "error" in answer:
            raise OSError(answer["error"])
        problems = [(number, reason) for number, reason in answer["problems"]]
        result = DecodeResult(bytes.fromhex(answer["digests"]), problems)
        if isinstance(self.rows, np.ndarray):
            assert isinstance(process.stdout, io.BufferedReader)
            bad = {number for number, _ in problems}
            for number in range(len(result.digests) // DIGEST_BYTES):
                row = self.rows[first + number]
                if number not in bad and process.stdout.readinto(row.data) < row.nbytes:
                    return None
        return result


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Write a line to a process; if it has ended, that is noticed when its answer is read."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line + b"\n")
        process.stdin.flush()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"
