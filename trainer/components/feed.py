"""Build the training and evaluation batches of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.components.data import build_augmentation, build_mix
from trainer.components.features import FeatureCache, can_cache, separable_head
from trainer.components.loss import loss_class
from trainer.components.target import Targets
from trainer.config.schema import Config
from trainer.data.batches import Batches, TrainSampling
from trainer.data.dataset import Data, balancing
from trainer.data.fetch import Fetch
from trainer.data.loader import LoaderConfig, make_batches
from trainer.data.tasks import Task
from trainer.errors import Problem, UserError

EVALUATION_BATCH = 8  # times batch_size: no gradients are kept, so larger batches fit,
EVALUATION_NUMBERS = 2**24  # but only so many numbers at a time


@dataclass(frozen=True)
class Feed:
    """The batches of a run.

    Attributes:
        task: the task, with the metrics that the run computes.
        features: caches of the frozen layers' outputs, by split.
        head: path of the module that trains on them; empty if there are none.
    """

    task: Task
    train: Batches
    valid: Batches
    features: dict[str, FeatureCache]
    head: str


def build_feed(config: Config, targets: Targets, data: Data, model: nn.Module, loading: LoaderConfig) -> Feed:
    """Return the batches of a run; `data` is truncated as `debug.batches` says.

    Raises:
        UserError: augmentation or mixing does not fit the data, or BatchNorm gets a batch of one sample.
    """
    augment = build_augmentation(targets.augment, data)
    if config.debug.batches:
        num_samples = config.debug.batches * config.batch_size
        data.truncate(num_samples, overfit=config.debug.overfit, seed=config.data_seed)
    head = separable_head(model, data, loading) if can_cache(config) else ""
    features = {name: FeatureCache() for name in data.splits if head}
    weights = balancing(data) if config.data.balance == "sampler" else None
    mix = build_mix(config.augment, data, loss_class(targets.loss, data.task, config.model.output))
    own = "augment" in config.own_code
    sampling = TrainSampling(config.data_seed, config.drop_last, augment, own, weights, mix)
    train = make_batches(data, "train", config.batch_size, loading, sampling, features.get("train"))
    if min(train.sizes) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        reason = "BatchNorm needs two samples or more in every training batch"
        raise UserError(Problem("batch_size", reason, given=str(config.batch_size), check="last batch"))
    valid = evaluation_batches(config.batch_size, data, "valid", loading, features.get("valid"))
    return Feed(data.task, train, valid, features, head)


def evaluation_batches(
    batch_size: int, data: Data, split: str, loading: LoaderConfig, fetch: Fetch | None = None
) -> Batches:
    """Return the batches of a split in its own order, without augmentation."""
    return make_batches(data, split, evaluation_size(batch_size, data.prepare.output_shape), loading, fetch=fetch)


def evaluation_size(batch_size: int, shape: tuple[int, ...]) -> int:
    """Return the number of samples of `shape` that are evaluated at a time."""
    return max(batch_size, min(EVALUATION_BATCH * batch_size, EVALUATION_NUMBERS // math.prod(shape)))
