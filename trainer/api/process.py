"""A child process whose output appears as this one's, and which receives the signals that this one receives."""

from __future__ import annotations

import codecs
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence

from trainer.signals import Signals

POLL_SECONDS = 0.1
CHUNK = 65536  # bytes


def run_streaming(words: Sequence[str], text: str, signals: Signals, *, quiet: bool) -> int:
    """Run a program to its end and return its exit code.

    Its output goes to `sys.stdout` and `sys.stderr`, which may be those of a notebook. The first signal is passed on;
    an exception, such as that of a second one, ends the program.

    Args:
        words: the program and its arguments.
        text: what it reads from stdin.
        signals: signals that this process has received.
        quiet: whether its stdout is left out.
    """
    pipe = subprocess.PIPE
    # A group of its own, so that Ctrl-C in a terminal reaches it once, from here.
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0) as process:
        try:
            assert process.stdin is not None
            with process.stdin as stdin:
                stdin.write(text.encode())
            _copy(process, signals, quiet=quiet)
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def _copy(process: subprocess.Popen[bytes], signals: Signals, *, quiet: bool) -> None:
    """Copy the program's output until it has closed it, and pass on the first signal."""
    forwarded = False
    with selectors.DefaultSelector() as selector:
        for pipe, name in ((process.stdout, "stdout"), (process.stderr, "stderr")):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ, (name, codecs.getincrementaldecoder("utf-8")("replace")))
        while selector.get_map():
            if signals.received is not None and not forwarded:
                forwarded = True
                process.send_signal(signals.received)
            for key, _ in selector.select(POLL_SECONDS):
                name, decoder = key.data
                content = os.read(key.fd, CHUNK)
                if not content:
                    selector.unregister(key.fileobj)
                if not (quiet and name == "stdout"):
                    stream = getattr(sys, name)
                    stream.write(decoder.decode(content, final=not content))
                    stream.flush()
