"""Builders of components from configurations that the tests themselves wrote, which are trusted."""

from __future__ import annotations

from typing import Any

from torch import nn

from trainer.components import assemble as assembling
from trainer.components import model, preprocessing, pretrained
from trainer.components.data import DataReader
from trainer.components.loss import num_outputs
from trainer.components.metadata import Preprocessing
from trainer.components.targets import Targets, resolve_targets
from trainer.config.schema import GROUPS, Config
from trainer.data.dataset import Data
from trainer.data.source import Source


def resolved(config: Config, *groups: str) -> Targets:
    """Resolve the targets of these groups, or of all."""
    return resolve_targets(config, groups or GROUPS, trusted=True)


def assemble(config: Config, **options: Any) -> assembling.Components:
    """Build all components of a run."""
    return assembling.assemble(config, trusted=True, **options)


def preprocessing_of(config: Config) -> Preprocessing:
    """Return the preprocessing that the model expects."""
    target = resolved(config, "model").model
    return preprocessing.preprocessing_of(config.model.weights, target, config.data.arguments.get("size"))


def build_model(config: Config, data: Data, expected: Preprocessing | None = None) -> nn.Module:
    """Build the model for this data, whose preparation is fitted to the model (in place)."""
    targets, expected = resolved(config, "model", "loss"), expected or preprocessing_of(config)
    model.fit_images(data, targets.model, expected)
    outputs = num_outputs(targets.loss, data.task, config.model.output)
    shape = data.prepare.output_shape
    builder = model.ModelBuilder(targets.model, config.model.output, shape, outputs, expected.published)
    return model.build_model(builder, config.init, config.seed)


def build_source(config: Config) -> Source:
    """Read the data source that the configuration names."""
    return DataReader(config.data, resolved(config, "data").data, Preprocessing()).source()


def load_weights(built: nn.Module, config: Config) -> list[str]:
    """Load `model.weights`; return the notes."""
    return pretrained.load_weights(built, config.model.weights, resolved(config, "model").model)
