"""The sweep's own keys: those of its jobs, what is set over them on resume, and what cannot go together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainer.config.compose import Composer, Job
from trainer.config.keys import SweepConfig
from trainer.errors import Problem, UserError
from trainer.sweeps.grid import swept_sweep_keys

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@dataclass
class ResumeOverrides:
    """What is typed beside `resume=SWEEP`.

    Attributes:
        settings: of the sweep's own keys.
        jobs: words by key, which add jobs.
    """

    settings: list[Override] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)
    trust: bool = False

    def sets(self, key: str) -> bool:
        return any(override.key_or_group == key for override in self.settings)


def typed(composer: Composer, words: Sequence[str], problems: Sequence[Problem]) -> ResumeOverrides:
    """The words of a resumption, told apart.

    Raises:
        UserError: with `problems` first.
    """
    overrides, found = composer.read(words, sweep=True)
    found += swept_sweep_keys(overrides)
    if problems or found:
        raise UserError(*problems, *found)
    made = ResumeOverrides()
    for override in overrides:
        key = override.key_or_group
        if key == "trust":
            made.trust = override.value() is True
        elif key.partition(".")[0] == "sweep":
            made.settings.append(override)
        elif key != "resume":
            made.jobs[key] = override.input_line or ""
    return made


def is_sampled(composer: Composer, words: Sequence[str]) -> bool:
    """Whether the configuration of these words, its experiment included, has a sampler."""
    overrides = composer.read(words, sweep=True)[0]
    return composer.job([o for o in overrides if not o.is_sweep_override()]).config.sweep.sampler != "none"


def settings_of(jobs: Sequence[Job]) -> SweepConfig:
    """The sweep's own keys, which all jobs share.

    Raises:
        UserError: they differ from job to job, as experiments may have it.
    """
    settings = jobs[0].config.sweep
    if any(job.config.sweep != settings for job in jobs):
        raise UserError("sweep: its keys are the whole sweep's; they cannot differ from job to job.")
    return settings


def changed(settings: SweepConfig, composer: Composer, overrides: Sequence[Override]) -> SweepConfig:
    """`settings` with what was typed set over them, key by key; all else stays as it was.

    Raises:
        UserError: no such key, or no such value.
    """
    job = composer.job(list(overrides))
    if job.problems:
        raise UserError(*job.problems)
    made = copy.deepcopy(settings)
    for override in overrides:
        *path, leaf = override.key_or_group.split(".")[1:] or [""]
        source, target = job.config.sweep, made
        for name in path:
            source, target = getattr(source, name), getattr(target, name)
        if not leaf:  # sweep={...}
            return source
        setattr(target, leaf, getattr(source, leaf))
    return made


def check(jobs: Sequence[Job], settings: SweepConfig, launcher: Sequence[str], *, sampled: bool) -> None:
    """What can be told of the settings before anything is built.

    Raises:
        UserError: two of them do not go together, or the jobs cannot be compared as halving does.
    """
    halving = settings.halving
    if launcher and (halving.factor or sampled or settings.stack != "false"):
        raise UserError("hydra/launcher: halving, samplers and stacks need the program's own workers; leave it out.")
    if (settings.sampler != "none") != sampled:
        raise UserError(
            f"sweep.sampler={settings.sampler}: a sampler is there for all of a sweep's jobs, from the first one on; "
            "start a new sweep without several values: train -m sweep.sampler=tpe sweep.trials=50 ..."
        )
    if sampled and settings.stack != "false":
        raise UserError("sweep.stack: a sampler asks for one job at a time; leave one of the two out.")
    if sampled and halving.factor:
        raise UserError("sweep.halving: a sampler has no rungs; choose one of the two.")
    monitors = sorted({job.config.monitor for job in jobs})
    if halving.factor and len(monitors) > 1:
        raise UserError(f"monitor={','.join(monitors)}: sweep.halving compares jobs by one column.")
