"""A configuration becomes the parts of a run, all built and checked: device, data, model, state, population."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer import build, device
from trainer.config import PARTS, Config
from trainer.data import load as data_loading
from trainer.data.batches import Batches
from trainer.data.load import Data, Loading
from trainer.data.pool import Watch
from trainer.dropout import key_dropout
from trainer.errors import UserError
from trainer.metrics import Sums
from trainer.population import Solo
from trainer.seeds import derive
from trainer.state import RunState
from trainer.targets import check
from trainer.tasks import Classification, Task

EVALUATION_BATCH = 8  # times batch_size: no gradients are kept, so larger batches fit


@dataclass
class Parts:
    """What a run is made of, built and checked."""

    config: Config
    device: torch.device
    threads: int
    data: Data
    train: Batches
    valid: Batches
    population: Solo
    loading: Loading

    @property
    def state(self) -> RunState:
        return self.population.states[0]


def assemble(config: Config, *, trusted: bool = True, watch: Watch | None = None) -> Parts:
    """Everything before the first step; nothing is written but decoded images, to their cache.

    Args:
        watch: is told how far reading the data is; may raise to end it.

    Raises:
        UserError: with all that is wrong with targets, arguments and device at once; then data; then shapes.
    """
    problems = check(config, PARTS, trusted=trusted)
    try:
        chosen = device.choose(config.device)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(*problems)
    threads = device.set_up(config.threads, config.deterministic)
    torch.manual_seed(derive(config.seed, "stream"))
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    if chosen.type == "mps" and dtype == torch.float64:
        raise UserError("precision=float64: Apple GPUs have none. Use device=cpu.")
    data_seed = config.seed if config.data.seed is None else config.data.seed
    data = data_loading.load(
        build.source(config.data, watch),
        valid_fraction=config.data.valid_fraction,
        test_fraction=config.data.test_fraction,
        seed=data_seed,
        relabel=config.data.relabel,
    )
    data.task = _with_monitor(data.task, config)
    model = build.model(config, data)
    augment = build.augmentation(config, data)
    if config.debug.batches:
        data.limit(config.debug.batches * config.batch_size, overfit=config.debug.overfit, seed=data_seed)
    loading = Loading(chosen, dtype, device.free_memory(chosen), config.data.resident, _workers(config.data.workers))
    train = data_loading.batches(
        data,
        "train",
        config.batch_size,
        loading,
        seed=data_seed,
        drop_last=config.drop_last,
        augment=augment,
        balanced=config.data.balance == "sampler",
        mix=build.mix(config, data),
    )
    if min(train.sizes) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise UserError(f"batch_size={config.batch_size}: BatchNorm needs two samples or more in every training batch.")
    valid = evaluation_batches(config, data, "valid", loading)
    population = _population(config, model, data, chosen, dtype, len(train))
    return Parts(config, chosen, threads, data, train, valid, population, loading)


def _with_monitor(task: Task, config: Config) -> Task:
    """The task with what validation must compute besides its usual figures.

    Raises:
        UserError: the monitored column does not exist for this task.
    """
    name = config.monitor.removeprefix("valid_")
    if isinstance(task, Classification):
        task = replace(task, output=config.model.output, extra=(name,) if name in task.EXTRAS else ())
    if config.monitor not in task.columns:
        columns = [*task.columns, *(f"valid_{extra}" for extra in task.EXTRAS)]
        raise UserError(
            f"monitor={config.monitor}: the task is {task.name}; expected one of {', '.join(dict.fromkeys(columns))}."
        )
    return task


def evaluation_batches(config: Config, data: Data, part: str, loading: Loading) -> Batches:
    """The batches of a part in its own order, never augmented."""
    return data_loading.batches(data, part, EVALUATION_BATCH * config.batch_size, loading)


def _workers(asked: int | None) -> int:
    return min(4, os.cpu_count() or 1) if asked is None else asked


def _population(
    config: Config, model: nn.Module, data: Data, chosen: torch.device, dtype: torch.dtype, num_batches: int
) -> Solo:
    frozen = build.freeze(model, config.freeze)
    dropouts = key_dropout(model, config.seed)
    model.to(chosen, dtype)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    optimizer = build.optimizer(config, model, chosen)
    schedule = build.schedule(config, optimizer, math.ceil(num_batches / config.accumulate))
    scaler = GradScaler(chosen.type, enabled=config.precision == "float16")
    state = RunState(model, optimizer, schedule, scaler, Sums(1, chosen, data.task))
    if config.ema.decay is not None:
        state.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema.decay), use_buffers=True)
    compiled = torch.compile(model) if config.compile else None
    return Solo(
        state,
        build.criterion(config, data, chosen),
        chosen,
        precision=config.precision,
        frozen=frozen,
        dropouts=dropouts,
        compiled=compiled,
    )
