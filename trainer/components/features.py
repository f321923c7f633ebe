"""Cache the outputs of a model's frozen layers, if they are the same in every epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainer.config.schema import Config
from trainer.data.batches import Batches
from trainer.data.dataset import Data
from trainer.data.fetch import Tensors, targets_on
from trainer.data.images.pool import Progress
from trainer.data.loader import LoaderConfig
from trainer.data.streams import seed_streams
from trainer.seeds import derive
from trainer.training.forward import autocast
from trainer.training.freeze import BACKBONE, head_path
from trainer.training.population import SingleRun

FEATURES_SHARE = 0.5  # of the device's free memory that features may take


def can_cache(config: Config) -> bool:
    """Return whether the frozen layers get the same inputs in every epoch, as far as the configuration decides it."""
    augment = config.augment
    varied = augment.target or augment.mixup or augment.cutmix
    frozen = BACKBONE in config.freeze and config.unfreeze_at is None
    return config.model.cache_features is None and frozen and not config.compile and not varied


def separable_head(model: nn.Module, data: Data, loading: LoaderConfig) -> str:
    """Return the path of the head that can train alone on cached features; empty if there is none.

    The data must be the same in every epoch, the head's output must be the model's, to the bit, and the features must
    fit into memory; if they do not, a note is added to `data`.
    """
    if not all(split.samples.fixed for split in data.splits.values()):
        return ""
    path = head_path(model)
    trial = torch.randn((2, *data.prepare.output_shape), generator=torch.Generator().manual_seed(0))
    training = model.training
    model.eval()
    with torch.no_grad():
        features, outputs = _before(model, path, trial)
        same = torch.equal(model.get_submodule(path)(features), outputs)
    model.train(training)
    if not same:
        return ""
    needed = features[0].numel() * loading.dtype.itemsize * sum(map(len, data.splits.values()))
    if needed > FEATURES_SHARE * loading.free_memory:
        gib = f"{needed / 2**30:.2g} GiB, and {loading.free_memory / 2**30:.2g} GiB are free"
        data.notes.append(f"features of the frozen layers are not cached: they take {gib}")
        return ""
    return path


def _before(model: nn.Module, path: str, inputs: Tensor) -> tuple[Tensor, Any]:
    """Return the input of the module at `path`, and the output of the model."""
    seen: list[Tensor] = []
    hook = model.get_submodule(path).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        outputs = model(inputs)
    finally:
        hook.remove()
    return seen[-1], outputs


class FeatureCache(Tensors):
    """The features [N, ...] and targets of a split, in its own order; filled before the first batch."""

    def fill(self, population: SingleRun, batches: Batches, targets: Tensor, progress: Progress) -> None:
        """Compute the features of a split with one forward pass.

        Args:
            population: the run whose frozen layers are used.
            batches: of the split in its own order; they must not depend on where a run was resumed.
            targets: of the split, [N] or [N, C].
            progress: called before each batch; may raise to end it.
        """
        model = population.state.model.eval()
        self.targets = targets_on(targets, batches.device)
        done = 0
        seed_streams(derive(0, "evaluation"), device=batches.device)  # some models draw in evaluation mode too
        for inputs, _ in batches.epoch(0):
            progress("features of the frozen layers", done, len(targets))
            with torch.no_grad(), autocast(population.device, population.precision):
                features, _ = _before(model, population.head, inputs)
            if done == 0:
                self.inputs = features.new_empty((len(targets), *features.shape[1:]))
            self.inputs[done : done + len(features)] = features
            done += len(features)
