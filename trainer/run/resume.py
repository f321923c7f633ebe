"""`resume=RUN`: the stored configuration with changes to keys that may change; other changes are refused."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from omegaconf import OmegaConf

from trainer.config import schema
from trainer.config.compose import Composer
from trainer.config.job import Job, finish
from trainer.config.overrides import set_value
from trainer.config.parse import parse
from trainer.config.stored import StoredConfig
from trainer.errors import Problem, UserError, printable
from trainer.records.contents import exists, names, torn_files
from trainer.records.find import run_to_resume
from trainer.records.folder import LEDGER, RunFolder
from trainer.records.ledger import FINAL, read_ledger
from trainer.records.results import results_or_failure
from trainer.report.pages import write_pages_of
from trainer.report.run_page import FILE
from trainer.run.changes import refuse_changes
from trainer.run.job import sweep_problems


def resumed_job(composer: Composer, words: list[str], problems: list[Problem]) -> tuple[Job, Path]:
    """Return the job that continues the run of `resume=RUN` among `words`, and the run's folder.

    Raises:
        UserError: there is no such run, a fixed key changed (unless `resume_force=true`), or another problem.
    """
    overrides, word_problems = composer.read(words, sweep=False)
    problems = problems + word_problems
    by_key = {o.key_or_group: o for o in overrides}
    if "resume" not in by_key:
        raise UserError(*problems)
    try:
        output = str(by_key["output"].value()) if "output" in by_key else None
        path = run_to_resume(str(by_key["resume"].value()), _show_skipped, output)
    except UserError as error:
        raise UserError(*error.problems, *problems) from error
    _refuse_stacked(path)
    trust, force = (bool(by_key[k].value()) if k in by_key else False for k in ("trust", "resume_force"))
    before = StoredConfig.read(path, trusted=trust)
    stored = before.tree
    missing = [key for key in schema.defaults() if key not in stored]
    if missing:
        raise UserError(Problem(str(path / "config.yaml"), f"incomplete: it has no {', '.join(missing[:5])}"))
    if tree_problems := parse(stored)[1]:
        raise UserError(*(problem.within(path / "config.yaml") for problem in tree_problems))
    tree = OmegaConf.create({**stored, "trust": trust})  # a file cannot declare itself trusted
    groups, choices = [o for o in overrides if o.key_or_group in composer.groups], dict(before.choices)
    if groups:
        chosen = composer.job(groups)
        problems += chosen.problems
        choices |= {o.key_or_group: chosen.choices.get(o.key_or_group, "None") for o in groups}
        for override in groups:
            OmegaConf.update(tree, override.key_or_group, chosen.stored[override.key_or_group], merge=False)
    for override in overrides:
        if override.key_or_group not in composer.groups:
            set_value(tree, override, composer.groups, problems)
    job = finish(tree, choices, [o.input_line or "" for o in overrides])
    problems += job.problems
    if job.config.sweep.dry_run:
        problems += sweep_problems(job)
    if problems:
        raise UserError(*problems)
    if not force:
        refuse_changes(path, stored, job)
    return job, path


def _refuse_stacked(path: Path) -> None:
    """Check that the newest state of a run is in its own folder.

    Raises:
        UserError: it is a job of a killed sweep, and its newest state is in the file of its stack.
    """
    sweep = path.resolve().parent
    if not exists(sweep / LEDGER):
        return
    stacks = [name for name in names(sweep) if name.startswith("stack-")]
    if not any(name.endswith(".pt") for stack in stacks for name in names(sweep / stack)):
        return
    ledger = read_ledger(sweep / LEDGER)
    stacked = {number for stack in ledger.stacks if len(stack) > 1 for number in stack}
    if any(e.name == path.resolve().name and e.number in stacked and e.state not in FINAL for e in ledger.entries):
        reason = "it was trained in a stack with other runs, which was killed before each run had its own files"
        command = f"train resume={sweep}   finishes all of them"
        raise UserError(Problem("resume", reason, given=str(path), command=command))


def _show_skipped(problem: Problem) -> None:
    print(printable(f"train: resume=latest skips a run: {problem}"), file=sys.stderr)


def is_finished(path: Path, job: Job) -> bool:
    """Return whether a run has been trained, and tested, as its job demands."""
    results = results_or_failure(path)
    if results is None or job.config.resume_force:
        return False
    trained = results.status == "early_stopped" or (
        results.status == "completed" and results.epochs >= job.config.epochs
    )
    return trained and (results.tested or job.config.test is False or job.config.debug.overfit)


def complete(path: Path, job: Job) -> list[Path]:
    """Write what a finished run lacks if its process was killed after it had written results.json.

    Temporary files of that process are deleted.

    Returns:
        The page, if it was missing.

    Raises:
        UserError: another process is writing to the folder, or a file in it cannot be read.
        RunFailed: the page cannot be written.
    """
    lacks_page = job.config.plots is not False and not exists(path / FILE)
    if not (lacks_page or torn_files(path, shared=True)):
        return []
    with closing(RunFolder(path)):  # which deletes temporary files
        return [write_pages_of(path)] if lacks_page else []
