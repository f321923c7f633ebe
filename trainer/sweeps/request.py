"""The words of `train`, or of a call from Python, read once: a run or a sweep, new or resumed. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainer.config.compose import Composer
from trainer.errors import Problem
from trainer.records.find import sweep_to_resume
from trainer.sweeps.grid import SweepOverrides, read_overrides


@dataclass(frozen=True)
class Request:
    """The overrides of a command, and what they start.

    Attributes:
        composer: composes the jobs.
        words: the overrides, without those of Hydra's launcher.
        launcher: overrides of the Hydra launcher that runs the jobs of a sweep.
        problems: problems of the other words.
        grid: the same overrides, parsed as those of a sweep.
        folder: the folder of the sweep that `resume=` names; None if it names none.
        multirun: whether a sweep was chosen, whatever the overrides are.
    """

    composer: Composer
    words: list[str]
    launcher: list[str]
    problems: list[Problem]
    grid: SweepOverrides
    folder: Path | None
    multirun: bool

    @property
    def is_sweep(self) -> bool:
        """Whether the overrides start or resume a sweep."""
        return self.multirun or self.folder is not None or self.grid.experiment is not None


def read_request(
    words: Iterable[str], problems: list[Problem], *, config_dir: str | None = None, multirun: bool = False
) -> Request:
    """Read the overrides of a command.

    Args:
        words: the overrides as typed.
        problems: problems that the words beside them have.
        config_dir: a folder of the user's YAML files, searched before `./conf`.
        multirun: whether a sweep was chosen.

    Raises:
        UserError: `config_dir` is not a folder, or Hydra's launcher is configured wrongly.
    """
    composer, words = Composer(config_dir), list(words)
    launcher = [word for word in words if word.startswith("hydra")]
    words = [word for word in words if word not in launcher]
    if launcher:
        from trainer.sweeps.launch import check

        check(launcher)
    grid = read_overrides(composer, words, problems)
    return Request(composer, words, launcher, problems, grid, _sweep_folder(grid), multirun)


def _sweep_folder(grid: SweepOverrides) -> Path | None:
    """Return the folder of the sweep that `resume=` names; None if it names none."""
    chosen = {o.key_or_group: o.value() for o in grid.parsed if not o.is_sweep_override()}
    resume, output = chosen.get("resume"), chosen.get("output")
    return None if resume is None else sweep_to_resume(str(resume), None if output is None else str(output))
