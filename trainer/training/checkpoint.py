"""Checkpoint files: their content, and writing that survives a crash."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from trainer.errors import RunFailed
from trainer.files import newer_format, write_atomically
from trainer.records.contents import exists
from trainer.training.archive import CheckpointError, read_sealed, sealed
from trainer.training.state import Best, RunState

FORMAT = 1
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
KEPT = re.compile(r"epoch-([0-9]{4,})(?:-step-([0-9]{8,}))?\.pt")  # weights of a validation, with checkpoint.keep
UNKNOWN_CONTENT = "its content is not what this program writes"

T = TypeVar("T")


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: a description of the run, and its state or its best weights.

    On disk it is a plain dictionary that loads with `torch.load(path, weights_only=True)`.

    Attributes:
        metadata: plain values that describe configuration, task and preprocessing; `trainer.components.metadata`
            writes and checks them.
        run: `RunState.state_dict()`, from which training continues; None in best.pt.
        best: the weights of the best validation under `model`, with its `epoch`, `step` and `row` of metrics.csv;
            None in last.pt and previous.pt.
    """

    metadata: dict[str, Any]
    run: dict[str, Any] | None = None
    best: dict[str, Any] | None = None

    BEST_KEYS = ("model", "epoch", "step", "row")

    @classmethod
    def of_run(cls, metadata: dict[str, Any], state: RunState) -> Checkpoint:
        """Return the content of last.pt. Tensors are shared with `state`, not copied."""
        return cls(metadata, run=state.state_dict())

    @classmethod
    def of_best(cls, metadata: dict[str, Any], best: Best) -> Checkpoint:
        """Return the content of best.pt."""
        return cls(
            metadata,
            best=dict(zip(cls.BEST_KEYS, (best.weights, best.epoch, best.step, best.row.to_dict()), strict=True)),
        )

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Checkpoint:
        """Return the checkpoint of a stored dictionary. The values of the metadata are not checked here.

        Raises:
            CheckpointError: it holds neither a complete run state nor weights.
        """
        own = {"format", "run", *cls.BEST_KEYS}
        metadata = {key: value for key, value in content.items() if key not in own}
        run, best = content.get("run"), {key: content[key] for key in cls.BEST_KEYS if key in content}
        if run is None and not best:
            raise CheckpointError(UNKNOWN_CONTENT)
        if run is not None and not (isinstance(run, dict) and run.keys() >= RunState.KEYS):
            raise CheckpointError(UNKNOWN_CONTENT)
        if run is None and not (best.keys() >= set(cls.BEST_KEYS) and isinstance(best["model"], dict)):
            raise CheckpointError(UNKNOWN_CONTENT)
        if not isinstance(metadata.get("fingerprint"), str):
            raise CheckpointError(UNKNOWN_CONTENT)
        return cls(metadata, run, None if run is not None else best)

    def to_dict(self) -> dict[str, Any]:
        """Return the dictionary that is stored."""
        return {**self.metadata, **(self.best or {"run": self.run})}

    @property
    def weights(self) -> dict[str, Tensor]:
        """The state dict to evaluate: the best weights, or the latest ones, averaged if the run averages them."""
        if self.best is not None:
            return dict(self.best["model"])
        assert self.run is not None
        average: dict[str, Tensor] | None = self.run["average"]
        if average is None:
            return dict(self.run["model"])
        prefix = "module."  # of torch's AveragedModel, which also holds a counter
        return {name[len(prefix) :]: value for name, value in average.items() if name.startswith(prefix)}

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return _count((self.best or self.run or {})["epoch"])

    @property
    def step(self) -> int:
        """Finished optimizer steps."""
        return _count((self.best or self.run or {})["step"])


def kept_name(epoch: int, step: int | None) -> str:
    """Return the file name of a validation's weights, after this epoch, or within the next one after this step."""
    return f"epoch-{epoch:04d}.pt" if step is None else f"epoch-{epoch:04d}-step-{step:08d}.pt"


def kept(names: Iterable[str]) -> list[str]:
    """Return those of these file names that are of kept validations, in the order of the validations."""
    matches = {name: match for name in names if (match := KEPT.fullmatch(name))}
    return sorted(matches, key=lambda name: (int(matches[name][1]), int(matches[name][2] or 0)))


def _count(value: Any) -> int:
    """Return `value` if it is a number of epochs or steps, else 0: files from elsewhere may hold anything."""
    return value if isinstance(value, int) else 0


def save(path: Path, content: dict[str, Any], keep: Path | None = None) -> None:
    """Write tensors and plain values to `path`; an existing file is kept as `keep`.

    The content is serialised in memory first, so that a full disk does not cost the existing file.

    Raises:
        RunFailed: the file could not be written; the old one is still at `path`.
    """
    write_atomically(path, sealed({"format": FORMAT, **content}), keep)


def load(path: Path) -> dict[str, Any]:
    """Read the stored dictionary of a checkpoint of this program, with tensors on the CPU. No code in it is executed.

    Raises:
        CheckpointError: the file is damaged, or another program or a newer version wrote it.
    """
    content = read_sealed(path)
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError("it is not a checkpoint of this program")
    if not isinstance(content["format"], int):
        raise CheckpointError("its format is not a number")
    if content["format"] > FORMAT:
        raise CheckpointError(newer_format(content["format"], FORMAT))
    return content


def newest(folder: Path, parse: Callable[[dict[str, Any]], T]) -> tuple[T | None, list[str]]:
    """Read `last.pt`, or `previous.pt` if that is missing or damaged.

    Args:
        folder: the folder with the two files.
        parse: turns the stored dictionary into a value, or raises CheckpointError.

    Returns:
        The parsed value, or None without a good file, and a sentence for each damaged file.
    """
    notes: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not exists(path):
            continue
        try:
            return parse(load(path)), notes
        except CheckpointError as damage:
            notes.append(f"{path} is damaged: {damage}.")
    return None, notes


def resumable(content: dict[str, Any]) -> Checkpoint:
    """Return the checkpoint that a stored dictionary describes if a run can continue from it.

    Raises:
        CheckpointError: it has no run state.
    """
    checkpoint = Checkpoint.from_dict(content)
    if checkpoint.run is None:
        raise CheckpointError(UNKNOWN_CONTENT)
    return checkpoint


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Read a run's newest good checkpoint.

    Returns:
        The checkpoint, or None if the run stopped before its first one, and a sentence for each damaged file.

    Raises:
        RunFailed: all checkpoints in the folder are damaged.
    """
    checkpoint, notes = newest(folder, resumable)
    if checkpoint is None and notes:
        raise RunFailed(" ".join(notes) + " No good checkpoint is left; start the run again.")
    return checkpoint, notes
