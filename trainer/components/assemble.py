"""A configuration becomes the parts of a run, all built and checked: device, data, model, state, population."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainer import device
from trainer.components import pretrained
from trainer.components.data import build_augmentation, build_mix, build_source
from trainer.components.features import FeatureCache, separable_head
from trainer.components.loss import build_criterion
from trainer.components.model import build_model, place_model
from trainer.components.optimizer import build_optimizer, build_schedule
from trainer.components.pretrained import Preprocessing
from trainer.components.targets import check
from trainer.config.keys import MOST_STEPS, WARM_UP
from trainer.config.schema import GROUPS, Config
from trainer.data.batches import Batches, TrainSampling
from trainer.data.dataset import Data, balancing, load
from trainer.data.fetch import Fetch
from trainer.data.images.pool import Progress
from trainer.data.loader import DataCache, LoaderConfig, make_batches
from trainer.data.samples import Arrays
from trainer.data.source import Source
from trainer.data.tasks import Classification, Task
from trainer.errors import Problem, UserError, show
from trainer.seeds import derive
from trainer.trackers import base as trackers
from trainer.training.checkpoint import Checkpoint
from trainer.training.dropout import seed_dropout
from trainer.training.freeze import freeze
from trainer.training.population import SingleRun
from trainer.training.state import RunState
from trainer.training.sums import RunningSums
from trainer.training.watch import Watch

EVALUATION_BATCH = 8  # times batch_size: no gradients are kept, so larger batches fit,
EVALUATION_NUMBERS = 2**24  # but only so many numbers at a time


@dataclass
class Components:
    """What a run is made of, built and checked."""

    config: Config
    device: torch.device
    threads: int
    data: Data
    train: Batches
    valid: Batches
    population: SingleRun
    loading: LoaderConfig
    wanted: Preprocessing
    kept: dict[str, FeatureCache] = field(default_factory=dict)

    @property
    def state(self) -> RunState:
        return self.population.state

    def keep_features(self, names: Sequence[str], progress: Progress) -> None:
        """Computes the features of these parts where they are kept; `progress` may raise to end it."""
        for name in filter(self.kept.__contains__, names):
            split = self.data.splits[name]
            # Each sample is read once: nothing need be kept of it.
            workers = 0 if isinstance(split.samples, Arrays) else self.loading.workers
            once = replace(self.loading, resident="false", workers=workers)
            passing = evaluation_batches(self.config, self.data, name, once)
            self.kept[name].fill(self.population, passing, split.loss_targets, progress)


def assemble(
    config: Config,
    *,
    trusted: bool = True,
    saved: Checkpoint | None = None,
    shared: DataCache | None = None,
    progress: Progress | None = None,
    like: Components | None = None,
    sharing: int = 1,
) -> Components:
    """Everything before the first step; nothing is written but decoded images, to their cache.

    Args:
        trusted: whether the configuration may name code of others.
        saved: the checkpoint that is to be restored, so that `model.weights` need not be there any more.
        shared: where data is kept for other runs.
        progress: is told how far reading the data is; may raise to end it.
        like: a run with the same data, whose data and batches are taken.
        sharing: how many runs with data of their own share the device's memory.

    Raises:
        UserError: with all that is wrong with targets, arguments and device at once; then data; then shapes.
    """
    problems = check(config, GROUPS, trusted=trusted)
    try:
        chosen = device.choose(config.device)
    except UserError as error:
        problems += error.problems
    problems += _debug_problems(config) + trackers.problems(config.logger)
    if problems:
        raise UserError(*problems)
    threads = device.set_up(config.threads, config.deterministic)
    torch.manual_seed(derive(config.seed, "stream"))
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    if chosen.type == "mps" and dtype == torch.float64:
        raise UserError("precision=float64: Apple GPUs have none. Use device=cpu.")
    data_seed = config.seed if config.data.seed is None else config.data.seed
    wanted = Preprocessing(**saved.metadata["wanted"]) if saved else pretrained.preprocessing(config)
    if like is None:
        data = read_data(config, wanted, data_seed, shared, progress)
    else:
        data = replace(like.data, notes=list(like.data.notes))
    model = build_model(config, data, wanted)
    if saved is None:
        data.notes += pretrained.load(model, config)
    if like is not None:
        population = _population(config, model, data, like.loading, len(like.train), "")
        return replace(like, config=config, data=data, population=population, wanted=wanted)
    augment = build_augmentation(config, data)
    if config.debug.batches:
        data.truncate(config.debug.batches * config.batch_size, overfit=config.debug.overfit, seed=data_seed)
    workers = _workers(config.data.workers)
    loading = LoaderConfig(chosen, dtype, device.free_memory(chosen) // sharing, config.data.resident, workers, shared)
    head = separable_head(config, model, data, loading)
    weights = balancing(data) if config.data.balance == "sampler" else None
    draw = TrainSampling(data_seed, config.drop_last, augment, weights, build_mix(config, data))
    kept = {part: FeatureCache() for part in data.splits if head}
    train = make_batches(data, "train", config.batch_size, loading, draw, kept.get("train"))
    if min(train.sizes) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        reason = "BatchNorm needs two samples or more in every training batch"
        raise UserError(Problem("batch_size", reason, given=str(config.batch_size), check="last batch"))
    valid = evaluation_batches(config, data, "valid", loading, kept.get("valid"))
    population = _population(config, model, data, loading, len(train), head)
    return Components(config, chosen, threads, data, train, valid, population, loading, wanted, kept)


def read_data(
    config: Config, wanted: Preprocessing, seed: int, shared: DataCache | None, progress: Progress | None
) -> Data:
    """The data, split and described, not yet brought to the model's form."""
    read = partial(build_source, config.data, wanted, progress)
    key = repr((config.data.target, config.data.arguments, config.data.root, wanted))

    def make() -> Source:
        return shared.get_source(key, read) if shared else read()

    return split(config, make, seed, shared, key)


def split(
    config: Config, source: Callable[[], Source], seed: int, shared: DataCache | None = None, key: str = ""
) -> Data:
    """The parts of a source as the configuration divides it; `seed` is data.seed, resolved.

    Args:
        key: of the source, where it is shared.

    Raises:
        UserError: too few samples, or a task without the monitored column.
    """
    splitting: dict[str, Any] = {
        "valid_fraction": config.data.valid_fraction,
        "test_fraction": config.data.test_fraction,
        "seed": seed,
        "relabel": config.data.relabel,
        "folds": _folds(config),
    }

    def divided() -> Data:
        return load(source(), **splitting)

    data = shared.get_data(repr((key, splitting)), divided) if shared else divided()
    data.task = _with_monitor(data.task, config)
    if config.data.per_class is not None:
        data.subsample_per_class(config.data.per_class, seed)
    return data


def _debug_problems(config: Config) -> list[Problem]:
    problems = []
    if config.debug.gradients and config.compile:
        reason = "looks at layers one by one, which compile=true dissolves"
        problems.append(Problem("debug.gradients", reason, given="true", advice="Add compile=false."))
    if config.debug.profile and not WARM_UP < (config.max_steps or 0) <= WARM_UP + MOST_STEPS:
        reason = f"expected max_steps from {WARM_UP + 1} to {WARM_UP + MOST_STEPS}, such as max_steps=40"
        advice = f"The first {WARM_UP} warm up, the rest are profiled."
        problems.append(Problem("debug.profile", reason, given="true", advice=advice))
    return problems


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


def evaluation_batches(
    config: Config, data: Data, part: str, loading: LoaderConfig, fetch: Fetch | None = None
) -> Batches:
    """The batches of a part in its own order, never augmented."""
    size = evaluation_size(config, data.prepare.output_shape)
    return make_batches(data, part, size, loading, fetch=fetch)


def evaluation_size(config: Config, shape: tuple[int, ...]) -> int:
    """Samples of `shape` that are evaluated at a time."""
    return max(config.batch_size, min(EVALUATION_BATCH * config.batch_size, EVALUATION_NUMBERS // math.prod(shape)))


def _folds(config: Config) -> tuple[int, int] | None:
    folds, fold = config.data.folds, config.data.fold
    if folds is None and fold is None:
        return None
    if folds is None or fold is None or fold >= folds:
        number = folds or 5
        raise UserError(
            f"data.fold={show(fold)} data.folds={show(folds)}: expected a fold from 0 to {number - 1} of {number}: "
            f"train -m data.folds={number} 'data.fold=range({number})'"
        )
    return folds, fold


def _workers(asked: int | None) -> int:
    return min(4, os.cpu_count() or 1) if asked is None else asked


def _population(
    config: Config, model: nn.Module, data: Data, loading: LoaderConfig, num_batches: int, head: str
) -> SingleRun:
    chosen = loading.device
    dropouts = seed_dropout(model, config.seed)  # before freezing: the modules that take the place of others are held
    frozen = freeze(model, config.freeze)
    if config.unfreeze_at is not None and not frozen.parameters:
        raise UserError(f"unfreeze_at={config.unfreeze_at}: nothing is frozen. Add freeze=backbone.")
    if config.unfreeze_at is not None and config.unfreeze_at >= config.epochs:
        raise UserError(f"unfreeze_at={config.unfreeze_at}: expected less than epochs={config.epochs}.")
    place_model(model, chosen, loading.dtype)
    optimizer = build_optimizer(config, model, chosen)
    schedule = build_schedule(config, optimizer, math.ceil(num_batches / config.accumulate))
    scaler = GradScaler(chosen.type, enabled=config.precision == "float16")
    state = RunState(model, optimizer, schedule, scaler, RunningSums(1, chosen, data.task), config, frozen)
    if config.ema.decay is not None:
        state.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema.decay), use_buffers=True)
    if config.debug.gradients:
        state.watch = Watch(model, optimizer, scaler)  # last: the average is a copy that is not to be watched
    compiled = torch.compile(model) if config.compile else None
    return SingleRun(
        state,
        build_criterion(config, data, chosen),
        precision=config.precision,
        dropouts=dropouts,
        compiled=compiled,
        head=head,
    )
