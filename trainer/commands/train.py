"""`train [key=value ...]`: start or resume a run or a sweep."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from trainer.config.words import split_words
from trainer.errors import Problem, UserError
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
    return flags, *split_words(rest)


def run_train(words: list[str]) -> int:
    """Run `train` with these arguments; return the exit code."""
    sys.path.append(os.getcwd())  # for a user's own `_target_: mymodule.Net`; last, so that it shadows nothing
    flags, overrides, problems = _parse(words)
    if flags.help or flags.version or flags.shell_completion:
        return _inform(flags)
    if not flags.cfg:
        survive_loss()
    from trainer.run.command import Command
    from trainer.run.start import read_job, run_job
    from trainer.sweeps.request import read_request

    command = ["train", *words]
    request = read_request(overrides, problems, config_dir=flags.config_dir, multirun=flags.multirun)
    if request.is_sweep and flags.cfg and request.folder is None:
        from trainer.sweeps.grid import compose_jobs

        return _print_yaml(*(job.stored for job in compose_jobs(request.composer, request.grid)))
    if request.is_sweep:
        from trainer.sweeps.start import start_sweep

        return start_sweep(request, command).exit_code
    job, folder = read_job(request.composer, request.words, problems)
    if flags.cfg:
        return _print_yaml(job.stored)
    return run_job(job, folder, Command(command, STARTED)).exit_code


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
