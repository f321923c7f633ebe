"""Checks that build or train the run: the last batch, the cost of an epoch, and whether one batch can be learned."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import replace

from torch.nn.modules.batchnorm import _BatchNorm

from trainer import device
from trainer.components.assemble import Components, assemble
from trainer.config.effects import switched_off
from trainer.config.schema import Config
from trainer.config.values import Duration
from trainer.data.loader import DataCache
from trainer.errors import UserError
from trainer.records.metrics import MetricsRow
from trainer.report.findings import Report
from trainer.run.measure import measure
from trainer.signals import Signals
from trainer.training.interfaces import TrainingData
from trainer.training.loop import fit
from trainer.training.state import RunState

OVERFIT_EPOCHS, OVERFIT_MINUTES = 300, 0.25
LEARNING = 0.5  # of the first loss: below it, a batch that was not learned in time is being learned


def check_last_batch(report: Report, components: Components) -> None:
    """Report that a last training batch of one sample is left over, which BatchNorm cannot take."""
    report.checks.append("last batch")
    config, num_samples = components.config, len(components.data.splits["train"])
    frozen = set(map(id, components.state.frozen.modules))  # these normalise by their running statistics
    trains_norms = any(isinstance(m, _BatchNorm) and id(m) not in frozen for m in components.state.model.modules())
    if trains_norms and num_samples % config.batch_size == 1 and not config.drop_last:
        message = f"{num_samples:,} samples in batches of {config.batch_size} leave one over, and BatchNorm needs two"
        advice = "nothing to do: it joins the previous batch; drop_last=true leaves it out"
        report.add("last batch", "note", 1, message, advice)


def measure_cost(report: Report, components: Components) -> None:
    """Measure time, memory and disk space of an epoch; report a training loss that is not finite."""
    report.checks += ["seconds per epoch", "memory"]
    measured = measure(components)
    if measured.diverged_after is not None:
        lr = components.config.optim.arguments.get("lr")
        message = f"the training loss is not finite after {measured.diverged_after} steps with optim.lr={lr}"
        report.add("learning rate", "error", 1, message, "try a lower one, or clip_norm=1; --lr suggests one")
        return
    peak = device.peak_memory(components.device)
    unit = 1 if sys.platform == "darwin" else 1024
    report.fact(
        "training",
        seconds_per_epoch=round(measured.seconds, 3),
        samples_per_second=round(len(components.data.splits["train"]) / measured.seconds),
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if peak is None else peak,
        checkpoint_bytes=measured.checkpoint_bytes,
        epochs=components.config.epochs,
        seconds_at_most=round(measured.seconds * components.config.epochs, 1),
    )


def check_overfit(report: Report, config: Config, cache: DataCache, signals: Signals) -> None:
    """Report whether the model can overfit one batch, as in `debug=overfit`.

    Raises:
        Interrupted: a signal arrived.
    """
    report.checks.append("one batch")
    one_batch = replace(
        switched_off(config),
        debug=replace(config.debug, batches=1, overfit=True, gradients=False, profile=False),
        epochs=OVERFIT_EPOCHS,
        max_minutes=OVERFIT_MINUTES,
        validate_every=Duration(1, "ep"),
        monitor="valid_loss",
        drop_last=False,
    )
    try:
        components = assemble(one_batch, trusted=True, cache=cache)
    except UserError as error:
        report.skipped["one batch"] = str(error.problems[0])
        return
    silent = _Silent()
    data = TrainingData(components.train, components.valid)
    [outcome] = fit(components.population, data, silent, silent, signals)
    state = components.state
    if outcome.status == "diverged":
        message = f"one batch: the loss was not finite after step {state.step}"
        report.add("one batch", "error", 1, message, "try a lower optim.lr, or clip_norm=1")
        return
    if not state.history:
        report.skipped["one batch"] = f"no epoch of it ended within {60 * OVERFIT_MINUTES:.0f} s"
        return
    first, last = state.history[0].valid_loss, state.history[-1].valid_loss
    losses = f"loss {first:.4g} after the first step, {last:.4g} after {state.step}"
    report.fact("training", one_batch=outcome.status, one_batch_steps=state.step, one_batch_loss=last)
    if outcome.status == "completed":
        report.add("one batch", "note", 1, f"the model overfits one batch: {losses}")
    elif last < LEARNING * first:
        report.add("one batch", "note", 1, f"the loss on one batch was still falling when the time was up: {losses}")
    else:
        advice = "look for a wrong loss, a dead or far too small model, or a learning rate that does not fit: --lr"
        report.add("one batch", "warning", 1, f"the model does not overfit one batch: {losses}", advice)


class _Silent:
    """A saver that saves nothing and a report that prints nothing."""

    def due(self, state: RunState) -> bool:
        return False

    def save(self, state: RunState) -> bool:
        return True

    def save_best(self, state: RunState) -> None:
        pass

    def keep(self, state: RunState) -> None:
        pass

    def save_all(self, states: Sequence[RunState]) -> list[RunState]:
        return []

    def begin(self, state: RunState, done: int, total: int) -> None:
        pass

    def advance(self, state: RunState, batches: int, samples: int) -> None:
        pass

    def row(self, row: MetricsRow, best: bool) -> None:
        pass
