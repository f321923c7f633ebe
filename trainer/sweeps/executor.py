"""N jobs, already validated: run by workers, kept in a ledger, ranked in a leaderboard.

Settings are ranked by the validation monitor alone; the test set is used once, for the winner.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from trainer.config.compose import Job
from trainer.config.keys import SweepConfig
from trainer.errors import print_problems, show
from trainer.records import leaderboard
from trainer.records.leaderboard import Row
from trainer.records.ledger import FINAL, Entry, Ledger
from trainer.records.results import Results, read_results, write_results
from trainer.report.leaderboard_page import Page
from trainer.report.sweep_view import SweepView
from trainer.signals import Signals
from trainer.sweeps import halving
from trainer.sweeps.grid import identity, names
from trainer.sweeps.plan import Plan, plan
from trainer.sweeps.search import Search
from trainer.sweeps.workers import JobExit, Task, Workers

STATES = {
    "completed": "done",
    "early_stopped": "done",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "paused": "paused",
}


def new_entries(jobs: Sequence[Job], varies: Sequence[dict[str, Any]], start: int = 0) -> list[Entry]:
    """Of jobs that are not in the ledger yet, numbered from `start`."""
    return [
        Entry(number, job.id or identity(job), name, told, job.stored, job.choices, job.overrides)
        for number, (job, name, told) in enumerate(zip(jobs, names(varies, start), varies, strict=True), start)
    ]


class Sweep:
    """A sweep on its way: what its moments share.

    Args:
        jobs: by number, like the ledger's entries.
        prepared: workers and threads; None where nothing is left to train.
    """

    def __init__(
        self,
        ledger: Ledger,
        jobs: list[Job],
        settings: SweepConfig,
        prepared: Plan | None,
        command: list[str],
        trusted: bool = True,
        *,
        launcher: Sequence[str] = (),
        search: Search | None = None,
    ) -> None:
        self.ledger, self.jobs, self.settings, self.prepared = ledger, jobs, settings, prepared
        self.command, self.trusted, self.folder = command, trusted, ledger.folder
        self.launcher, self.search, self.known = launcher, search, dict[int, Row]()
        self.untested = False
        finished = sum(entry.state in FINAL for entry in ledger.entries)
        self.view = SweepView(search.trials if search else len(jobs), ledger.folder, finished)
        self.page = Page(ledger.folder, ledger.words, self.known_rows)

    def run(self) -> int:
        """Trains, tests the winner, shows the table; returns the exit code."""
        with Signals() as signals:
            if self.search is not None:
                for row in self.known_rows():
                    self.search.tell(row.entry, row.value)
            if self.prepared is not None:
                self.view.begin(self.prepared.describe())
                if self.launcher:
                    self._launch()
                else:
                    self._train(self.prepared, signals)
            if signals.received is None:
                self._test_winner(signals)
        self._write()
        self.page.draw(now=True)
        self.view.end(self.known_rows(), self._closing(stopped=signals.received is not None))
        if signals.received is not None:
            return signals.exit_code
        return 0 if not self.untested and all(entry.state in ("done", "pruned") for entry in self.ledger.entries) else 1

    def _train(self, prepared: Plan, signals: Signals) -> None:
        workers = Workers(prepared.devices, self.command, prepared.shared)
        going = True

        def train(entries: Sequence[Entry], pause_at: int | None) -> bool:
            nonlocal going

            def tasks() -> Iterator[Task]:
                left = [e for e in entries if e.state not in FINAL and not self._reached(e, pause_at)]
                stacks = self._stacks(left)
                for stack in stacks:  # the longest tasks first
                    yield self._stack(stack, pause_at)
                stacked = {entry.number for stack in stacks for entry in stack}
                for entry in left:
                    if entry.number not in stacked:
                        yield self._task(entry, pause_at)
                while self.search and len(self.jobs) < self.search.trials:
                    yield self._task(self._asked(self.search, prepared))

            def ended(end: JobExit) -> bool:
                nonlocal going
                going = self._ended(end) and going
                return going

            workers.run(tasks(), signals, self._started, ended, self._look)
            return going and signals.received is None

        if self.settings.halving.factor:
            halving.run(self.settings.halving, self.ledger.entries, self.folder, train, self._prune, self.view.say)
        else:
            train(self.ledger.entries, None)

    def _asked(self, search: Search, prepared: Plan) -> Entry:
        """The next trial of a study, now a job of the sweep."""
        job, chosen = search.ask()
        prepared.settle(job)
        [entry] = new_entries([job], [chosen], start=len(self.jobs))
        self.jobs.append(job)
        self.ledger.add([entry])
        return entry

    def _launch(self) -> None:
        """Leaves the jobs to another launcher; a signal ends it as it sees fit."""
        from trainer.sweeps.launch import launch

        entries = [entry for entry in self.ledger.entries if entry.state not in FINAL]
        for entry in entries:
            self.ledger.change(entry, "running")
        launch(self.launcher, self.folder, [entry.number for entry in entries], self.command)
        for entry in entries:
            self._ended(JobExit(self._task(entry), 0))

    def _task(self, entry: Entry, pause_at: int | None = None, *, test: bool = False) -> Task:
        job = self.jobs[entry.number]
        pause = pause_at if pause_at is not None and pause_at < job.config.epochs else None
        return Task(entry.number, job, self.folder / entry.name, self.trusted, pause, test)

    def _stacks(self, left: Sequence[Entry]) -> list[list[Entry]]:
        """Which of these are trained in one pass."""
        if self.settings.stack == "false":
            return []
        waiting = {entry.number: entry for entry in left}
        stacks = [[waiting[number] for number in stack if number in waiting] for stack in self.ledger.stacks]
        return [stack for stack in stacks if len(stack) > 1]

    def _stack(self, entries: Sequence[Entry], pause_at: int | None) -> Task:
        members = tuple(self._task(entry, pause_at) for entry in entries)
        place = self.folder / f"stack-{entries[0].number:03d}"
        return replace(members[0], place=place, pause_at=pause_at, members=members)

    def _reached(self, entry: Entry, epoch: int | None) -> bool:
        """Whether a job that was paused needs no more training to be compared at this epoch."""
        results = read_results(self.folder / entry.name) if entry.state == "paused" and epoch is not None else None
        return results is not None and epoch is not None and results.epochs >= epoch

    def _started(self, task: Task) -> None:
        for single in task.each:
            if not task.test:
                (single.place / "results.json").unlink(missing_ok=True)  # of an earlier rung or session
                self.ledger.change(self.ledger.entries[single.number], "running")
        self.view.started(task.number, self.ledger.entries[task.number], len(task.each))

    def _ended(self, end: JobExit) -> bool:
        """Notes how a task ended; returns whether the sweep goes on."""
        going = [self._job_ended(replace(end, task=single)) for single in end.task.each]
        self._write()
        return all(going)

    def _job_ended(self, end: JobExit) -> bool:
        """Notes how a job ended; returns whether the sweep goes on."""
        entry = self.ledger.entries[end.task.number]
        results = read_results(end.task.place)
        state = STATES.get(results.status, "failed") if results else "failed"
        reason = (results and results.error) or ""
        if not results and end.stopped:
            state = "interrupted"
        elif not results or (state == "failed" and not reason):  # of a stack that is killed some may have ended
            state, reason = "failed", end.death or f"exit code {end.code}, and no results"
            if not results:
                write_results(end.task.place, Results.failed(reason))
        row = Row(entry, str(entry.stored["monitor"]), results)
        self.ledger.change(entry, state, reason, value=row.value, best_epoch=results and results.best_epoch)
        self.view.ended(end.task.number, entry, row.value)
        if self.search:
            self.search.tell(entry, row.value)
        if state in ("failed", "diverged"):
            told = " ".join(f"{key}={show(value)}" for key, value in entry.varies.items())
            print_problems([f"job {entry.number} ({told}) {state}: {reason}"])
        return state != "failed" or self.settings.on_error == "continue"

    def _prune(self, entry: Entry, epoch: int) -> None:
        place = self.folder / entry.name
        reason = f"not among the best after epoch {epoch}"
        write_results(place, replace(read_results(place) or Results("pruned"), status="pruned", reason=reason))
        self.ledger.change(entry, "pruned", reason)
        self.view.ended(entry.number, entry, None)

    def _test_winner(self, signals: Signals) -> None:
        """Tests the best weights of the best setting's jobs, or of the best job where none was repeated, once.

        Where jobs are left to be run, the winner is not known yet.
        """
        if any(entry.state not in (*FINAL, "failed") for entry in self.ledger.entries):
            return
        rows = self.known_rows()
        best = [
            row.entry
            for row in leaderboard.winners(rows, leaderboard.grouped(rows))
            if not (row.results and row.results.test)
        ]
        best = [entry for entry in best if self.jobs[entry.number].config.test == "auto"]
        if not best:
            return
        prepared = self.prepared or plan([self.jobs[entry.number] for entry in best], self.settings)
        others = f" and {len(best) - 1} more of its setting" if len(best) > 1 else ""
        self.view.say(f"testing    the winner, {best[0].name}{others}")

        def ended(end: JobExit) -> bool:
            self.known.pop(end.task.number)
            if end.code:
                self.untested = True
                results = read_results(end.task.place)
                reason = (results and results.error) or end.death or f"exit code {end.code}"
                print_problems([f"job {end.task.number}: its test failed: {reason}"])
            return True

        workers = Workers(prepared.devices, self.command, prepared.shared)
        tasks = [self._task(entry, test=True) for entry in best]
        workers.run(tasks, signals, lambda task: None, ended, lambda tasks: None)

    def known_rows(self) -> list[Row]:
        """A row for each job, as things stand."""
        return leaderboard.read_rows(self.folder, self.ledger.entries, self.known)

    def _write(self) -> None:
        leaderboard.write(self.folder, self.known_rows())
        self.page.stale = True
        self.page.draw()

    def _look(self, running: list[Task]) -> None:
        self.view.look(running)
        self.page.draw()  # what was too early when a job ended

    def _closing(self, *, stopped: bool) -> list[str]:
        """What is to be said below the table."""
        lines = []
        if self.settings.halving.factor:
            share = halving.saved_share(self.ledger.entries, self.folder)
            lines.append(f"halving    {share:.0%} of all epochs were not trained")
        unfinished = sum(entry.state not in FINAL for entry in self.ledger.entries)
        lines.append(f"folder     {self.folder}: leaderboard.html, leaderboard.csv")
        if unfinished or stopped:
            lines.append(f"next       train resume={self.folder}   ({unfinished} jobs are not finished)")
        return lines
