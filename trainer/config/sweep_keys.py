"""The keys of `sweep`. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.config.declare import COUNT, key


@dataclass(frozen=True)
class HalvingConfig:
    """Successive halving: the weaker jobs of a sweep end early."""

    factor: int | None = key(None, "keep one in `factor` jobs at each rung; null: every job runs to its end", ge=2)
    min_epochs: int = key(1, "epochs of the first rung; each further rung has `factor` times as many", ge=1)


@dataclass(frozen=True)
class SweepConfig:
    """The settings of a sweep, `train -m`."""

    workers: int | None = key(None, "number of jobs at a time; auto: one per CPU core, or one per GPU", **COUNT)
    on_error: str = key(
        "continue", "whether to continue or stop the sweep after a failed job", choices=("continue", "stop")
    )
    seed: int = key(0, "seed of random draws such as ${loguniform:1e-4,1e-2}", ge=0)
    dry_run: bool = key(False, "only list the jobs and estimate time and disk space")
    sampler: str | None = key(
        None, "how trials are chosen; tpe: by optuna, from earlier results", word="none", choices=("none", "tpe")
    )
    trials: int | None = key(None, "number of jobs that the sampler chooses", ge=1)
    stack: bool | int | None = key(
        False,
        "train jobs of equal shapes in one pass: true, auto (if it is faster), or the largest number at a time",
        word="auto",
        pattern=r"true|false|[1-9][0-9]*",
        expected="true, false, auto or a number from 1",
    )
    halving: HalvingConfig = field(default_factory=HalvingConfig)
