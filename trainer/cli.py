"""The commands `train` and `trainer`: from argv to jobs, from exceptions to exit codes. Never imports torch itself."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

STARTED = time.perf_counter()
EXIT_USAGE = 2


def train() -> NoReturn:
    """Console script `train`."""
    sys.exit(guarded(lambda: run_train(sys.argv[1:])))


def trainer() -> NoReturn:
    """Console script `trainer`: `trainer train ...` is `train ...`."""
    words = sys.argv[1:]
    if words[:1] == ["train"]:
        words = words[1:]
    sys.exit(guarded(lambda: run_train(words)))


def guarded(command: Callable[[], int]) -> int:
    """The command's exit code; users' mistakes and failed runs become sentences, our own mistakes a traceback."""
    from trainer.errors import RunFailed, UserError
    from trainer.report.messages import print_problems

    try:
        return command()
    except UserError as error:
        print_problems(error.problems)
        return EXIT_USAGE
    except RunFailed as error:
        print_problems([str(error)])
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        from trainer.errors import UserError

        raise UserError(message)


def _parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Flags, which may stand anywhere, and overrides.

    Raises:
        UserError: a flag that there is none of.
    """
    from trainer.errors import UserError

    parser = _Parser(prog="train", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--shell-completion", "-sc")
    flags, rest = parser.parse_known_args(list(words))
    unknown = [word for word in rest if word.startswith("-")]
    problems = []
    for word in unknown:
        name, _, value = word.lstrip("-").partition("=")
        follows = rest[rest.index(word) + 1] if rest.index(word) + 1 < len(rest) else ""
        if not value and follows and not follows.startswith("-") and "=" not in follows:
            value = follows
            rest.remove(follows)
        problems.append(f"{word}: no such flag. Keys are given without dashes: {name.replace('-', '_')}={value or '...'}")
    if problems:
        raise UserError(*problems, *_silent_problems([w for w in rest if not w.startswith("-")], flags))
    return flags, rest


def _silent_problems(words: list[str], flags: argparse.Namespace) -> list[str]:
    """Problems of the other words, so that all are told at once."""
    from trainer.compose import Composer

    composer = Composer(flags.config_dir)
    overrides, problems = composer.read(words, sweep=flags.multirun)
    return problems + (composer.job(overrides).problems if not flags.multirun else [])


def run_train(words: list[str]) -> int:
    """`train` with these arguments; returns the exit code."""
    sys.path.append(os.getcwd())  # a user's own `_target_: mymodule.Net`; last, so that it shadows nothing
    flags, overrides = _parse(words)
    if flags.help:
        from trainer.helptext import help_text

        print(help_text(flags.config_dir))
        return 0
    if flags.version:
        from trainer import __version__

        print(f"trainer {__version__}")
        return 0
    if flags.shell_completion:
        from trainer.completion import complete

        return complete(flags.shell_completion)
    return _run_jobs(flags, overrides, ["train", *words])


def _run_jobs(flags: argparse.Namespace, words: list[str], command: list[str]) -> int:
    from trainer.compose import Composer

    composer = Composer(flags.config_dir)
    if any(word.startswith("resume=") for word in words):
        from trainer.resume import resumed_job

        job, folder = resumed_job(composer, words)
    else:
        job, folder = _single_job(composer, words), None
    if flags.cfg:
        import yaml

        print(yaml.safe_dump(job.stored, sort_keys=False, allow_unicode=True), end="")
        return 0
    from trainer.run import execute

    return execute(job, folder, command=command, started=STARTED)


def _single_job(composer, words: list[str]):
    """The job of these words.

    Raises:
        UserError: with all problems, those included that only a target's signature or the machine can show, where
            something stands that only they can judge.
    """
    from trainer.errors import UserError

    overrides, problems = composer.read(words, sweep=False)
    job = composer.job(overrides)
    problems += job.problems
    if problems:
        raise UserError(*problems, *deep_problems(job))
    return job


def deep_problems(job) -> list[str]:
    """What only torch can tell of this job's device and of parts that are not as shipped."""
    asks_device = job.config.device not in ("auto", "cpu")
    if not (job.unusual or asks_device):
        return []
    from trainer import build, device
    from trainer.errors import UserError

    problems = build.check(job.config, [part for part in job.unusual if f"{part}._target_" not in " ".join(job.problems)])
    if asks_device:
        try:
            device.choose(job.config.device)
        except UserError as error:
            problems += error.problems
    return problems
