"""`sweep.sampler=tpe`: optuna (the extra `search`) chooses each trial from what the ones before it found.

The study is a journal in the sweep's folder, `optuna.log`; a resumed sweep goes on with it. A job's `trial` is the
trial's number in the study.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainer.config.compose import Composer, Job
from trainer.config.keys import SweepConfig
from trainer.config.search_space import Range
from trainer.data.metrics import DIRECTIONS
from trainer.errors import Problem, RunFailed, UserError
from trainer.records.ledger import Entry
from trainer.seeds import derive

UNSOUND = 100  # draws in a row that may have problems: the ends of all ranges have none


def examples(composer: Composer, words: Sequence[str], problems: Sequence[Problem]) -> list[Job]:
    """Jobs to be validated before the study begins: one from the middle of what is searched, then its ends.

    Raises:
        UserError: whatever is wrong with the words, several values among them, nothing to search, or no optuna.
    """
    overrides, found = composer.read(words, sweep=True)
    told = [*problems, *found]
    told += [
        Problem(
            o.input_line or "",
            f"sweep.sampler=tpe chooses values itself: write a range such as {o.key_or_group}=${{uniform:0,1}}",
        )
        for o in overrides
        if o.is_sweep_override()
    ]
    if told:
        raise UserError(*told)
    overrides += composer.read(["trial=0"], sweep=False)[0]
    searched: dict[str, Range] = {}

    def middle(key: str, given: Range) -> Any:
        searched[key] = given
        return given.at(0.5)

    def at(place: int) -> Callable[[str, Range], Any]:
        return lambda key, given: given.values[place % len(given.values)]

    jobs = [composer.job(overrides, middle)]
    most = max((len(given.values) for given in searched.values()), default=0)  # every choice, and both ends of a range
    jobs += [composer.job(overrides, at(place)) for place in range(most)]
    told += dict.fromkeys(problem for job in jobs for problem in job.problems)
    if not searched and not told:
        advice = "Give a key a range: 'optim.lr=${loguniform:1e-4,1e-2}'."
        told.append(Problem("sweep.sampler", "nothing to search", given="tpe", advice=advice))
    if jobs[0].config.sweep.trials is None:
        told.append(Problem("sweep.sampler", "how many trials", given="tpe", command="sweep.trials=50"))
    if told:
        raise UserError(*told)
    _optuna()
    return jobs


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UserError("sweep.sampler=tpe: optuna is not installed: pip install 'trainer-cli[search]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Search:
    """A study and the jobs that it asks for."""

    def __init__(self, folder: Path, composer: Composer, words: Sequence[str], monitor: str, settings: SweepConfig):
        optuna = _optuna()
        from optuna.storages.journal import JournalFileBackend

        self.composer, self.trials = composer, settings.trials or 0
        self.overrides = composer.read(words, sweep=False)[0]
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
        self.study = optuna.create_study(
            study_name="sweep",
            storage=storage,
            direction="maximize" if DIRECTIONS[monitor] == "max" else "minimize",
            load_if_exists=True,
        )
        # A sampler that begins anew must not draw again what was drawn.
        seed = derive(settings.seed, "tpe", len(self.study.get_trials(deepcopy=False))) % 2**32
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self.states = optuna.trial.TrialState

    def ask(self) -> tuple[Job, dict[str, Any]]:
        """The next job, and what was chosen for it; what has no sound configuration is told to the study and left out.

        Raises:
            RunFailed: nothing else was drawn for a long time.
        """
        problems: list[Problem] = []
        for _ in range(UNSOUND):
            job, chosen = self._draw()
            if not job.problems:
                return job, chosen
            problems = job.problems
            self.study.tell(job.config.trial, state=self.states.FAIL)
        raise RunFailed(
            f"sweep.sampler=tpe: of {UNSOUND} draws in a row none can be run, the last one for: {problems[0]} "
            "Write other ranges in a new sweep."
        )

    def _draw(self) -> tuple[Job, dict[str, Any]]:
        trial = self.study.ask()
        chosen: dict[str, Any] = {}

        def suggest(key: str, given: Range) -> Any:
            low, high = given.values[0], given.values[-1]
            if given.kind == "choice":
                chosen[key] = trial.suggest_categorical(key, given.values)
            elif given.kind == "integer":
                chosen[key] = trial.suggest_int(key, low, high)
            else:
                chosen[key] = trial.suggest_float(key, low, high, log=given.kind == "loguniform")
            return chosen[key]

        number = self.composer.read([f"trial={trial.number}"], sweep=False)[0]
        return self.composer.job([*self.overrides, *number], suggest), chosen

    def tell(self, entry: Entry, value: float | None) -> None:
        """What came of a job; told twice is told once."""
        number = entry.stored["trial"]
        if self.study.get_trials(deepcopy=False)[number].state != self.states.RUNNING:
            return
        if entry.state == "done" and value is not None:
            self.study.tell(number, value)
        elif entry.state in ("failed", "diverged"):
            self.study.tell(number, state=self.states.FAIL)
