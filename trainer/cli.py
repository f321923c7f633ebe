"""The commands `train` and `trainer`: from argv to jobs, from exceptions to exit codes. Never imports torch itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from trainer.commands.train import run_train

EXIT_USAGE = 2


def train() -> NoReturn:
    """Console script `train`."""
    sys.exit(guarded(lambda: run_train(sys.argv[1:])))


def trainer() -> NoReturn:
    """Console script `trainer`: `trainer train ...` is `train ...`, the other verbs are for before and after."""
    sys.exit(guarded(lambda: run_trainer(sys.argv[1:]), "trainer"))


def guarded(command: Callable[[], int], program: str = "train") -> int:
    """The command's exit code; users' mistakes and failed runs become sentences, our own mistakes a traceback."""
    from trainer.errors import RunFailed, UserError, print_problems, raised_at

    try:
        return command()
    except UserError as error:
        print_problems(error.problems, program)
        return EXIT_USAGE
    except RunFailed as error:
        print_problems([str(error)], program)
        return 1
    except SystemExit as error:  # nothing of ours calls it
        print_problems([f"code of your own ended the program: {raised_at(error)}."], program)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def run_trainer(words: list[str]) -> int:
    """`trainer` with these arguments; returns the exit code."""
    if words[:1] == ["train"]:
        return run_train(words[1:])
    from trainer.commands.verbs import complete, run_verb

    asked = os.environ.get("_TRAINER_COMPLETE")  # by a shell, in click's manner
    return complete(asked) if asked else run_verb(words)
