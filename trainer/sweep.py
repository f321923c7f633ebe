"""N jobs: all validated before the first one starts, one after the other, a leaderboard at the end, the winner tested.

Settings are ranked by the validation monitor alone; the test set is used once, for the winner.
"""

from __future__ import annotations

import copy
import csv
import io
import itertools
import re
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.compose import Composer, Job
from trainer.config import DIRECTIONS
from trainer.errors import RunFailed, UserError
from trainer.files import write_atomically
from trainer.folder import OUTPUTS, new_folder, read_results
from trainer.report.leaderboard import print_table
from trainer.report.messages import print_problems


@dataclass
class Entry:
    """A job of a sweep: where it runs, what varies, how it ended."""

    job: Job
    folder: Path
    varies: dict[str, str]
    results: dict[str, Any] | None = None
    error: str | None = None

    @property
    def value(self) -> float | None:
        """The monitored value at the best validation; None where there is none."""
        best = self.results and self.results[self.job.config.monitor.partition("_")[0]]
        return best[self.job.config.monitor.partition("_")[2]] if best else None


def compose_jobs(composer: Composer, words: list[str], problems: list[str]) -> list[Job]:
    """The jobs of every combination of values, in the order in which the words vary: the last one fastest.

    Raises:
        UserError: with the problems of all jobs, each told once.
    """
    overrides, found = composer.read(words, sweep=True)
    problems = problems + found
    values = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        for o in overrides
    ]
    jobs = []
    for combination in itertools.product(*values):
        job = composer.job(composer.read([word or "" for word in combination], sweep=False)[0])
        problems += [problem for problem in job.problems if problem not in problems]
        jobs.append(job)
    if problems:
        raise UserError(*problems)
    return jobs


def run_sweep(jobs: list[Job], command: list[str], started: float) -> int:
    """Runs the jobs; returns 0 only if every one is done.

    A job that fails is told at once, and the others go on.
    """
    from trainer.config import PARTS
    from trainer.targets import check

    problems: list[str] = []
    for job in jobs:
        problems += [problem for problem in check(job.config, PARTS) if problem not in problems]
    if problems:
        raise UserError(*problems)
    folder = new_folder("sweep", OUTPUTS)
    entries = [Entry(job, folder / name, varies) for job, (name, varies) in zip(jobs, _names(jobs), strict=True)]
    for number, entry in enumerate(entries, 1):
        print(f"\njob {number}/{len(entries)}  {' '.join(f'{k}={v}' for k, v in entry.varies.items())}", flush=True)
        code = _run(entry, command, started)
        _write(folder, entries)
        if code >= 128:
            return code
        started = time.perf_counter()
    winner = _ranked(entries)[0]
    if winner.value is not None and winner.job.config.test == "auto":
        print(f"\nwinner  {' '.join(f'{k}={v}' for k, v in winner.varies.items())}", flush=True)
        _run(winner, command, time.perf_counter(), test=True)
        _write(folder, entries)
    _show(entries)
    print(f"folder  {folder}")
    return 0 if all(e.results and e.results["status"] in ("completed", "early_stopped") for e in entries) else 1


def _run(entry: Entry, command: list[str], started: float, *, test: bool = False) -> int:
    """The exit code of one job; its failure is told here."""
    from trainer.run import execute

    job = copy.deepcopy(entry.job)
    for key in ("test", "plots"):
        if getattr(job.config, key) == "auto":
            setattr(job.config, key, "true" if test else "false")
    try:
        place = {"resume": entry.folder} if test else {"place": entry.folder}
        code = execute(job, command=command, started=started, **place)
    except (UserError, RunFailed) as error:
        print_problems([str(error)])
        entry.error, code = str(error), 1
    except Exception as error:  # a job's failure must not cost the others theirs; it is told, kept and counted
        traceback.print_exc()
        entry.error, code = f"{type(error).__name__}: {error}", 1
    entry.results = read_results(entry.folder)
    return code


def _names(jobs: list[Job]) -> list[tuple[str, dict[str, str]]]:
    """For each job its folder's name and the overrides that not all jobs share."""
    words = [dict(o.lstrip("+").partition("=")[::2] for o in job.overrides) for job in jobs]
    shared = {key for key in words[0] if all(w.get(key) == words[0][key] for w in words)}
    width = len(str(len(jobs) - 1))
    named = []
    for number, word in enumerate(words):
        varies = {key: value for key, value in word.items() if key not in shared}
        text = ",".join(f"{key}={value}" for key, value in varies.items())
        name = f"{number:0{width}}-{re.sub(r'[^A-Za-z0-9.,=_-]+', '_', text)}"
        named.append((name[:100].rstrip("-"), varies))
    return named


def _ranked(entries: list[Entry]) -> list[Entry]:
    """Best first; jobs without a value last."""
    sign = 1 if DIRECTIONS[entries[0].job.config.monitor] == "min" else -1
    return sorted(entries, key=lambda e: (e.value is None, sign * (e.value or 0.0)))


def _write(folder: Path, entries: list[Entry]) -> None:
    """leaderboard.csv: a row per job, best first; failed and missing ones too."""
    text = io.StringIO()
    keys = list(dict.fromkeys(key for entry in entries for key in entry.varies))
    monitor = entries[0].job.config.monitor
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "job", "status", *keys, monitor, "best_epoch", "test_accuracy", "seconds", "error"])
    for rank, entry in enumerate(_ranked(entries), 1):
        results = entry.results or {}
        test = results.get("test") or {}
        writer.writerow([
            rank, entry.folder.name, results.get("status", "failed" if entry.error else "pending"),
            *(entry.varies.get(key, "") for key in keys), _cell(entry.value), _cell(results.get("best_epoch")),
            _cell(test.get("accuracy")), _cell(results.get("seconds", {}).get("total")),
            entry.error or results.get("error") or "",
        ])  # fmt: skip
    write_atomically(folder / "leaderboard.csv", text.getvalue().encode())


def _cell(value: Any) -> str:
    return "" if value is None else repr(value)


def _show(entries: list[Entry]) -> None:
    keys = list(dict.fromkeys(key for entry in entries for key in entry.varies))
    rows = []
    for rank, entry in enumerate(_ranked(entries), 1):
        results = entry.results or {}
        test = results.get("test") or {}
        figures = [entry.value, results.get("best_epoch"), test.get("accuracy")]
        rows.append([rank, *(entry.varies.get(key) for key in keys), *figures, results.get("status", "failed")])
    monitor = entries[0].job.config.monitor
    print_table(["rank", *keys, monitor, "best_epoch", "test_accuracy", "status"], rows)
