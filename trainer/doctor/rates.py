"""The learning-rate range test (Smith 2017, "Cyclical Learning Rates"): the rate grows until the loss rises."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer.components.assemble import assemble
from trainer.config.effects import switched_off
from trainer.config.schema import Config
from trainer.data.loader import DataCache
from trainer.report.findings import Report
from trainer.run.measure import endless_steps
from trainer.signals import Signals
from trainer.training.step import train_step

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 200
SMOOTHING = 0.9  # of the running mean of the loss
EXPLODED = 4.0  # times the smallest loss: the test ends
FALLS = 0.95  # of the first loss: if it stays above, no learning rate worked
TOO_LOW, TOO_HIGH = 30, 3  # times lower or higher than suggested


@dataclass
class RangeTest:
    """Learning rates of a range test, the smoothed loss at each, and a rate to start with if the loss ever fell."""

    rates: list[float]
    losses: list[float]
    suggested: float | None


def range_test(config: Config, cache: DataCache, signals: Signals) -> RangeTest:
    """Train for up to STEPS steps with growing learning rates; the weights are thrown away."""
    longer = replace(switched_off(config), epochs=max(config.epochs, 1000))
    components = assemble(longer, trusted=True, cache=cache)
    components.population.train()
    groups = components.state.optimizer.param_groups
    shares = [group["lr"] / groups[0]["lr"] for group in groups]  # parameter groups keep the ratio of their rates
    rates: list[float] = []
    losses: list[float] = []
    for batches in itertools.islice(endless_steps(components), STEPS):
        signals.check()
        rate = LOWEST * (HIGHEST / LOWEST) ** (len(rates) / (STEPS - 1))
        for group, share in zip(groups, shares, strict=True):
            group["lr"] = rate * share
        components.population.sums.reset()
        if train_step(components.population, batches):
            break
        loss = components.population.sums.result()["train_loss"]
        if loss is None or not math.isfinite(loss):
            break
        rates.append(rate)
        losses.append(loss)
        if smoothed(losses)[-1] > EXPLODED * min(smoothed(losses)):
            break
    return RangeTest(rates, smoothed(losses), suggest(rates, smoothed(losses)))


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the exponential moving average of losses, corrected for its start at 0."""
    mean, averages = 0.0, []
    for number, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        averages.append(mean / (1 - SMOOTHING**number))
    return averages


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the learning rate at which the smoothed loss falls fastest; None if it does not fall."""
    if len(losses) < 10 or min(losses) > FALLS * losses[0]:
        return None
    lowest = losses.index(min(losses))
    # Slopes span several steps on either side, and skip the first ones, whose means are of few batches.
    reach = max(1, len(losses) // 20)
    places = range(2 * reach, min(lowest + 1, len(losses) - reach))
    return rates[min(places, key=lambda n: losses[n + reach] - losses[n - reach])] if places else None


def check_rate(report: Report, rate: Any, test: RangeTest) -> None:
    """Report the suggested learning rate, and how far the configured one, `optim.lr`, is from it."""
    check = "learning rate"
    report.checks.append(check)
    report.fact(check, suggested=test.suggested, rates=test.rates, losses=test.losses)
    if test.suggested is None:
        message = f"no learning rate from {LOWEST:g} to {HIGHEST:g} made the loss fall in {len(test.losses)} steps"
        report.add(check, "warning", 1, message, "look at data, loss and model first")
        return
    advice = f"try optim.lr={test.suggested:.2g}"
    report.add(check, "note", 1, f"the loss falls fastest at {test.suggested:.2g}", advice)
    if not isinstance(rate, (int, float)):
        return
    ratio = rate / test.suggested
    if ratio > TOO_HIGH or ratio < 1 / TOO_LOW:
        how = "above" if ratio > 1 else "below"
        report.add(check, "warning", 1, f"optim.lr={rate:g} is {max(ratio, 1 / ratio):.0f} times {how} that", advice)
