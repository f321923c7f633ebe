"""The process of a sweep that `trainer.sweep` starts; this file is run as a script.

Its workers are forked, which is safe only from a process that has never used several threads (`trainer.processes`).
It reads the sweep from stdin, as JSON, and writes how the sweep ended to a file, also as JSON.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any


def main() -> None:
    """Run the sweep that stdin describes."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # Jupyter sets them, but the caller copies lines, not a terminal's
        os.environ.pop(name, None)
    from trainer.errors import print_problems
    from trainer.report.output import open_streams, survive_loss
    from trainer.sweeps.worker import exit_with

    exit_with(request["parent"])
    open_streams()
    survive_loss()  # that of the caller's process
    answer = run(request)
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")
    if "failed" in answer:
        print_problems([answer["failed"]])


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a sweep; return its folder, or the problems or the sentence of the exception that ended it."""
    from trainer.config.words import split_words
    from trainer.errors import RunFailed, UserError, out_of_memory
    from trainer.sweeps.request import read_request
    from trainer.sweeps.start import start_sweep

    try:
        words, problems = split_words(request["words"])
        sweep = read_request(words, problems, config_dir=request["config_dir"], multirun=True)
        ended = start_sweep(sweep, ["train", "-m", *words])
    except UserError as error:
        return {"problems": [asdict(problem) for problem in error.problems]}
    except RunFailed as error:
        return {"failed": str(error)}
    except (MemoryError, RuntimeError) as error:
        if sentence := out_of_memory(error):
            return {"failed": sentence}
        raise
    trust = [o.value() for o in sweep.grid.parsed if o.key_or_group == "trust"]
    return {"folder": ended.folder and str(ended.folder.absolute()), "trust": sweep.folder is None or trust == [True]}


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before there was anything to save
        sys.exit(130)
