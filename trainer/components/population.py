"""Build the run that trains: optimizer, schedule, averages and frozen parameters around a model."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer.components.feed import Feed
from trainer.components.loss import Criterion
from trainer.components.model import place_model
from trainer.components.optimizer import build_optimizer
from trainer.components.schedule import RunLength, build_schedule
from trainer.components.target import Targets
from trainer.config.schema import Config
from trainer.data.loader import LoaderConfig
from trainer.errors import Problem, UserError
from trainer.training.dropout import seed_dropout
from trainer.training.freeze import FrozenParameters, freeze
from trainer.training.population import SingleRun
from trainer.training.state import RunState
from trainer.training.sums import RunningSums
from trainer.training.watch import Watch


def build_population(
    config: Config, targets: Targets, model: nn.Module, criterion: Criterion, feed: Feed, loading: LoaderConfig
) -> SingleRun:
    """Return the run that trains: model, optimizer, schedule and all that changes with them.

    Raises:
        UserError: a key does not fit the model, or there is nothing to freeze or unfreeze.
    """
    dropouts = seed_dropout(model, config.seed)  # before freezing: the modules that replace others are frozen too
    frozen = freeze(model, config.freeze)
    unfreezes = config.unfreeze_at is not None
    if config.unfreeze_at is not None:
        _check_unfreezing(config.unfreeze_at, config.epochs, frozen)
    place_model(model, loading.device, loading.dtype)
    optimizer = build_optimizer(config.optim, targets.optim, model, loading.device, frozen_too=unfreezes)
    length = RunLength(config.epochs, math.ceil(len(feed.train) / config.accumulate), config.validate_every)
    schedule = build_schedule(config.schedule, targets.schedule, optimizer, length, config.direction)
    scaler = GradScaler(loading.device.type, enabled=config.precision == "float16")
    sums = RunningSums(1, loading.device, feed.task)
    state = RunState(model, optimizer, schedule, scaler, sums, config, frozen, length.steps_per_epoch)
    if config.ema.decay is not None:
        state.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema.decay), use_buffers=True)
    if config.debug.gradients:
        state.watch = Watch(model, optimizer, scaler)  # last: the average is a copy that is not watched
    return SingleRun(
        state,
        criterion,
        precision=config.precision,
        dropouts=dropouts,
        compiled=torch.compile(model) if config.compile else None,
        head=feed.head,
    )


def _check_unfreezing(epoch: int, epochs: int, frozen: FrozenParameters) -> None:
    if not frozen.parameters:
        raise UserError(Problem("unfreeze_at", "nothing is frozen", given=str(epoch), advice="Add freeze=backbone."))
    if epoch >= epochs:
        raise UserError(Problem("unfreeze_at", f"expected less than epochs={epochs}", given=str(epoch)))
