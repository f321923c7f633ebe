"""Checkpoints: written so that a crash at any instant leaves a good one, read so that a bad one is noticed."""

from __future__ import annotations

import contextlib
import io
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.config.schema import Duration
from trainer.errors import RunFailed
from trainer.files import remove_torn, write_atomically
from trainer.training.state import RunState
from trainer.training.step import NonFinite

FORMAT = 1
NAMES = ("last.pt", "previous.pt")
AUTO_SHARE = 0.02  # of the time that `every=auto` spends on saving
BYTES_PER_SECOND = 200e6  # of a first save, before one was measured


class CheckpointError(Exception):
    """A checkpoint file is not what was written, or is no checkpoint; the text says why."""


def save(path: Path, content: dict[str, Any], keep: Path | None = None) -> None:
    """Serialises to memory first: a disk that fills up midway must not cost the file that is there."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    write_atomically(path, buffer.getbuffer(), keep)


def read(path: Path) -> Any:
    """Whatever a file of torch's holds, on the CPU; nothing in it is run.

    torch.load checks no sums, so a flipped bit would be a silently wrong weight: the zip's own CRCs are checked first.

    Raises:
        Damaged: with the reason.
    """
    try:
        if zipfile.is_zipfile(path):  # older files than torch 1.6 are none
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise CheckpointError("it is compressed, which no checkpoint of torch is")
                if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                    raise CheckpointError("its parts are larger than the file, which no checkpoint's are")
                if (bad := archive.testzip()) is not None:
                    raise CheckpointError(f"the checksum of {bad} is wrong")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle that no version of torch has written, which is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError("it is not there") from error
    except Exception as error:  # whatever a reader of damaged or hostile bytes comes upon
        raise CheckpointError(_reason(path, str(error))) from error


def _reason(path: Path, said: str) -> str:
    """Why torch did not read a file; its own words advise to load without weights_only, which runs what is in it."""
    named = re.search(r"GLOBAL ([\w.]+)", said)
    if named or "TorchScript" in said or "unsupported class" in said.lower():
        return f"it holds more than plain tensors and values{f' ({named[1]})' if named else ''}, which is never loaded"
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"PK"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:  # the damage may be anywhere in it
        zipped = any(name.endswith("/data.pkl") for name in archive.namelist())
    return "it is cut off, or not what was written" if zipped or "EOF" in said else "it is no checkpoint"


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of this program, on the CPU; nothing in it is run.

    Raises:
        Damaged: with the reason.
    """
    content = read(path)
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError("it is no checkpoint of this program")
    if not isinstance(content["format"], int):
        raise CheckpointError("its format is no number")
    if content["format"] > FORMAT:
        raise CheckpointError(f"its format {content['format']} is newer than {FORMAT}, the newest this version reads")
    return content


def newest(folder: Path, holds: Callable[[dict[str, Any]], bool]) -> tuple[dict[str, Any] | None, list[str]]:
    """The content of `last.pt`, else of `previous.pt`, and a sentence for each that was damaged.

    Args:
        holds: whether a content is what it should be.
    """
    notes: list[str] = []
    for name in NAMES:
        path = folder / name
        if not path.exists():
            continue
        try:
            content = load(path)
            if not holds(content):
                raise CheckpointError("it does not hold what this program writes there")
            return content, notes
        except CheckpointError as damage:
            notes.append(f"{path} is damaged: {damage}.")
    return None, notes


def holds_run(content: dict[str, Any]) -> bool:
    """Whether a run can go on from this."""
    run = content.get("run")
    return isinstance(content.get("fingerprint"), str) and isinstance(run, dict) and run.keys() >= RunState.KEYS


def load_newest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The content of a run's `last.pt`, else of `previous.pt`, and a sentence for each that was damaged.

    Returns None for the content where a run was stopped before its first checkpoint.

    Raises:
        RunFailed: where there are checkpoints and all are damaged.
    """
    content, notes = newest(folder, holds_run)
    if content is not None:
        return content, notes
    if notes:
        raise RunFailed(" ".join(notes) + " No good checkpoint is left; start the run anew.")
    return None, notes


def finite(state: RunState) -> bool:
    """Whether all weights of a run are: one number per tensor, and one look at the device for all of them."""
    sums = [
        value.double().sum() if value.device.type != "mps" else value.sum()
        for value in state.model.state_dict().values()
        if value.is_floating_point()
    ]
    return not sums or bool(torch.stack([s.to(sums[0].device) for s in sums]).isfinite().all())


class Saver:
    """Writes a run's checkpoints as `every` says.

    Args:
        about: what else each file holds, so that it alone is enough to predict: configuration, classes, preparation.
    """

    def __init__(self, folder: Path, every: str, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, about
        self.every = None if every == "auto" else Duration.parse(every)
        self.saved_step, self.saved_best = -1, -1
        self.started = self.saved_at = time.perf_counter()
        self.spent = 0.0
        self.last_cost: float | None = None
        folder.mkdir(exist_ok=True)
        remove_torn(folder)

    def due(self, state: RunState) -> bool:
        if state.step == 0 or state.step == self.saved_step:
            return False
        if self.every is None:
            elapsed = time.perf_counter() - self.started
            return state.batch == 0 and self.spent + self._expected_cost(state) <= AUTO_SHARE * elapsed
        if self.every.unit == "min":
            return time.perf_counter() - self.saved_at >= self.every.amount * 60
        if self.every.unit == "st":
            return state.step % self.every.amount == 0
        return state.batch == 0 and state.epoch % self.every.amount == 0

    def _expected_cost(self, state: RunState) -> float:
        if self.last_cost is None:
            size = sum(p.numel() * p.element_size() for p in state.model.parameters())
            self.last_cost = 0.005 + 4 * size / BYTES_PER_SECOND
        return self.last_cost

    def save_all(self, states: Sequence[RunState]) -> None:
        """Saves the one run that there is."""
        for state in states:
            self.save(state)

    def save(self, state: RunState) -> None:
        """Writes `best.pt` if there is a new best, and `last.pt`, which becomes `previous.pt` at the next save.

        Raises:
            NonFinite: the weights are; nothing is written.
            RunFailed: the disk refuses; the files of the save before still stand.
        """
        if state.step == self.saved_step:
            return
        begin = time.perf_counter()
        if not finite(state):
            raise NonFinite("the weights are")
        self.save_best(state)
        save(self.folder / "last.pt", {**self.about, "run": state.state_dict()}, self.folder / "previous.pt")
        self.saved_step, self.saved_at = state.step, time.perf_counter()
        cost = self.saved_at - begin
        self.last_cost, self.spent = cost, self.spent + cost

    def save_best(self, state: RunState) -> None:
        """Writes `best.pt` if there is a new best.

        Raises:
            RunFailed: the disk refuses.
        """
        if state.best is None or state.best.step == self.saved_best:
            return
        best = state.best
        content = {
            **self.about,
            "model": best.weights,
            "epoch": best.epoch,
            "step": best.step,
            "row": best.row.to_dict(),
        }
        save(self.folder / "best.pt", content)
        self.saved_best = best.step
