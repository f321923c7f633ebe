"""What training would be like: the last batch, seconds and memory of an epoch, whether one batch can be learned."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from trainer import device
from trainer.components.assemble import Components, assemble
from trainer.config.keys import AugmentConfig, EmaConfig, ScheduleConfig
from trainer.config.schema import Config
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
ON_ITS_WAY = 0.5  # of the first loss: below it, a batch that is not learned in time is being learned


def last_batch(report: Report, parts: Components) -> None:
    """Adds what becomes of a last training batch of one sample, which BatchNorm cannot take."""
    report.done.append("last batch")
    config, num_samples = parts.config, len(parts.data.splits["train"])
    frozen = set(map(id, parts.state.frozen.modules))  # these use their statistics, not those of the batch
    norms = any(isinstance(m, _BatchNorm) and id(m) not in frozen for m in parts.state.model.modules())
    if norms and num_samples % config.batch_size == 1 and not config.drop_last:
        report.add(
            "last batch",
            "note",
            1,
            f"{num_samples:,} samples in batches of {config.batch_size} leave one over, and BatchNorm needs two",
            "nothing: it joins the batch before; drop_last=true leaves it out",
        )


def cost(report: Report, parts: Components) -> None:
    """Adds seconds, memory and disk of an epoch."""
    report.done += ["seconds per epoch", "memory"]
    measured = measure(parts)
    if measured.diverged_after is not None:
        lr = parts.config.optim.arguments.get("lr")
        report.add(
            "learning rate",
            "error",
            1,
            f"the training loss is not finite after {measured.diverged_after} steps with optim.lr={lr}",
            "a lower one, or clip_norm=1; --lr suggests one",
        )
        return
    peak = device.peak_memory(parts.device)
    unit = 1 if sys.platform == "darwin" else 1024
    report.fact(
        "training",
        seconds_per_epoch=round(measured.seconds, 3),
        samples_per_second=round(len(parts.data.splits["train"]) / measured.seconds),
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if peak is None else peak,
        checkpoint_bytes=measured.checkpoint_bytes,
        epochs=parts.config.epochs,
        seconds_at_most=round(measured.seconds * parts.config.epochs, 1),
    )


def plain(config: Config, **changed: Any) -> Config:
    """The configuration without what blurs a test of model, loss and learning rate."""
    model = replace(config.model, cache_features="false")
    changed = {"unfreeze_at": None, "patience": None, "baseline": False, "compile": False, "max_steps": None} | changed
    return replace(config, model=model, schedule=ScheduleConfig(), augment=AugmentConfig(), ema=EmaConfig(), **changed)


def overfit(report: Report, config: Config, shared: DataCache, signals: Signals) -> None:
    """Adds the verdict on whether the model can learn one batch by heart, as `debug=overfit` asks it."""
    report.done.append("one batch")
    debug = replace(config.debug, batches=1, overfit=True, gradients=False, profile=False)
    tried = plain(
        config,
        debug=debug,
        epochs=OVERFIT_EPOCHS,
        max_minutes=OVERFIT_MINUTES,
        validate_every="1ep",
        monitor="valid_loss",
        drop_last=False,
    )
    try:
        parts = assemble(tried, trusted=True, cache=shared)
    except UserError as error:
        report.skipped["one batch"] = str(error).splitlines()[0]
        return
    silent = _Silent()
    [outcome] = fit(parts.population, TrainingData(parts.train, parts.valid), silent, silent, signals)
    history = parts.state.history
    if outcome.status == "diverged":
        report.add("one batch", "error", 1, outcome.reason.partition(". ")[0], "try a lower optim.lr, or clip_norm=1")
        return
    if not history:
        report.skipped["one batch"] = f"no epoch of it was done in {60 * OVERFIT_MINUTES:.0f} s"
        return
    first, last = history[0].valid_loss, history[-1].valid_loss
    told = f"loss {first:.4g} after the first step, {last:.4g} after {parts.state.step}"
    report.fact("training", one_batch=outcome.status, one_batch_steps=parts.state.step, one_batch_loss=last)
    if outcome.status == "completed":
        report.add("one batch", "note", 1, f"the model learns one batch by heart: {told}")
    elif last < ON_ITS_WAY * first:
        report.add("one batch", "note", 1, f"one batch was being learned when the time was over: {told}")
    else:
        report.add(
            "one batch",
            "warning",
            1,
            f"one batch is not learned: {told}",
            "look for a wrong loss, a dead or far too small model, or a learning rate that does not fit: --lr",
        )


class _Silent:
    """Saves nothing and says nothing."""

    def due(self, state: RunState) -> bool:
        return False

    def save(self, state: RunState) -> bool:
        return True

    def save_best(self, state: RunState) -> None:
        pass

    def save_all(self, states: Sequence[RunState]) -> list[RunState]:
        return []

    def begin(self, state: RunState, done: int, total: int) -> None:
        pass

    def advance(self, state: RunState, batches: int, samples: int) -> None:
        pass

    def row(self, row: MetricsRow, best: bool) -> None:
        pass
