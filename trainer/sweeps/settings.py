"""The keys of `sweep`: their values, changes to them on resume, and combinations that are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.config.sweep_keys import SweepConfig
from trainer.errors import Problem, UserError
from trainer.sweeps.grid import SweepOverrides, swept_sweep_keys

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@dataclass(frozen=True)
class TypedOverrides:
    """The overrides typed with `resume=SWEEP`.

    Attributes:
        settings: overrides of the sweep's own keys.
        jobs: overrides that add jobs, by key.
        trust: whether the sweep may run a user's code and read environment variables.
        launcher: overrides of Hydra's launcher.
    """

    settings: Sequence[Override] = ()
    jobs: dict[str, str] = field(default_factory=dict)
    trust: bool = False
    launcher: Sequence[str] = ()


def typed_overrides(overrides: SweepOverrides, launcher: Sequence[str]) -> TypedOverrides:
    """Sort the overrides of a resume by what they change.

    Raises:
        UserError: a word is not readable, or gives one of the sweep's own keys several values.
    """
    if problems := [*overrides.problems, *swept_sweep_keys(overrides.parsed)]:
        raise UserError(*problems)
    settings = [o for o in overrides.parsed if o.key_or_group.partition(".")[0] == "sweep"]
    by_key = {o.key_or_group: o for o in overrides.parsed if o not in settings}
    trust = "trust" in by_key and by_key["trust"].value() is True
    jobs = {key: o.input_line or "" for key, o in by_key.items() if key not in ("trust", "resume")}
    return TypedOverrides(settings, jobs, trust, launcher)


def is_sampled(composer: Composer, overrides: SweepOverrides) -> bool:
    """Return whether the configuration, including its experiment, has a sampler."""
    single = [override for override in overrides.parsed if not override.is_sweep_override()]
    return composer.job(single).config.sweep.sampler is not None


def settings_of(jobs: Sequence[Job]) -> SweepConfig:
    """Return the sweep's own keys, which all jobs share.

    Raises:
        UserError: experiments set them differently.
    """
    settings = jobs[0].config.sweep
    if any(job.config.sweep != settings for job in jobs):
        raise UserError(Problem("sweep", "its keys belong to the whole sweep and cannot differ from job to job"))
    return settings


def with_overrides(settings: SweepConfig, composer: Composer, overrides: Sequence[Override]) -> SweepConfig:
    """Return the settings with the overridden keys changed.

    Raises:
        UserError: a key does not exist, or a value is not accepted.
    """
    if not overrides:
        return settings
    job = composer.job(list(overrides))
    if job.problems:
        raise UserError(*job.problems)
    for override in overrides:
        settings = _replaced(settings, job.config.sweep, override.key_or_group.split(".")[1:])
    return settings


def _replaced(settings: Any, source: Any, path: Sequence[str]) -> Any:
    """Return `settings` with the value at `path` taken from `source`, another object of the same class."""
    if not path:
        return source
    name, *rest = path
    return replace(settings, **{name: _replaced(getattr(settings, name), getattr(source, name), rest)})


def check(jobs: Sequence[Job], settings: SweepConfig, launcher: Sequence[str], *, sampled: bool) -> None:
    """Check that the settings do not exclude each other, before anything is built.

    Raises:
        UserError: they do, a sampler was added or removed on resume, or halving cannot compare the jobs.
    """
    halving = settings.halving
    if launcher and (halving.factor or sampled or settings.stack is not False):
        reason = "halving, samplers and stacks need the program's own workers; remove hydra/launcher"
        raise UserError(Problem("hydra/launcher", reason))
    if (settings.sampler is not None) != sampled:
        reason = (
            "a sampler chooses all jobs of a sweep, from the first one on; start a new sweep without several values"
        )
        command = "train -m sweep.sampler=tpe sweep.trials=50 ..."
        raise UserError(Problem("sweep.sampler", reason, given=settings.sampler or "none", command=command))
    if sampled and settings.stack is not False:
        raise UserError(Problem("sweep.stack", "a sampler chooses one job at a time; leave one of the two out"))
    if sampled and halving.factor:
        raise UserError(Problem("sweep.halving", "a sampler has no rungs; choose one of the two"))
    monitors = sorted({job.config.monitor for job in jobs})
    if halving.factor and len(monitors) > 1:
        raise UserError(Problem("monitor", "sweep.halving compares jobs by one column", given=",".join(monitors)))
