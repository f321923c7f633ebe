"""`sweep.sampler=tpe`: optuna (the extra `search`) chooses each trial from the results of the earlier ones.

The study is a journal in the sweep's folder, `optuna.log`, which a resumed sweep continues. A job's `trial` is its
number in the study.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.config.search_space import Range
from trainer.config.sweep_keys import SweepConfig
from trainer.errors import Problem, RunFailed, UserError
from trainer.records.contents import append
from trainer.records.leaderboard import Row
from trainer.seeds import derive
from trainer.sweeps.grid import SweepOverrides

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_REJECTED = 100  # draws in a row with problems; the ends of all ranges were validated


def examples(composer: Composer, overrides: SweepOverrides) -> list[Job]:
    """Return jobs to validate before the study begins: at the middle of the search space, then at its ends.

    Raises:
        UserError: an override is invalid or has several values, no key has a range, or optuna is not installed.
    """
    reason = "sweep.sampler=tpe chooses values itself: write a range such as {}=${{uniform:0,1}}"
    swept = [override for override in overrides.parsed if override.is_sweep_override()]
    problems = [*overrides.problems, *(Problem(o.input_line or "", reason.format(o.key_or_group)) for o in swept)]
    if problems:
        raise UserError(*problems)
    first_trial = [*overrides.parsed, *composer.read(["trial=0"], sweep=False)[0]]
    ranges: dict[str, Range] = {}

    def middle(key: str, space: Range) -> Any:
        ranges[key] = space
        return space.at(0.5)

    def value(index: int) -> Callable[[str, Range], Any]:
        return lambda key, space: space.values[index % len(space.values)]

    jobs = [composer.job(first_trial, middle)]
    longest = max((len(space.values) for space in ranges.values()), default=0)  # every choice, both ends of a range
    jobs += [composer.job(first_trial, value(index)) for index in range(longest)]
    problems += dict.fromkeys(problem for job in jobs for problem in job.problems)
    if not ranges and not problems:
        advice = "Give a key a range: 'optim.lr=${loguniform:1e-4,1e-2}'."
        problems.append(Problem("sweep.sampler", "nothing to search", given="tpe", advice=advice))
    if jobs[0].config.sweep.trials is None:
        problems.append(Problem("sweep.sampler", "sweep.trials is not set", given="tpe", command="sweep.trials=50"))
    if problems:
        raise UserError(*problems)
    _optuna()
    return jobs


def _optuna() -> Any:
    """Import optuna; raise UserError if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        command = "pip install 'trainer-cli[search]'"
        raise UserError(Problem("sweep.sampler", "optuna is not installed", given="tpe", command=command)) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Search:
    """An optuna study whose trials become jobs.

    Args:
        folder: the sweep's folder, with the journal of the study.
        composer: composes the jobs.
        overrides: overrides that all jobs share.
        better: whether the `max` or the `min` of the monitored metric is the best.
        settings: the keys of `sweep`.
    """

    def __init__(
        self, folder: Path, composer: Composer, overrides: Sequence[Override], better: str, settings: SweepConfig
    ) -> None:
        optuna = _optuna()
        from optuna.storages.journal import JournalFileBackend

        self.composer, self.overrides, self.trials = composer, overrides, settings.trials or 0
        append(folder / "optuna.log").close()  # optuna would follow a link
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
        self.study = optuna.create_study(
            study_name="sweep",
            storage=storage,
            direction="maximize" if better == "max" else "minimize",
            load_if_exists=True,
        )
        # Depends on the number of trials: a resumed sampler must not repeat its draws.
        seed = derive(settings.seed, "tpe", len(self.study.get_trials(deepcopy=False))) % 2**32
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self.states = optuna.trial.TrialState

    def ask(self) -> tuple[Job, Mapping[str, object]]:
        """Return the next job and the values chosen for it.

        Draws without a valid configuration are skipped and reported to the study as failed.

        Raises:
            RunFailed: `MOST_REJECTED` draws in a row were not valid.
        """
        problems: list[Problem] = []
        for _ in range(MOST_REJECTED):
            job, chosen = self._draw()
            if not job.problems:
                return job, chosen
            problems = job.problems
            self.study.tell(job.config.trial, state=self.states.FAIL)
        raise RunFailed(
            f"sweep.sampler=tpe: none of {MOST_REJECTED} draws in a row can be run; the last one: {problems[0]} "
            "Start a new sweep with other ranges."
        )

    def _draw(self) -> tuple[Job, Mapping[str, object]]:
        trial = self.study.ask()
        chosen: dict[str, Any] = {}

        def suggest(key: str, space: Range) -> Any:
            low, high = space.values[0], space.values[-1]
            if space.kind == "choice":
                chosen[key] = trial.suggest_categorical(key, space.values)
            elif space.kind == "integer":
                chosen[key] = trial.suggest_int(key, low, high)
            else:
                chosen[key] = trial.suggest_float(key, low, high, log=space.kind == "loguniform")
            return chosen[key]

        number = self.composer.read([f"trial={trial.number}"], sweep=False)[0]
        return self.composer.job([*self.overrides, *number], suggest), chosen

    def tell(self, rows: Iterable[Row]) -> None:
        """Report the results of jobs to the study, unless it already has them."""
        trials = self.study.get_trials(deepcopy=False)
        for row in rows:
            number = row.entry.stored["trial"]
            if trials[number].state != self.states.RUNNING:
                continue
            if row.entry.state == "done" and row.value is not None:
                self.study.tell(number, row.value)
            elif row.entry.state in ("failed", "diverged"):
                self.study.tell(number, state=self.states.FAIL)
