"""Build the components of a run from its configuration: device, data, model, optimizer and the state that trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer import device
from trainer.components.class_weights import class_weights
from trainer.components.data import DataReader, monitored
from trainer.components.features import FeatureCache
from trainer.components.feed import Feed, build_feed, evaluation_batches
from trainer.components.loss import build_criterion, num_outputs
from trainer.components.metadata import Preprocessing
from trainer.components.metrics import with_metrics
from trainer.components.model import ModelBuilder, build_model, fit_images
from trainer.components.population import build_population
from trainer.components.preprocessing import preprocessing_of
from trainer.components.pretrained import fetch_weights, load_weights
from trainer.components.target import Targets
from trainer.components.targets import find_targets
from trainer.config.keys import MOST_STEPS, WARM_UP, DebugConfig
from trainer.config.schema import GROUPS, Config
from trainer.data.batches import Batches
from trainer.data.dataset import Data
from trainer.data.fetch import targets_on
from trainer.data.images.pool import Progress
from trainer.data.loader import DataCache, LoaderConfig
from trainer.data.samples import Arrays
from trainer.data.streams import seed_streams
from trainer.errors import Problem, UserError
from trainer.seeds import derive
from trainer.trackers import base as trackers
from trainer.training.checkpoint import Checkpoint
from trainer.training.population import SingleRun
from trainer.training.state import RunState


@dataclass
class Components:
    """The components of a run, built and checked.

    Attributes:
        threads: number of torch's threads.
        population: the run's state, and how it trains.
        loading: how samples reach the device.
        num_outputs: outputs of the model for each sample.
        class_weights: class weights of the loss, float64 [C]; None if all are equal.
    """

    config: Config
    targets: Targets
    device: torch.device
    threads: int
    preprocessing: Preprocessing
    data: Data
    feed: Feed
    population: SingleRun
    loading: LoaderConfig
    num_outputs: int
    class_weights: Tensor | None

    @property
    def train(self) -> Batches:
        return self.feed.train

    @property
    def valid(self) -> Batches:
        return self.feed.valid

    @property
    def features(self) -> dict[str, FeatureCache]:
        """Caches of the frozen layers' outputs, by split; empty if they are computed each time."""
        return self.feed.features

    @property
    def state(self) -> RunState:
        return self.population.state

    def cache_features(self, names: Sequence[str], progress: Progress) -> None:
        """Compute the features of these splits if they are cached; `progress` may raise to end it."""
        for name in filter(self.features.__contains__, names):
            split = self.data.splits[name]
            # Each sample is read once, so nothing is kept on the device.
            workers = 0 if isinstance(split.samples, Arrays) else self.loading.workers
            once = replace(self.loading, resident=False, workers=workers)
            passing = evaluation_batches(self.config.batch_size, self.data, name, once)
            self.features[name].fill(self.population, passing, split.loss_targets, progress)


@dataclass(frozen=True)
class Sharing:
    """The data and memory that a run of a stack shares with the others.

    Attributes:
        like: a run with the same data, whose data and batches are used.
        runs: runs with data of their own that share the device's memory.
    """

    like: Components | None = None
    runs: int = 1


def assemble(
    config: Config,
    *,
    trusted: bool,
    saved: Checkpoint | None = None,
    cache: DataCache | None = None,
    progress: Progress | None = None,
    sharing: Sharing = Sharing(),
) -> Components:
    """Build the components of a run; nothing is written but decoded images, to their cache.

    Args:
        trusted: whether the configuration may name code outside this program.
        saved: the checkpoint that will be restored, so that `model.weights` need not exist any more.
        cache: keeps data for other runs.
        progress: called while data is read; may raise to end it.
        sharing: what the run shares with the others of its stack.

    Raises:
        UserError: all problems of targets, arguments and device; if there are none, of the data; then of the shapes.
    """
    targets, chosen = _check(config, trusted=trusted)
    threads = device.set_up(config.threads, config.deterministic)
    seed_streams(derive(config.seed, "stream"), device=chosen)
    dtype, output, like = device.dtype_of(config.precision, chosen), config.model.output, sharing.like
    preprocessing = _preprocessing(config, targets, saved)
    if like is None:
        data = DataReader(config.data, targets.data, preprocessing, cache, progress).read(config.data_seed)
        data.task = monitored(with_metrics(data.task, config.metric, targets), config.monitor, output)
    else:
        data = replace(like.data, notes=list(like.data.notes))
    fit_images(data, targets.model, preprocessing, config.data)
    outputs = num_outputs(targets.loss, data.task, output)
    builder = ModelBuilder(targets.model, output, data.prepare.output_shape, outputs, preprocessing.published)
    model = build_model(builder, config.init, config.seed)
    if saved is None:
        data.notes += load_weights(model, config.model.weights, targets.model)
    if like is None:
        free, workers = device.free_memory(chosen) // sharing.runs, device.loader_workers(config.data.workers)
        loading = LoaderConfig(chosen, dtype, free, config.data.resident, workers, cache)
        feed = build_feed(config, targets, data, model, loading)
    else:
        loading, feed = like.loading, replace(like.feed, task=data.task, head="")
    weight = "balanced" if config.data.balance == "loss" else config.loss.weight
    weights = class_weights(weight, data.task, data.splits["train"].targets)
    examples = targets_on(data.splits["train"].loss_targets[:2], chosen)
    criterion = build_criterion(targets.loss, data.task, output, weights, examples, dtype)
    population = build_population(config, targets, model, criterion, feed, loading)
    built = (config, targets, chosen, threads, preprocessing, data, feed, population, loading, outputs, weights)
    return Components(*built)


def _check(config: Config, *, trusted: bool) -> tuple[Targets, torch.device]:
    targets, problems = find_targets(config, GROUPS, trusted=trusted)
    chosen = torch.device("cpu")
    try:
        chosen = device.choose(config.device)
    except UserError as error:
        problems += error.problems
    problems += _debug_problems(config.debug, config.max_steps, compiled=config.compile)
    problems += trackers.problems(config.logger)
    if problems:
        raise UserError(*problems)
    return targets, chosen


def _debug_problems(debug: DebugConfig, max_steps: int | None, *, compiled: bool) -> list[Problem]:
    problems = []
    if debug.gradients and compiled:
        reason = "it needs separate layers, and compile=true fuses them"
        problems.append(Problem("debug.gradients", reason, given="true", advice="Add compile=false."))
    if debug.profile and not WARM_UP < (max_steps or 0) <= WARM_UP + MOST_STEPS:
        reason = f"expected max_steps from {WARM_UP + 1} to {WARM_UP + MOST_STEPS}, such as max_steps=40"
        advice = f"The first {WARM_UP} steps warm up; the others are profiled."
        problems.append(Problem("debug.profile", reason, given="true", advice=advice))
    return problems


def _preprocessing(config: Config, targets: Targets, saved: Checkpoint | None) -> Preprocessing:
    if saved is not None:
        return Preprocessing(**saved.metadata["preprocessing"])
    fetch_weights(config.model.weights, targets.model)  # before any data is read
    return preprocessing_of(config.model.weights, targets.model, config.data.arguments.get("size"))
