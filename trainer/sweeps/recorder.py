"""Record and display of a running sweep: ledger, failures, leaderboard, page and terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer.errors import print_problems, show
from trainer.processes import describe_exit, is_interrupted
from trainer.records import leaderboard
from trainer.records.contents import remove
from trainer.records.leaderboard import Row
from trainer.records.ledger import FINAL, Ledger
from trainer.records.results import Results, results_or_failure, write_results
from trainer.report.leaderboard_page import Page
from trainer.report.sweep_view import SweepView
from trainer.sweeps.halving import Rung, reached
from trainer.sweeps.worker import SweepJob, WorkItem

STATES = {
    "completed": "done",
    "early_stopped": "done",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "paused": "paused",
}


class Recorder:
    """Recorder of the events of a sweep, in memory and on disk.

    Args:
        ledger: the open ledger.
        total: number of jobs that the sweep will have.
        halved: whether rungs of halving compare the jobs.
    """

    def __init__(self, ledger: Ledger, total: int, *, halved: bool = False) -> None:
        self.ledger, self.folder, self._halved = ledger, ledger.folder, halved
        self._final_rows: dict[int, Row] = {}
        finished = sum(entry.state in FINAL for entry in ledger.entries)
        self.view = SweepView(total, ledger.folder, finished)
        self.page = Page(ledger.folder, ledger.words, self.rows)

    def rows(self) -> list[Row]:
        """Return a leaderboard row for each job with its present state."""
        return leaderboard.read_rows(self.folder, self.ledger.entries, self._final_rows)

    def start(self, item: WorkItem) -> None:
        """Record that the jobs of an item start training."""
        for job in item.jobs:
            remove(job.folder / "results.json")  # of an earlier rung or session
            self.ledger.change(self.ledger.entries[job.number], "running")
        self.view.started(item.number, self.ledger.entries[item.number], len(item.jobs))

    def end(self, item: WorkItem, code: int) -> list[Row]:
        """Record how each job of an item ended, whose process had this exit code; return their rows."""
        rows = [self._record_job(job, code) for job in item.jobs]
        self.write()
        return rows

    def _record_job(self, job: SweepJob, code: int) -> Row:
        entry = self.ledger.entries[job.number]
        results = results_or_failure(job.folder)
        if results is not None:  # also if a stack was killed: some of its jobs may have finished before
            state = STATES.get(results.status, "failed")
        else:
            state = "interrupted" if is_interrupted(code) else "failed"
        reason = (results and results.error) or ""
        if state == "failed" and not reason:
            reason = describe_exit(code) + (", and no results" if code >= 0 else "")
            if results is None:
                write_results(job.folder, Results.failed(reason))
        row = Row(entry, results)
        at = reached(entry, self.folder) if self._halved else None
        best_epoch = results and results.best_epoch
        self.ledger.change(entry, state, reason, reached=at, value=row.value, best_epoch=best_epoch)
        self.view.ended(job.number, entry, row.value)
        if state in ("failed", "diverged"):
            setting = " ".join(f"{key}={show(value)}" for key, value in entry.varies.items())
            print_problems([f"job {entry.number} ({setting}) {state}: {reason}"])
        return row

    def retest(self, item: WorkItem, code: int) -> str:
        """Record that a job of the winner was tested; return the reason if its test failed, else the empty string."""
        [job] = item.jobs
        self._final_rows.pop(job.number)  # its results have changed
        if not code:
            return ""
        results = results_or_failure(job.folder)
        return (results and results.error) or describe_exit(code)

    def prune(self, rung: Rung) -> None:
        """Record the jobs that a rung of halving ends."""
        if rung.note:
            self.view.say(rung.note)
        for entry in rung.pruned:
            folder = self.folder / entry.name
            reason = f"not among the best after epoch {rung.pruned_at}"
            write_results(
                folder, replace(results_or_failure(folder) or Results("pruned"), status="pruned", reason=reason)
            )
            self.ledger.change(entry, "pruned", reason)
            self.view.ended(entry.number, entry, None)

    def tick(self, running: Sequence[WorkItem]) -> None:
        """Redraw the terminal and the page if they are due."""
        self.view.update(running)
        self.page.draw()

    def write(self) -> None:
        """Write leaderboard.csv, and leaderboard.html unless it was just drawn."""
        leaderboard.write(self.folder, self.rows())
        self.page.stale = True
        self.page.draw()

    def close(self, lines: Sequence[str]) -> None:
        """Write both tables for the last time and print the leaderboard, then `lines`."""
        self.write()
        self.page.draw(now=True)
        self.view.end(self.rows(), lines)
