"""Run folders: never shared by two runs, locked while one runs, readable by people and programs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from trainer.config.stored import FILE, StoredConfig
from trainer.errors import RunFailed
from trainer.files import cannot_create, resolve, write_atomically
from trainer.records import metrics as metrics_csv
from trainer.records.contents import remove_torn
from trainer.records.lock import is_locked, lock
from trainer.records.metrics import MetricsRow
from trainer.records.results import Results, write_results
from trainer.records.table import Table

OUTPUTS = "outputs"
LEDGER = "sweep.jsonl"
LOCK = "run.lock"


class RunFolder:
    """An open run folder. Closing it, or the end of the process, releases its lock.

    Raises:
        UserError: another process is writing to the folder, or it cannot be written to.
        RunFailed: the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = lock(path / LOCK, "a run is writing to this folder at this moment")
        remove_torn(path, shared=True)  # `trainer evaluate` and `report` write to it without the lock
        self._metrics: Table | None = None

    def close(self) -> None:
        """Close the files and release the lock."""
        if self._metrics is not None:
            self._metrics.close()
        self._lock.close()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def write_config(self, stored: StoredConfig) -> str:
        """Write config.yaml; return its text."""
        text = stored.dump()
        write_atomically(self.path / FILE, text.encode())
        return text

    def start_metrics(self, metrics: Sequence[str], history: Sequence[MetricsRow]) -> None:
        """Start metrics.csv anew, with columns for `metrics` and the rows up to the checkpoint to continue from."""
        rows = [row.to_dict() for row in history]
        self._metrics = Table(self.path / metrics_csv.FILE, metrics_csv.columns(metrics), rows)

    def add_metrics(self, row: MetricsRow) -> None:
        """Append a row to metrics.csv."""
        assert self._metrics is not None
        self._metrics.add(row.to_dict())

    def write_results(self, results: Results) -> None:
        """Write results.json, once all rows of metrics.csv are on the disk: a finished run writes no row again.

        Raises:
            RunFailed: the file could not be written.
        """
        if self._metrics is not None:
            self._metrics.sync()
        write_results(self.path, results)


def outputs_folder(output: str | None = None) -> Path:
    """Return the folder of the run folders: `output`, else $TRAINER_OUTPUT, else ./outputs."""
    return Path(output or os.environ.get("TRAINER_OUTPUT") or OUTPUTS).expanduser()


def new_folder(name: str, output: str | None = None) -> Path:
    """Create `<date>/<time>-<name>` in the folder of the run folders, and point its `latest` at it.

    A number is appended if that exists.

    Args:
        name: the last part of the name.
        output: see `outputs_folder`.

    Raises:
        UserError: the folder cannot be created.
        RunFailed: the disk is full.
    """
    now, outputs = time.localtime(), outputs_folder(output)
    day = outputs / time.strftime("%Y-%m-%d", now)
    stem = f"{time.strftime('%H-%M-%S', now)}-{name}"
    try:
        day.mkdir(parents=True, exist_ok=True)
        day = resolve(day)
        for attempt in range(1, 10_000):
            path = day / (stem if attempt == 1 else f"{stem}-{attempt}")
            try:
                path.mkdir()  # fails if another run started in the same second
            except FileExistsError:
                continue
            _point(outputs / "latest", path)
            return path
    except OSError as error:
        raise cannot_create(day.absolute(), error) from error
    raise RunFailed(f"{day / stem}: no free folder name in ten thousand attempts.")


def _point(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(os.path.realpath(target), os.path.realpath(link.parent)))
    os.replace(temporary, link)


def is_running(path: Path) -> bool:
    """Return whether a process is writing to a run folder."""
    return is_locked(path / LOCK)
