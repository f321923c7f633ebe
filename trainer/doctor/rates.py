"""A learning-rate range test (Smith 2017, "Cyclical Learning Rates"): ever larger steps until the loss goes up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.components.assemble import assemble
from trainer.config.schema import Config
from trainer.data.loader import DataCache
from trainer.doctor.training import plain
from trainer.report.findings import Report
from trainer.run.measure import endless_steps
from trainer.signals import Signals
from trainer.training.step import train_step

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 200
SMOOTHING = 0.9  # of the running mean of the loss
EXPLODED = 4.0  # times the smallest loss: there is nothing more to see
FALLS = 0.95  # of the first loss: above it, no learning rate did anything
TOO_LOW, TOO_HIGH = 30, 3  # times lower or higher than what is suggested


@dataclass
class RangeTest:
    """What was found: the smoothed loss at each learning rate, and a learning rate to begin with, if there is one."""

    rates: list[float]
    losses: list[float]
    suggested: float | None


def test(config: Config, shared: DataCache, signals: Signals) -> RangeTest:
    """Trains for up to STEPS steps on the training part with growing learning rates; nothing of it is kept."""
    longer = plain(config, epochs=max(config.epochs, 1000))
    parts = assemble(longer, trusted=True, cache=shared)
    parts.population.train()
    groups = parts.state.optimizer.param_groups
    shares = [group["lr"] / groups[0]["lr"] for group in groups]  # layers with rates of their own keep their ratio
    rates: list[float] = []
    losses: list[float] = []
    for batches in itertools.islice(endless_steps(parts), STEPS):
        signals.check()
        rate = LOWEST * (HIGHEST / LOWEST) ** (len(rates) / (STEPS - 1))
        for group, share in zip(groups, shares, strict=True):
            group["lr"] = rate * share
        parts.population.sums.reset()
        if train_step(parts.population, batches):
            break
        loss = parts.population.sums.result()["train_loss"]
        if loss is None or not math.isfinite(loss):
            break
        rates.append(rate)
        losses.append(loss)
        if smoothed(losses)[-1] > EXPLODED * min(smoothed(losses)):
            break
    return RangeTest(rates, smoothed(losses), suggest(rates, smoothed(losses)))


def smoothed(losses: Sequence[float]) -> list[float]:
    """A running mean that begins without a bias to 0."""
    mean, found = 0.0, []
    for number, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        found.append(mean / (1 - SMOOTHING**number))
    return found


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The learning rate at which the loss falls fastest; None where it does not fall."""
    if len(losses) < 10 or min(losses) > FALLS * losses[0]:
        return None
    lowest = losses.index(min(losses))
    # Over some steps to either side, and not from the very first, where the mean is of few batches.
    reach = max(1, len(losses) // 20)
    places = range(2 * reach, min(lowest + 1, len(losses) - reach))
    return rates[min(places, key=lambda n: losses[n + reach] - losses[n - reach])] if places else None


def look(report: Report, config: Config, found: RangeTest) -> None:
    """Adds what the test says of the configured learning rate."""
    report.done.append("learning rate")
    report.fact("learning rate", suggested=found.suggested, rates=found.rates, losses=found.losses)
    given = config.optim.arguments.get("lr")
    if found.suggested is None:
        report.add(
            "learning rate",
            "warning",
            1,
            f"no learning rate from {LOWEST:g} to {HIGHEST:g} made the loss fall in {len(found.losses)} steps",
            "look at data, loss and model first",
        )
        return
    report.add("learning rate", "note", 1, f"the loss falls fastest at {found.suggested:.2g}", _typed(found.suggested))
    if not isinstance(given, (int, float)):
        return
    ratio = given / found.suggested
    if ratio > TOO_HIGH or ratio < 1 / TOO_LOW:
        how = "above" if ratio > 1 else "below"
        report.add(
            "learning rate",
            "warning",
            1,
            f"optim.lr={given:g} is {max(ratio, 1 / ratio):.0f} times {how} that",
            _typed(found.suggested),
        )


def _typed(rate: float) -> str:
    return f"try optim.lr={rate:.2g}"
