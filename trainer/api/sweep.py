"""A sweep that `trainer.sweep` has run: its leaderboard, its jobs and the best of them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from trainer.api.run import TrainedRun, framed
from trainer.api.table import Table
from trainer.errors import Problem, UserError
from trainer.files import read_text, resolve
from trainer.records import leaderboard
from trainer.records.folder import LEDGER
from trainer.records.leaderboard import Row
from trainer.records.ledger import Entry, read_ledger

PAGE = "leaderboard.html"
LARGEST_BYTES = 100_000_000


class TrainedSweep:
    """A sweep and its folder.

    In a notebook it shows its page.

    Args:
        folder: the sweep's folder.
        trust: whether the checkpoints of its runs may name code outside this program, torch and torchvision.

    Attributes:
        folder: the sweep's folder, an absolute path.
    """

    def __init__(self, folder: str | Path, *, trust: bool = False) -> None:
        self.folder = resolve(Path(folder).expanduser().absolute())
        self._trust = trust

    def __repr__(self) -> str:
        return f"TrainedSweep({str(self.folder)!r}: {leaderboard.states(self._entries)})"

    @cached_property
    def _entries(self) -> list[Entry]:
        return read_ledger(self.folder / LEDGER).entries

    @cached_property
    def _rows(self) -> list[Row]:
        return leaderboard.read_rows(self.folder, self._entries, {})

    @cached_property
    def leaderboard(self) -> Table:
        """A row per job, best first, as in leaderboard.csv: `sweep.leaderboard.to_frame()` is a pandas DataFrame."""
        return _table(*leaderboard.table(self._rows, leaderboard.grouped(self._rows)))

    @cached_property
    def settings(self) -> Table:
        """A row per setting, best first, aggregated over seeds and folds; empty if no setting was repeated."""
        groups = leaderboard.grouped(self._rows)
        return _table(*leaderboard.group_table(groups, self._rows[0].monitor)) if groups else Table()

    @cached_property
    def jobs(self) -> list[TrainedRun]:
        """The jobs that were started, in the order of the sweep."""
        folders = [self.folder / entry.name for entry in self._entries]
        return [TrainedRun(folder, trust=self._trust) for folder in folders if folder.is_dir()]

    @cached_property
    def best(self) -> TrainedRun:
        """The winner, which was tested; of a setting with several seeds or folds, the best of its runs.

        Raises:
            UserError: no job has finished.
        """
        won = leaderboard.ranked(leaderboard.winners(self._rows, leaderboard.grouped(self._rows)))
        if not won:
            raise UserError(Problem(str(self.folder), f"no job has finished ({leaderboard.states(self._entries)})"))
        return TrainedRun(self.folder / won[0].entry.name, trust=self._trust)

    def _repr_html_(self) -> str:
        """Return the sweep's page in a frame, where its own script sorts the table."""
        return framed(read_text(self.folder / PAGE, LARGEST_BYTES), "allow-scripts")


def _table(header: list[str], cells: list[list[object]]) -> Table:
    return Table(dict(zip(header, row, strict=True)) for row in cells)
