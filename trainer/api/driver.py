"""The process of a sweep that `trainer.sweep` starts; this file is run as a script.

Its workers are forked, which is safe only from a process that has never used several threads (`trainer.processes`).
It reads an `Order` from stdin, as JSON, and writes an `Answer` to a file, also as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.errors import Problem


@dataclass(frozen=True)
class Order:
    """The sweep to run.

    Attributes:
        words: overrides as typed.
        config_dir: a folder of the user's YAML files.
        path: the `sys.path` of the caller.
        parent: the caller's process id: the sweep ends with it.
        answer: the file to write.
    """

    words: list[str]
    config_dir: str | None
    path: list[str]
    parent: int
    answer: str


@dataclass(frozen=True)
class Answer:
    """The end of the sweep.

    Attributes:
        folder: the sweep's folder; None if there is none.
        trust: whether what its runs name was typed by the user.
        problems: those of a UserError.
        failed: the sentence of another exception.
    """

    folder: str | None = None
    trust: bool = False
    problems: list[Problem] = field(default_factory=list)
    failed: str = ""


def main() -> None:
    """Run the sweep that stdin describes."""
    order = Order(**json.load(sys.stdin))
    sys.path[:] = order.path
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # Jupyter sets them, but the caller copies lines, not a terminal's
        os.environ.pop(name, None)
    from trainer.errors import print_problems
    from trainer.files import write_atomically
    from trainer.report.output import open_streams, survive_loss
    from trainer.sweeps.worker import exit_with

    exit_with(order.parent)
    open_streams()
    survive_loss()  # that of the caller's process
    answer = run(order.words, order.config_dir)
    write_atomically(Path(order.answer), json.dumps(asdict(answer)).encode())
    if answer.failed:
        print_problems([answer.failed])


def run(words: list[str], config_dir: str | None) -> Answer:
    """Run the sweep of these words, and return how it ended."""
    from trainer.config.words import split_words
    from trainer.errors import RunFailed, UserError, out_of_memory
    from trainer.sweeps.request import read_request
    from trainer.sweeps.start import start_sweep

    try:
        overrides, problems = split_words(words)
        sweep = read_request(overrides, problems, config_dir=config_dir, multirun=True)
        ended = start_sweep(sweep, ["train", "-m", *overrides])
    except UserError as error:
        return Answer(problems=error.problems)
    except RunFailed as error:
        return Answer(failed=str(error))
    except (MemoryError, RuntimeError) as error:
        if sentence := out_of_memory(error):
            return Answer(failed=sentence)
        raise
    trust = [o.value() for o in sweep.grid.parsed if o.key_or_group == "trust"]
    folder = str(ended.folder.absolute()) if ended.folder else None
    return Answer(folder, trust=sweep.folder is None or trust == [True])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before there was anything to save
        sys.exit(130)
