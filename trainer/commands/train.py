"""`train [key=value ...]`: start or resume a run or a sweep."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from trainer.errors import Problem, UserError, printable
from trainer.report.output import survive_loss

STARTED = time.perf_counter()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(Problem("", message))


def _parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[Problem]]:
    """Return the flags, which may stand anywhere, the overrides, and a problem for each word that is neither."""
    parser = _Parser(prog="train", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--shell-completion", "-sc")
    flags, rest = parser.parse_known_args(list(words))
    overrides, problems = [], []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, _, value = word.lstrip("-").partition("=")
        if not value and rest and not rest[0].startswith("-") and "=" not in rest[0]:
            value = rest.pop(0)
        key = name.replace("-", "_")
        command = f"{key}={value or '...'}"
        problems.append(Problem(word, "no such flag", advice="Write keys without dashes", command=command))
    return flags, overrides, problems


def run_train(words: list[str]) -> int:
    """Run `train` with these arguments; return the exit code."""
    sys.path.append(os.getcwd())  # for a user's own `_target_: mymodule.Net`; last, so that it shadows nothing
    flags, overrides, problems = _parse(words)
    if flags.help or flags.version or flags.shell_completion:
        return _inform(flags)
    if not flags.cfg:
        survive_loss()
    from trainer.config.compose import Composer
    from trainer.run.job import new_job
    from trainer.run.resume import complete, is_finished, resumed_job
    from trainer.sweeps.grid import compose_jobs, read_overrides

    command = ["train", *words]
    composer = Composer(flags.config_dir)
    launcher = [word for word in overrides if word.startswith("hydra")]
    overrides = [word for word in overrides if word not in launcher]
    if launcher:
        from trainer.sweeps.launch import check

        check(launcher)
    grid = read_overrides(composer, overrides, problems)
    if (folder := _sweep_folder(overrides)) is not None:
        from trainer.sweeps.start import resumed_sweep

        return resumed_sweep(composer, folder, grid, command, launcher)
    if flags.multirun or grid.experiment is not None:
        if flags.cfg:
            return _print_yaml(*(job.stored for job in compose_jobs(composer, grid)))
        from trainer.sweeps.start import new_sweep

        return new_sweep(composer, grid, command, launcher)
    if any(word.startswith("resume=") for word in overrides):
        job, folder = resumed_job(composer, overrides, problems)
        if is_finished(folder, job):
            for written in complete(folder, job):
                print(printable(f"written    {written}, which was missing"))
            more = f"More epochs: train resume={folder} epochs=N"
            print(printable(f"{folder}: the run is finished, nothing is left to do. {more}"))
            return 0
    else:
        job = new_job(composer, overrides, problems)
    if flags.cfg:
        return _print_yaml(job.stored)
    from trainer.run.execute import execute
    from trainer.run.run import Command

    return execute(job, Command(command, STARTED), resume=folder)


def _inform(flags: argparse.Namespace) -> int:
    """Print the help, the version or the completions; return the exit code."""
    if flags.help:
        from trainer.commands.help import help_text

        print(help_text(flags.config_dir))
        return 0
    if flags.version:
        from trainer import __version__

        print(f"trainer {__version__}")
        return 0
    from trainer.commands.completion import complete

    return complete(flags.shell_completion, flags.config_dir)


def _print_yaml(*stored: dict[str, Any]) -> int:
    """Print configurations as YAML documents; return the exit code."""
    import yaml

    text = yaml.safe_dump_all(stored, sort_keys=False, allow_unicode=True)
    if not text.replace("\n", "").isprintable():  # not all marks that steer a terminal are escaped
        text = yaml.safe_dump_all(stored, sort_keys=False)
    print(text, end="")
    return 0


def _sweep_folder(words: list[str]) -> Path | None:
    """Return the folder of the sweep that `resume=` names; None if it names none."""
    from trainer.records.find import sweep_to_resume

    names = [word.partition("=")[2] for word in words if word.startswith("resume=")]
    return sweep_to_resume(names[0]) if names else None
