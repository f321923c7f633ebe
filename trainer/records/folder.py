"""A run folder: never shared by two runs, locked while one runs, readable by people and programs."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from trainer.config.stored import CHOICES, read_config
from trainer.errors import RunFailed, UserError
from trainer.files import not_made, open_regular, write_atomically
from trainer.records import metrics as metrics_csv
from trainer.records.metrics import MetricsRow
from trainer.records.results import read_results
from trainer.records.table import Table

OUTPUTS = Path("outputs")
LEDGER = "sweep.jsonl"
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # five times as fast where it is there


class RunFolder:
    """An open run folder; closing it, or the end of the process however it comes, frees the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = locked(path / "run.lock", f"{path}: a run is writing to this folder at this moment.")
        self._metrics: Table | None = None

    @classmethod
    def create(cls, name: str, outputs: Path = OUTPUTS) -> RunFolder:
        """A new `<date>/<time>-<name>` below `outputs`, and `latest` pointing at it."""
        return cls(new_folder(name, outputs))

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        self._lock.close()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def write_config(self, tree: dict[str, Any], choices: dict[str, str]) -> str:
        """Writes config.yaml, headed by the options that were chosen; returns its text."""
        text = CHOICES + " ".join(f"{group}={option}" for group, option in choices.items()) + "\n"
        text += yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        write_atomically(self.path / "config.yaml", text.encode())
        return text

    def start_metrics(self, metrics: Sequence[str], history: Sequence[MetricsRow]) -> None:
        """Write metrics.csv anew with the rows of `history`; rows beyond a checkpoint will be written again.

        Args:
            metrics: the columns between learning rate and seconds, such as `train_loss`.
        """
        rows = [row.to_dict() for row in history]
        self._metrics = Table(self.path / metrics_csv.FILE, metrics_csv.columns(metrics), rows)

    def add_metrics(self, row: MetricsRow) -> None:
        """Append a row to metrics.csv."""
        assert self._metrics is not None
        self._metrics.add(row.to_dict())


def locked(path: Path, taken: str) -> IO[str]:
    """The file at `path`, held by this process alone until it is closed.

    Raises:
        UserError: `taken`, where another process holds it; or it cannot be made.
        RunFailed: the disk is full.
    """
    try:
        lock = open(path, "a", encoding="ascii")  # noqa: SIM115 held as long as the run
    except OSError as error:
        raise not_made(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise UserError(taken) from error
    return lock


def new_folder(name: str, outputs: Path) -> Path:
    """Makes `<date>/<time>-<name>` below `outputs`, numbered where that is taken, and points `latest` at it.

    Raises:
        UserError: it cannot be made here.
        RunFailed: the disk is full.
    """
    now = time.localtime()
    day = outputs / time.strftime("%Y-%m-%d", now)
    stem = f"{time.strftime('%H-%M-%S', now)}-{name}"
    try:
        day.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 10_000):
            path = day / (stem if attempt == 1 else f"{stem}-{attempt}")
            try:
                path.mkdir()  # exclusive: of two runs that start in the same instant one comes second
            except FileExistsError:
                continue
            _point(outputs / "latest", path)
            return path
    except OSError as error:
        raise not_made(day.absolute(), error) from error
    raise RunFailed(f"{day / stem}: no free name in ten thousand.")


def _point(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    os.replace(temporary, link)


def find(name: str, outputs: Path = OUTPUTS) -> Path:
    """The run folder that `resume=` names: a folder, a checkpoint in one, or `latest`, the newest unfinished one.

    Raises:
        UserError: there is none.
    """
    if name == "latest":
        for config in sorted(outputs.glob("[0-9]*/*/config.yaml"), key=lambda p: p.stat().st_mtime, reverse=True):
            if _unfinished(config.parent) and not is_running(config.parent):
                return config.parent
        raise UserError(f"resume=latest: there is no unfinished run in {outputs.resolve()}.")
    path = Path(name)
    if path.suffix == ".pt":
        path = path.parent.parent
    if not (path / "config.yaml").is_file():
        what = "it has no config.yaml" if path.is_dir() else "there is no such folder"
        raise UserError(f"resume={name}: expected a run folder, and {what}.")
    return path


def find_sweep(name: str, outputs: Path = OUTPUTS) -> Path | None:
    """The sweep's folder that `resume=` names: the folder, a file in it, or `latest` where the newest thing is one."""
    if name == "latest":
        newest = max(outputs.glob("[0-9]*/*/"), key=lambda path: path.stat().st_mtime, default=None)
        return newest if newest and (newest / LEDGER).is_file() else None
    path = Path(name)
    path = path.parent if path.name == LEDGER else path
    return path if (path / LEDGER).is_file() else None


def is_running(path: Path) -> bool:
    """Whether a process holds the folder's lock at this moment."""
    try:
        lock = open_regular(path / "run.lock")
    except UserError:  # there is none, or none that a run has made
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _unfinished(path: Path) -> bool:
    """Return whether `resume=latest` may mean this run; a folder that cannot be read is none."""
    try:
        results, stored = read_results(path), read_config(path, trusted=True)
    except UserError:
        return False
    if results is None or results.status in ("interrupted", "paused", "failed"):
        return True
    if results.status != "completed":
        return False
    # A time limit ends a run before its epochs are done.
    return stored.get("max_steps") is None and results.epochs < stored.get("epochs", 0)
