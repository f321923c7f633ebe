"""Defects that are planted in a copy of the program, to show that the tests notice them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from helpers.runs import REPOSITORY

COPIED = ("trainer", "conf", "tests", "scripts", "pyproject.toml")


@dataclass(frozen=True)
class Planted:
    """A defect: one change of one file, and the kind of fault that must notice it.

    Attributes:
        name: what is wrong then.
        file: the file, in the package.
        old: text that occurs in it exactly once.
        new: what takes its place.
        kind: the kind of fault that must notice it, in at least one try.
        tries: its tries at most, with the seeds from 0 on; the first that fails is the last.
    """

    name: str
    file: str
    old: str
    new: str
    kind: str
    tries: int = 8


PLANTED = (
    Planted(
        "a checkpoint is written in place",
        "training/checkpoint.py",
        'write_atomically(path, sealed({"format": FORMAT, **content}), keep)',
        'path.write_bytes(sealed({"format": FORMAT, **content}))',
        "kill-save",
    ),
    Planted(
        "previous.pt is not kept",
        "training/checkpoint.py",
        "**content}), keep)",
        "**content}))",
        "damage-checkpoint",
        16,
    ),
    Planted(
        "checksums are not compared",
        "training/archive.py",
        "if has_seal := _has_seal(file):\n        _check_digest(file)",
        "has_seal = True",
        "damage-checkpoint",
        30,
    ),
    Planted(
        "a file is renamed before it is flushed",
        "files.py",
        "            os.fsync(file.fileno())",
        "            pass",
        "power",
        16,
    ),
    Planted(
        "a folder is not flushed after a rename",
        "files.py",
        "            sync(folder)",
        "        pass",
        "power",
        16,
    ),
    Planted(
        "metrics.csv is not flushed before results.json",
        "records/folder.py",
        "self._metrics.sync()",
        "pass",
        "power-end",
    ),
    Planted(
        "the streams of random numbers are not seeded for an item",
        "data/map_dataset.py",
        "            for index, seed in zip(indices, seeds, strict=True):",
        "            for index, seed in zip(indices, iter(lambda: __import__('time').time_ns(), 0), strict=False):",
        "kill-own",
    ),
    Planted(
        "the order of an epoch is drawn anew",
        "data/batches.py",
        'manual_seed(derive(self.sampling.seed, "order", epoch))',
        "manual_seed(__import__('time').time_ns())",
        "kill-moment",
    ),
    Planted(
        "an epoch starts again at its first batch",
        "data/batches.py",
        "self.order(epoch)[start:]",
        "self.order(epoch)",
        "kill-moment",
    ),
    Planted(
        "the optimizer is not restored",
        "training/state.py",
        'self.optimizer.load_state_dict(saved["optimizer"])',
        "pass",
        "kill-moment",
    ),
    Planted(
        "the schedule is not restored",
        "training/state.py",
        'self.schedule.load_state_dict(saved["schedule"])',
        "pass",
        "kill-moment",
        24,
    ),
    Planted(
        "the average of the weights is not restored",
        "training/state.py",
        'self.average.load_state_dict(saved["average"])',
        "pass",
        "kill-moment",
        24,
    ),
    Planted(
        "the sums of the epoch under way are not restored",
        "training/state.py",
        'self.sums.load_state_dict(saved["sums"])',
        "pass",
        "kill-moment",
    ),
    Planted(
        "the history is not restored",
        "training/state.py",
        '[MetricsRow.from_dict(row) for row in saved["history"]]',
        "[]",
        "kill-moment",
    ),
    Planted(
        "a signal does not save",
        "training/session.py",
        'if state.step and outcome.status != "diverged" and not self.saver.save(state):',
        "if outcome.status == 'completed' and not self.saver.save(state):",
        "signal",
    ),
    Planted(
        "changed data is accepted",
        "run/execute.py",
        'if saved.metadata["fingerprint"] != components.data.fingerprint',
        "if False",
        "change-data",
        4,
    ),
    Planted("a changed key is accepted", "run/changes.py", "    if changed:", "    if False:", "change-key", 4),
    Planted(
        "links are followed",
        "files.py",
        "NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE",
        "NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC",
        "link-temporary",
    ),
    Planted(
        "a lock does not keep others out",
        "records/lock.py",
        "fcntl.flock(file, kind | fcntl.LOCK_NB)",
        "pass",
        "resumes",
    ),
    Planted(
        "half a line of a ledger stays",
        "records/ledger.py",
        "ledger._file.truncate(content.size)",
        "pass",
        "kill-ledger",
        12,
    ),
    Planted(
        "the runs of a killed stack are not restored",
        "stack/checkpoint.py",
        "if jobs[name]:",
        "if False:",
        "kill-stack",
        12,
    ),
    Planted(
        "temporary files are not removed",
        "training/saver.py",
        "remove_torn(folder)",
        "pass",
        "kill-save",
        12,
    ),
)


def plant(defect: Planted, folder: Path) -> None:
    """Change the copy of the program in `folder`.

    Raises:
        ValueError: the text to change does not occur exactly once, so that the entry must be brought up to date.
    """
    path = folder / "trainer" / defect.file
    text = path.read_text()
    if text.count(defect.old) != 1:
        raise ValueError(f"{defect.name}: {text.count(defect.old)} times in {defect.file}: {defect.old}")
    path.write_text(text.replace(defect.old, defect.new))


def copy_program(folder: Path) -> None:
    """Copy the program and its tests to `folder`."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(source, folder / name)


def check_all(only: str = "") -> int:
    """Plant each defect whose name contains `only`, and print a table.

    The first row is the program as it is: if its tries failed, the others would prove nothing.

    Returns:
        1 if a defect was not noticed, or if there was one already.
    """
    defects = [defect for defect in PLANTED if only in defect.name]
    print(f"{'planted defect':60} {'kind of fault':18} {'tries':>5} {'failed':>6}  noticed")
    kinds = dict.fromkeys(defect.kind for defect in defects)
    most = {kind: max(defect.tries for defect in defects if defect.kind == kind) for kind in kinds}
    counts = [_tries(REPOSITORY, kind, f"--tries={tries}") for kind, tries in most.items()]
    tries, already = (sum(column) for column in zip(*counts, strict=True))
    print(f"{'none':60} {'all of these':18} {tries:5} {already:6}", flush=True)
    missed = 0
    for defect in defects:
        with tempfile.TemporaryDirectory(prefix="planted-") as name:
            copy_program(Path(name))
            plant(defect, Path(name))
            tries, failed = _tries(Path(name), defect.kind, f"--tries={defect.tries}", "--exitfirst")
        missed += not failed
        words = f"{tries:5} {failed:6}  {'yes' if failed else 'NO'}"
        print(f"{defect.name:60} {defect.kind:18} {words}", flush=True)
    print("all noticed" if not missed else f"{missed} not noticed")
    return 1 if missed or already else 0


def _tries(folder: Path, kind: str, *words: str) -> tuple[int, int]:
    """Return how many tries of a kind the program in `folder` went through, and how many failed."""
    command = [sys.executable, str(folder / "scripts" / "faults.py"), "--from-seed=0", *words]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([*command, f"--only={kind}"], cwd=folder, env=environment, capture_output=True, text=True)
    total = re.search(r"^all +(\d+) +\d+ +(\d+) +(\d+) +(\d+)", done.stdout, re.MULTILINE)
    if total is None:
        raise RuntimeError(f"{kind}: no table: {done.stdout} {done.stderr}")
    tries, *failed = map(int, total.groups())
    return tries, sum(failed)
