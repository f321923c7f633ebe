"""`trainer.sweep`: run a sweep from Python."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.api import driver
from trainer.api.driver import Answer, Order
from trainer.api.keywords import words_of
from trainer.api.objects import split_objects
from trainer.api.process import run_streaming
from trainer.api.sweep import TrainedSweep
from trainer.config.words import split_words
from trainer.errors import Problem, RunFailed, UserError
from trainer.files import read_text
from trainer.processes import describe_exit
from trainer.signals import Signals

LARGEST_BYTES = 100_000_000  # of the driver's answer


def sweep(*words: str, config_dir: str | Path | None = None, quiet: bool = False, **keywords: Any) -> TrainedSweep:
    """Run a sweep as the command `train -m` does: `trainer.sweep("optim.lr=1e-4,1e-3", "seed=range(3)", epochs=5)`.

    The sweep runs in a process of its own, whose workers train the jobs; what it prints appears here. Ctrl-C, or
    interrupting the kernel of a notebook, saves the jobs and returns the sweep; `trainer.sweep(resume=sweep.folder)`
    continues it. A class of your own must be in a file, `_target_=mymodule.Net`: other processes cannot import what
    the calling script or notebook defines.

    Args:
        words: overrides as typed in a terminal; several values, `key=a,b` or `key=range(3)`, make jobs.
        config_dir: a folder of your own YAML files, searched before `./conf`.
        quiet: print nothing but diagnostics.
        keywords: values that all jobs share: `epochs=5`, `optim={"lr": 1e-3}`. A list is one value.

    Returns:
        The sweep; the leaderboard says how each job ended.

    Raises:
        UserError: a word, a value or the data is wrong; `problems` holds everything that is. Nothing was trained.
        RunFailed: the sweep could not go on.
        KeyboardInterrupt: Ctrl-C before there was a job to save, or a second time.
    """
    objects, shared = split_objects(keywords)
    values, refused = words_of(shared)
    reason = "the jobs of a sweep run in processes of their own, which an object does not reach"
    refused += [Problem(name, reason, advice=f"Name a class in a file: {name}._target_.") for name in objects.names]
    if refused:
        raise UserError(*split_words(words)[1], *refused)
    directory = None if config_dir is None else str(config_dir)
    with Signals(ends_process=False) as signals:
        code, answer = _run_driver([*words, *values], directory, signals, quiet=quiet)
    if signals.received in (signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(signals.received)  # the jobs are saved; what else it means is up to the caller
    if answer is not None and answer.problems:
        raise UserError(*answer.problems)
    if answer is not None and answer.folder:
        return TrainedSweep(answer.folder, trust=answer.trust)
    if signals.received is not None:
        raise KeyboardInterrupt
    if answer is None or answer.failed:
        early = f"the process of the sweep ended early: {describe_exit(code)}."
        raise RunFailed(early if answer is None else answer.failed)
    reason = "it prints the jobs of a sweep, and there is none to return"
    raise UserError(Problem("sweep.dry_run", reason, given="true", command="train -m ... sweep.dry_run=true"))


def _run_driver(
    words: list[str], config_dir: str | None, signals: Signals, *, quiet: bool
) -> tuple[int, Answer | None]:
    """Run the driver to its end; return its exit code and its answer, None if it did not get so far."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.json"
        order = Order(words, config_dir, [os.path.abspath(entry) for entry in sys.path], os.getpid(), str(path))
        # -P: this program's own folder must not come first on the path.
        program = [sys.executable, "-P", driver.__file__]
        code = run_streaming(program, json.dumps(asdict(order)), signals, quiet=quiet)
        if not path.exists():
            return code, None
        content = json.loads(read_text(path, LARGEST_BYTES))
        problems = [Problem(**problem) for problem in content.pop("problems")]
        return code, Answer(**content, problems=problems)
