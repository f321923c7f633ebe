"""Entry points of `train` and `trainer`, and the exit codes of exceptions. Imports no torch itself."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn

from trainer.commands.train import run_train
from trainer.files import check_current_folder
from trainer.report.output import OutputLost, open_streams, survive_loss

EXIT_USAGE = 2


def train() -> NoReturn:
    """Run the console script `train`."""
    with _command("train") as code:
        check_current_folder()
        code.value = run_train(sys.argv[1:])
    sys.exit(code.value)


def trainer() -> NoReturn:
    """Run the console script `trainer`; `trainer train` is the same as `train`."""
    with _command("trainer") as code:
        check_current_folder()
        code.value = run_trainer(sys.argv[1:])
    sys.exit(code.value)


@contextmanager
def _command(program: str) -> Iterator[ExitCode]:
    """Run a command with this process's streams, and yield its exit code."""
    open_streams()
    with ExitCode(program) as code:
        yield code
        sys.stdout.flush()
    survive_loss()  # nobody could handle what is lost from here on


class ExitCode:
    """The exit code of the command in a `with` block.

    User errors, failed runs and a lack of memory are printed to stderr. Other exceptions are bugs and propagate as a
    traceback.

    Attributes:
        value: the exit code, set by the block or by the exception that ended it.
    """

    def __init__(self, program: str = "train") -> None:
        self.program, self.value = program, 0

    def __enter__(self) -> ExitCode:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        from trainer.errors import RunFailed, UserError, out_of_memory, print_problems, raised_at

        match error:
            case UserError():
                print_problems(error.problems, self.program)
                self.value = EXIT_USAGE
            case RunFailed():
                print_problems([str(error)], self.program)
                self.value = 1
            case BaseException() if sentence := out_of_memory(error):
                print_problems([sentence], self.program)
                self.value = 1
            case SystemExit():  # this program does not call sys.exit here
                print_problems([f"your own code ended the program: {raised_at(error)}."], self.program)
                self.value = 1
            case KeyboardInterrupt():
                self.value = 130
            case OutputLost(error=BrokenPipeError()):  # `| head`: end as a program that SIGPIPE ends
                self.value = 128 + signal.SIGPIPE
            case OutputLost():
                print_problems([f"stdout could not be written ({error.error.strerror})."], self.program)
                self.value = 1
            case _:
                return False
        return True


def run_trainer(words: list[str]) -> int:
    """Run `trainer` with these arguments; return the exit code."""
    if words[:1] == ["train"]:
        return run_train(words[1:])
    from trainer.commands.verbs import complete, run_verb

    shell = os.environ.get("_TRAINER_COMPLETE")  # set by the shell completion of click
    return complete(shell) if shell else run_verb(words)
