"""The one test of a sweep: the best weights of the winning setting on the test split."""

from __future__ import annotations

from contextlib import closing

from trainer.errors import print_problems
from trainer.records.leaderboard import grouped, winners
from trainer.records.ledger import FINAL, Entry
from trainer.signals import Signals
from trainer.sweeps.plan import make_plan
from trainer.sweeps.pool import JobExit
from trainer.sweeps.recorder import Recorder
from trainer.sweeps.sweep import Sweep


def test_winner(sweep: Sweep, recorder: Recorder, signals: Signals) -> bool:
    """Test all jobs of the best setting, or the best job if no setting was repeated; return whether no test failed.

    Nothing is tested before all jobs have ended, because any of them may become the winner.
    """
    entries = _untested_winners(sweep, recorder)
    if not entries:
        return True
    others = f" and {len(entries) - 1} more of its setting" if len(entries) > 1 else ""
    recorder.view.say(f"testing    the winner, {entries[0].name}{others}")
    pool = sweep.pool(sweep.plan or make_plan([sweep.jobs[entry.number] for entry in entries], sweep.settings))
    passed = True
    with closing(pool.run((sweep.item(entry, test=True) for entry in entries), signals)) as events:
        for event in events:
            if isinstance(event, JobExit) and (reason := recorder.retest(event)):
                passed = False
                if signals.received is None:  # otherwise the user interrupted it
                    print_problems([f"job {event.item.number}: its test failed: {reason}"])
    return passed


def _untested_winners(sweep: Sweep, recorder: Recorder) -> list[Entry]:
    """Return the winning jobs that still have to be tested."""
    if any(entry.state not in (*FINAL, "failed") for entry in sweep.ledger.entries):
        return []
    rows = recorder.rows()
    entries = [row.entry for row in winners(rows, grouped(rows)) if not (row.results and row.results.test)]
    return [entry for entry in entries if sweep.jobs[entry.number].config.test is None]
