"""`trainer.sweep`: run a sweep from Python."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from trainer.api.keywords import words_of
from trainer.api.objects import split_objects
from trainer.api.process import run_streaming
from trainer.api.sweep import TrainedSweep
from trainer.config.words import split_words
from trainer.errors import Problem, RunFailed, UserError
from trainer.processes import describe_exit
from trainer.signals import Signals

DRIVER = Path(__file__).with_name("driver.py")


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
    with Signals(ends_process=False) as signals:
        directory = None if config_dir is None else str(config_dir)
        code, answer = _run_driver({"words": [*words, *values], "config_dir": directory}, signals, quiet=quiet)
    if signals.received in (signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(signals.received)  # the jobs are saved; what else it means is up to the caller
    if "problems" in answer:
        raise UserError(*(Problem(**problem) for problem in answer["problems"]))
    if answer.get("folder"):
        return TrainedSweep(answer["folder"], trust=answer["trust"])
    if signals.received is not None:
        raise KeyboardInterrupt
    if answer and "failed" not in answer:
        reason = "it prints the jobs of a sweep, and there is none to return"
        raise UserError(Problem("sweep.dry_run", reason, given="true", command="train -m ... sweep.dry_run=true"))
    raise RunFailed(answer.get("failed", f"the process of the sweep ended early: {describe_exit(code)}."))


def _run_driver(request: dict[str, object], signals: Signals, *, quiet: bool) -> tuple[int, dict[str, Any]]:
    """Run the driver to its end; return its exit code and its answer, which is empty if it did not get so far."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.json"
        request |= {"path": [os.path.abspath(entry) for entry in sys.path], "parent": os.getpid(), "answer": str(path)}
        # -P: this program's own folder must not come first on the path.
        code = run_streaming([sys.executable, "-P", str(DRIVER)], json.dumps(request), signals, quiet=quiet)
        return code, json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
