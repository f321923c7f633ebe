"""The learning rate of each step equals that of torch's own scheduler, stepped by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim import SGD
from torch.optim import lr_scheduler as schedulers
from torch.optim.lr_scheduler import LRScheduler

from trainer.records.metrics import read_metrics

# 96 samples in batches of 32 make 3 steps an epoch; a row of metrics.csv after each of 18 steps.
STEPS, PER_EPOCH = 18, 3
SMALL = [
    "model=ann",
    "optim=sgd",
    "optim.lr=0.1",
    "epochs=6",
    "batch_size=32",
    "debug.batches=3",
    "validate_every=1st",
    "patience=null",
    "test=false",
]


def rates(folder: Path) -> list[float]:
    rows = read_metrics(folder / "metrics.csv")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    return [row["lr"] for row in rows]


def by_hand(make: Callable[[SGD], LRScheduler | None], every: int = 1) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    found = []
    for step in range(1, STEPS + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler and step % every == 0:
            scheduler.step()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "make", "every"),
    [
        (["schedule=constant"], lambda o: None, 1),
        (["schedule=step", "schedule.step_size=2"], lambda o: schedulers.StepLR(o, 2, 0.1), PER_EPOCH),
        (
            ["schedule=step", "schedule.step_size=4", "schedule.interval=step", "schedule.gamma=0.5"],
            lambda o: schedulers.StepLR(o, 4, 0.5),
            1,
        ),
        (["schedule=cosine"], lambda o: schedulers.CosineAnnealingLR(o, STEPS), 1),
        (
            ["schedule=cosine", "schedule.interval=epoch", "schedule.eta_min=0.01"],
            lambda o: schedulers.CosineAnnealingLR(o, STEPS // PER_EPOCH, 0.01),
            PER_EPOCH,
        ),
        (["schedule=one_cycle"], lambda o: schedulers.OneCycleLR(o, 0.1, STEPS, pct_start=0.3), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_rates_are_torchs(words: list[str], make, every: int, train) -> None:
    done = train(*SMALL, *words)
    assert done.code == 0, done.err
    assert rates(done.folder) == pytest.approx(by_hand(make, every), rel=1e-12)


def test_warm_up_then_cosine(train) -> None:
    done = train(*SMALL, "schedule=cosine", "schedule.warmup_epochs=2")
    found = rates(done.folder)
    warm = 6
    ramp = [0.1 * (k + 1) / (warm + 1) for k in range(warm)]
    rest = STEPS - warm
    formula = [0.05 * (1 + math.cos(math.pi * k / rest)) for k in range(rest)]
    assert found == pytest.approx(ramp + formula, rel=1e-9)
    theirs = by_hand(
        lambda o: schedulers.SequentialLR(
            o,
            [schedulers.LinearLR(o, 1 / (warm + 1), total_iters=warm), schedulers.CosineAnnealingLR(o, rest)],
            [warm],
        )
    )
    assert found == pytest.approx(theirs, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["schedule=constant"],
        ["schedule=step"],
        [
            "schedule=constant",
            "schedule._target_=torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
            "schedule.T_0=6",
        ],
        [
            "schedule=constant",
            "schedule._target_=torch.optim.lr_scheduler.ExponentialLR",
            "schedule.gamma=0.9",
        ],
    ],
    ids=lambda words: words[-1],
)
def test_a_warm_up_climbs_evenly_before_any_schedule(words: list[str], train) -> None:
    done = train(*SMALL, *words, "schedule.warmup_epochs=1")
    assert done.code == 0, done.err
    found = rates(done.folder)
    assert found[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1], rel=1e-9)
    assert max(found) <= 0.1 + 1e-12


@pytest.mark.parametrize(("monitor", "mode"), [("valid_loss", "min"), ("valid_accuracy", "max")])
def test_plateau_follows_the_monitored_column(monitor: str, mode: str, train) -> None:
    done = train(*SMALL, "schedule=plateau", "schedule.patience=1", "schedule.factor=0.5", f"monitor={monitor}")
    assert done.code == 0, done.err
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = schedulers.ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=1)
    expected = []
    for row in read_metrics(done.folder / "metrics.csv"):
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(row[monitor])
    assert rates(done.folder) == pytest.approx(expected, rel=1e-12)


def test_plateau_lowers_the_rate_where_nothing_improves(train) -> None:
    found = rates(train(*SMALL, "optim.lr=1e-6", "schedule=plateau", "schedule.patience=1").folder)
    assert found[:3] == [1e-6] * 3
    assert found[3] == pytest.approx(1e-7)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["schedule=cosine", "schedule.warmup_epochs=6"], "expected less than epochs=6"),
        (["schedule=one_cycle", "schedule.warmup_epochs=1"], "has its own warm-up"),
        (["schedule=plateau", "schedule.interval=epoch"], "Use schedule.interval=validation."),
    ],
)
def test_settings_that_no_schedule_can_follow_are_refused(words: list[str], sentence: str, train) -> None:
    done = train(*SMALL, *words)
    assert done.code == 2
    assert sentence in done.err
