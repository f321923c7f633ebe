"""The training loop: train, validate, save, stop."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from itertools import islice

from trainer.data.batches import Batch
from trainer.errors import DataFailed, UserError
from trainer.signals import Interrupted, Signals
from trainer.training.interfaces import Report, Saver, TrainingData
from trainer.training.phases import phase
from trainer.training.population import Population
from trainer.training.session import Session
from trainer.training.step import train_step
from trainer.training.stopping import Outcome


def fit(
    population: Population,
    data: TrainingData,
    saver: Saver,
    report: Report,
    signals: Signals,
    pause_at: int | None = None,
) -> list[Outcome]:
    """Train until each run has a reason to stop.

    A run is saved when it ends, also after a signal or if data cannot be read, unless its weights are not finite.

    Args:
        population: runs at the same step. Each leaves when it ends, so that the population is empty afterwards.
        data: training and validation batches.
        saver: writes checkpoints.
        report: shows progress and rows of metrics.
        signals: checked before every step.
        pause_at: epochs after which all runs pause; a pause does not change their results.

    Returns:
        How each run ended, in the order of `population.states`.

    Raises:
        UserError: data cannot be read, or has changed.
        RunFailed: a data worker ended, or a checkpoint could not be written.
    """
    session = Session(population, data, saver, report, signals, pause_at)
    gc.freeze()  # exclude imported modules from garbage collection
    try:
        session.begin()
        for epoch in session.epochs:
            session.unfreeze(epoch)
            for batches in grouped(data.train.epoch(epoch, session.batch), session.config.accumulate):
                signals.check()
                lost = train_step(population, batches)
                session.count(batches, lost)
                session.validate()
                session.save()
                session.stop()
                if not population.states:
                    return session.outcomes
    except Interrupted:
        session.end("interrupted", "interrupted")
    except (UserError, DataFailed) as error:
        session.end("failed", str(error))
        raise
    finally:
        gc.unfreeze()
    return session.outcomes


def grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield lists of `size` batches; the last one may be shorter."""
    iterator = iter(batches)
    while True:
        with phase("data"):
            group = list(islice(iterator, size))
        if not group:
            return
        yield group
