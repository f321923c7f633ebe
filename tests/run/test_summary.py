"""The summary of a model, against counts by hand, torchvision's own figures and a real forward pass."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision

from helpers.components import assemble
from trainer.run.summary import summarise


def test_lenet_by_hand(job) -> None:
    parts = assemble(job("data=digits", "model=lenet5").config)
    before = {name: value.clone() for name, value in parts.state.model.state_dict().items()}
    torch.manual_seed(3)
    stream = torch.get_rng_state()
    summary = summarise(parts)
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[name]) for name, value in parts.state.model.state_dict().items())
    first = summary.layers[0]
    assert (first.name, first.type, first.output) == ("conv1", "Conv2d", [6, 28, 28])
    assert first.parameters == 6 * 25 + 6
    assert first.multiply_adds == 6 * 25 * 28 * 28
    dense = 400 * 120 + 120 * 84 + 84 * 10
    assert summary.multiply_adds == 6 * 25 * 28**2 + 16 * 6 * 25 * 10**2 + dense
    assert summary.parameters["total"] == 61_706 == sum(layer.parameters for layer in summary.layers)
    assert summary.weight_bytes == 4 * 61_706


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_published_figures(name: str, job) -> None:
    """torchvision publishes billions of multiply-adds, of 1000 classes at 224 pixels."""
    words = ["data=digits", f"model={name}", "model.weights=none", "+model.image_size=224"]
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["_ops"]
    assert summarise(assemble(job(*words).config)).multiply_adds / 1e9 == pytest.approx(published, rel=0.05)


def test_the_verb_prints_layers_and_totals(verb) -> None:
    done = verb("summary", "data=iris", "model=mlp", "model.hidden=[8]")
    assert done.code == 0, done.err
    assert "Linear" in done.out
    assert "67, 67 trained" in done.out
    done = verb("summary", "--json", "data=iris", "model=mlp", "model.hidden=[8]")
    assert json.loads(done.out)["multiply_adds"] == 4 * 8 + 8 * 3
    assert verb("summary", "model=lenet6").code == 2
