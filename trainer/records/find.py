"""What a user's RUN stands for, found without torch, so that a mistyped one is answered at once."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import Problem, UserError, did_you_mean
from trainer.records.folder import LEDGER, is_running

BEST = ("checkpoints/best.pt", "best.pt")  # in a run folder, or alone in any folder
SHOWN = 6  # names in a sentence


def find(name: str | Path) -> Path:
    """The checkpoint file that a name stands for.

    Raises:
        UserError: there is none, or it lies outside the folder that was named.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*")]) if path.parent.is_dir() else ""
        reason = "there is no such run: expected a run folder or a checkpoint file"
        raise UserError(Problem(str(name), reason, advice=near))
    for place in BEST:
        file = path / place
        if not file.is_file():
            continue
        if not file.resolve().is_relative_to(path.resolve()):
            raise UserError(f"{file}: a link that leads out of the run folder, to {file.resolve()}. Name that file.")
        return file
    if (path / LEDGER).is_file():
        jobs = sorted(p.parent.parent.name for p in path.glob("*/checkpoints/best.pt"))
        raise UserError(f"{name}: a sweep, not a run; name one of its runs: {', '.join(jobs[:SHOWN]) or 'none yet'}.")
    if not (path / "config.yaml").is_file():
        raise UserError(f"{name}: no run folder: there is no checkpoints/best.pt in it, and no best.pt.")
    now = " It is running at this moment." if is_running(path) else f" Go on with it: train resume={name}"
    raise UserError(f"{name}: this run has no checkpoints/best.pt yet: it was not validated so far.{now}")


def locate(name: str | Path) -> Path:
    """The run's folder that a user names: itself, or a checkpoint in it.

    Raises:
        UserError: a checkpoint that lies in no run's folder.
    """
    path = Path(name).expanduser()
    if path.suffix == ".pt" and path.absolute().parent.name == "checkpoints":
        return path.absolute().parent.parent if path.parent == Path() else path.parent.parent
    if path.is_file():
        raise UserError(f"{name}: no run folder but a file alone, and what there is to be shown lies in the folder.")
    return path
