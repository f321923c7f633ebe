"""Run a sweep: train its jobs, record what happens, test the winner.

Settings are ranked by the validation monitor alone; the test split is used once, for the winner.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from trainer.errors import print_problems
from trainer.records.leaderboard import grouped, winners
from trainer.records.ledger import FINAL, Entry
from trainer.records.results import results_or_failure
from trainer.run.command import Ended
from trainer.run.resume import complete
from trainer.signals import Signals
from trainer.sweeps import halving
from trainer.sweeps.halving import Rung
from trainer.sweeps.launch import launch
from trainer.sweeps.plan import Plan, make_plan
from trainer.sweeps.pool import JobExit, JobStart, Tick, WorkerPool
from trainer.sweeps.recorder import Recorder
from trainer.sweeps.search import Search
from trainer.sweeps.sweep import Sweep
from trainer.sweeps.worker import WorkItem


def run_sweep(sweep: Sweep, signals: Signals, search: Search | None = None, launcher: Sequence[str] = ()) -> Ended:
    """Train the unfinished jobs, test the winner and print the leaderboard; return how the sweep ended.

    Args:
        sweep: the sweep, whose ledger is written to.
        signals: signals since the first line of the ledger was written.
        search: adds jobs, chosen one by one.
        launcher: overrides of the Hydra launcher that runs the jobs instead of this program's workers.
    """
    total = search.trials if search else len(sweep.jobs)
    recorder = Recorder(sweep.ledger, total, halved=bool(sweep.settings.halving.factor))
    tested = True
    if search is not None:
        search.tell(recorder.rows())
    if sweep.plan is not None:
        recorder.view.begin(sweep.plan.describe())
        if launcher:
            _launch(sweep, recorder, launcher)
        else:
            _train(sweep, sweep.plan, recorder, signals, search)
    if signals.received is None:
        tested = _test_winner(sweep, recorder, signals)
    recorder.close(_closing_lines(sweep, stopped=signals.received is not None))
    if signals.received is not None:
        return Ended(signals.exit_code, sweep.folder, signals.received)
    succeeded = tested and all(entry.state in ("done", "pruned") for entry in sweep.ledger.entries)
    return Ended(0 if succeeded else 1, sweep.folder)


def _train(sweep: Sweep, plan: Plan, recorder: Recorder, signals: Signals, search: Search | None) -> None:
    """Train all jobs, from rung to rung if halving is on, until they have ended or the sweep is stopped."""
    pool = WorkerPool(plan.devices, sweep.command, plan.shared)
    for rung in halving.rungs(sweep.settings.halving, sweep.ledger.entries, sweep.folder):
        recorder.prune(rung)
        items = _items(sweep, rung) if search is None else _trials(sweep, plan, search)
        with closing(pool.run(items, signals)) as events:
            for event in events:
                match event:
                    case JobStart(item):
                        recorder.start(item)
                    case JobExit(item, code):
                        rows = recorder.end(item, code)
                        if search is not None:
                            search.tell(rows)
                        if sweep.settings.on_error == "stop" and any(row.entry.state == "failed" for row in rows):
                            pool.stopped = True
                    case Tick(running):
                        recorder.tick(running)
        if pool.stopped or signals.received is not None:
            return


def _items(sweep: Sweep, rung: Rung) -> Iterator[WorkItem]:
    """Yield the work of a rung: stacks first, which take longest, then single jobs."""
    waiting = {e.number: e for e in rung.entries if e.state not in FINAL and not _has_reached(sweep, e, rung.epoch)}
    for numbers in sweep.ledger.stacks if sweep.settings.stack is not False else []:
        members = [waiting[number] for number in numbers if number in waiting]
        if len(members) > 1:
            for member in members:
                del waiting[member.number]
            yield sweep.item(*members, pause_at=rung.epoch)
    for entry in waiting.values():
        yield sweep.item(entry, pause_at=rung.epoch)


def _trials(sweep: Sweep, plan: Plan, search: Search) -> Iterator[WorkItem]:
    """Yield the unfinished jobs of a study, then new ones, each chosen when a worker is free."""
    for entry in sweep.unfinished():
        yield sweep.item(entry)
    while len(sweep.jobs) < search.trials:
        job, chosen = search.ask()
        [job] = plan.set_threads([job])
        yield sweep.item(sweep.add(job, chosen))


def _has_reached(sweep: Sweep, entry: Entry, epoch: int | None) -> bool:
    """Return whether a paused job can be compared at this epoch without further training."""
    if entry.state != "paused" or epoch is None:
        return False
    results = results_or_failure(sweep.folder / entry.name)
    return results is not None and results.epochs >= epoch


def _launch(sweep: Sweep, recorder: Recorder, launcher: Sequence[str]) -> None:
    """Run the unfinished jobs with another launcher, which handles signals by itself."""
    entries = sweep.unfinished()
    for entry in entries:
        sweep.ledger.change(entry, "running")
    launch(launcher, sweep.folder, [entry.number for entry in entries], sweep.command)
    for entry in entries:
        recorder.end(sweep.item(entry), 0)


def _test_winner(sweep: Sweep, recorder: Recorder, signals: Signals) -> bool:
    """Test the jobs of the best setting on the test split, with the best weights; return whether no test failed.

    Nothing is tested before all jobs have ended, because any of them may become the winner.
    """
    if any(entry.state not in (*FINAL, "failed") for entry in sweep.ledger.entries):
        return True
    rows = recorder.rows()
    won = [row for row in winners(rows, grouped(rows)) if sweep.jobs[row.entry.number].config.test is None]
    for row in won:
        if row.results and row.results.tested:  # its test may have been killed before it wrote the page
            complete(sweep.folder / row.entry.name, sweep.jobs[row.entry.number])
    entries = [row.entry for row in won if not (row.results and row.results.tested)]
    if not entries:
        return True
    others = f" and {len(entries) - 1} more of its setting" if len(entries) > 1 else ""
    recorder.view.say(f"testing    the winner, {entries[0].name}{others}")
    plan = sweep.plan or make_plan([sweep.jobs[entry.number] for entry in entries], sweep.settings)
    pool = WorkerPool(plan.devices, sweep.command, plan.shared)
    tested = True
    with closing(pool.run((sweep.item(entry, test=True) for entry in entries), signals)) as events:
        for event in events:
            if isinstance(event, JobExit) and (reason := recorder.retest(event.item, event.code)):
                tested = False
                if signals.received is None:  # otherwise the user interrupted it
                    print_problems([f"job {event.item.number}: its test failed: {reason}"])
    return tested


def _closing_lines(sweep: Sweep, *, stopped: bool) -> list[str]:
    """Return the lines to print below the leaderboard."""
    lines = []
    if sweep.settings.halving.factor:
        share = halving.saved_share(sweep.ledger.entries, sweep.folder)
        lines.append(f"halving    {share:.0%} of all epochs were not trained")
    lines.append(f"folder     {sweep.folder}: leaderboard.html, leaderboard.csv")
    unfinished = len(sweep.unfinished())
    if unfinished or stopped:
        lines.append(f"next       train resume={sweep.folder}   ({unfinished} jobs are not finished)")
    return lines
