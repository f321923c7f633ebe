"""Lookup of the run, sweep or checkpoint that a user names. Imports no torch, so that a typo is reported at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trainer.config.parse import stored_value
from trainer.config.stored import StoredConfig
from trainer.errors import Problem, UserError, did_you_mean
from trainer.files import resolve
from trainer.records.contents import exists
from trainer.records.folder import LEDGER, is_running, outputs_folder
from trainer.records.results import read_results

Skip = Callable[[Problem], None]

BEST = ("checkpoints/best.pt", "best.pt")  # in a run folder, or alone in any folder
MAX_NAMES = 6  # in a sentence


def run_to_resume(name: str, skip: Skip = lambda problem: None, output: str | None = None) -> Path:
    """Return the run folder of `resume=NAME`: a folder, a checkpoint in one, or `latest`, the newest unfinished one.

    Args:
        name: the name.
        skip: called with the problem of each run that `latest` passes over because a file in it cannot be read.
        output: the folder in which `latest` is looked for; see `outputs_folder`.

    Raises:
        UserError: there is no such run.
    """
    if name == "latest":
        outputs = outputs_folder(output)
        places = [resolve(config.parent) for config in outputs.glob("[0-9]*/*/config.yaml")]
        for path in sorted(places, key=lambda place: (place / "config.yaml").lstat().st_mtime, reverse=True):
            if _is_unfinished(path, skip) and not is_running(path):
                return path
        raise UserError(Problem("resume", f"there is no unfinished run in {outputs.resolve()}", given="latest"))
    path = Path(name)
    path = resolve(path.parent.parent if path.suffix == ".pt" else path)
    if not exists(path / "config.yaml"):
        what = "it has no config.yaml" if os.path.isdir(path) else "there is no such folder"
        raise UserError(Problem("resume", f"expected a run folder, but {what}", given=name))
    return path


def _is_unfinished(path: Path, skip: Skip) -> bool:
    """Return whether `resume=latest` may select this run; False if its files cannot be read."""
    try:
        results, stored = read_results(path), StoredConfig.read(path, trusted=True).tree
    except UserError as error:
        for problem in error.problems:
            skip(problem)
        return False
    if results is None or results.status in ("interrupted", "paused", "failed"):
        return True
    if results.status != "completed":
        return False
    # A time limit ends a run before its epochs are done.
    return stored_value(stored, "max_steps") is None and results.epochs < stored_value(stored, "epochs")


def sweep_to_resume(name: str, output: str | None = None) -> Path | None:
    """Return the sweep folder of `resume=NAME`; None if the name is that of a run.

    The name is the folder, the ledger in it, or `latest` if the newest run or sweep is a sweep.
    """
    if name == "latest":
        outputs = outputs_folder(output)
        newest = max(outputs.glob("[0-9]*/*/"), key=lambda path: path.stat().st_mtime, default=None)
        path = resolve(newest) if newest else outputs
    else:
        path = Path(name)
        path = resolve(path.parent if path.name == LEDGER else path)
    return path if exists(path / LEDGER) else None


def checkpoint_file(name: str | Path) -> Path:
    """Return the checkpoint that a user names: the file itself, or the best checkpoint of a run folder.

    Raises:
        UserError: there is no checkpoint, or a link in place of its folder.
    """
    path = _named(name)
    if os.path.isfile(path):
        return resolve(path)
    if not os.path.isdir(path):
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*")]) if os.path.isdir(path.parent) else ""
        reason = "there is no such run: expected a run folder or a checkpoint file"
        raise UserError(Problem(str(name), reason, advice=near))
    path = resolve(path)
    for place in BEST:
        if exists(path / place):
            return path / place
    raise UserError(_without_checkpoint(name, path))


def _without_checkpoint(name: str | Path, path: Path) -> Problem:
    """Return why a folder has no checkpoint, and what to do."""
    if exists(path / LEDGER):
        jobs = sorted(p.parent.parent.name for p in path.glob("*/checkpoints/best.pt"))
        runs = ", ".join(jobs[:MAX_NAMES]) or "none yet"
        return Problem(str(name), f"a sweep, not a run; name one of its runs: {runs}")
    if not exists(path / "config.yaml"):
        return Problem(str(name), "not a run folder: it has neither checkpoints/best.pt nor best.pt")
    reason = "this run has no checkpoints/best.pt yet: it has not been validated so far"
    if is_running(path):
        return Problem(str(name), reason, advice="It is still running.")
    return Problem(str(name), reason, advice="To continue it", command=f"train resume={name}")


def run_folder(name: str | Path) -> Path:
    """Return the run folder that a user names, by its path or by a checkpoint in it. The folder need not exist.

    Raises:
        UserError: the name is that of a file outside a run folder.
    """
    path = _named(name)
    if path.suffix == ".pt" and path.absolute().parent.name == "checkpoints":
        return resolve(path.absolute().parent.parent if path.parent == Path() else path.parent.parent)
    if os.path.isfile(path):
        raise UserError(Problem(str(name), "a single file; expected a run folder"))
    return resolve(path)


def _named(name: str | Path) -> Path:
    """Return the path that a user names; `latest`, unless there is such a file here, is the newest run or sweep."""
    if str(name) == "latest" and not os.path.lexists(name):
        return outputs_folder() / "latest"
    return Path(name).expanduser()
