"""`trainer.train`: train a run from Python."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.api.isolation import isolated, kept_accelerators
from trainer.api.keywords import words_of
from trainer.api.objects import split_objects
from trainer.api.run import TrainedRun
from trainer.config.words import split_words
from trainer.errors import Problem, UserError
from trainer.run.command import Command
from trainer.run.start import read_job, run_job
from trainer.sweeps.request import read_request


def train(*words: str, config_dir: str | Path | None = None, quiet: bool = False, **keywords: Any) -> TrainedRun:
    """Train a run as the command `train` does: the same files in `outputs/`, the same results.

    Ctrl-C, or interrupting the kernel of a notebook, saves the run and returns it with status "interrupted";
    `trainer.train(resume=run.folder)` continues it. A run that diverges is returned, too. The random streams, torch's
    settings and the signal handlers of the calling program are as before when the call returns or raises.

    Args:
        words: overrides as typed in a terminal, such as `"model=lenet5"`.
        config_dir: a folder of your own YAML files, searched before `./conf`.
        quiet: print nothing; train.log in the run's folder has all lines.
        keywords: the same as values: `epochs=5`, `optim={"lr": 1e-3}`, `resume=run.folder`. `model` may also be a
            torch.nn.Module, which is copied, or its class; `data` may be `(X, y)` (arrays, tensors, lists, or a
            DataFrame and a column), a torch Dataset, or a dict of these for train, valid and test. They are no part
            of the stored configuration: pass them again to resume.

    Returns:
        The run, whose `status` says how it ended.

    Raises:
        UserError: a word, a value or the data is wrong; `problems` holds everything that is.
        RunFailed: the run could not go on: a full disk, damaged checkpoints, a data worker that ended.
        KeyboardInterrupt: Ctrl-C before the training began, or a second time.
    """
    started = time.perf_counter()
    overrides, problems = split_words(words)
    objects, values = split_objects(keywords)
    more, refused = words_of({**objects.keywords(resumed="resume" in values), **values})
    overrides, problems = [*overrides, *more], [*problems, *refused]
    with isolated(), objects.passed():
        request = read_request(overrides, problems, config_dir=None if config_dir is None else str(config_dir))
        if request.is_sweep:
            raise UserError(*problems, Problem("", "these overrides make a sweep", command="trainer.sweep(...)"))
        job, folder = read_job(request.composer, request.words, problems)
        job = replace(job, choices=job.choices | objects.shown)
        command = Command(["train", *overrides], started, embedded=True, quiet=quiet)
        with kept_accelerators(job.config.device):
            ended = run_job(job, folder, command)
    if ended.signal in (signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(ended.signal)  # the run is saved; what else it means is up to the caller
    if ended.folder is None:
        raise KeyboardInterrupt
    trust = folder is None or job.config.trust or bool(objects.names)
    return TrainedRun(ended.folder, objects, trust=trust)
