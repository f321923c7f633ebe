"""Each scheme has the variance that its paper states, checked on many weights; gains match the activations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from helpers.components import assemble
from trainer.components.init import initialise

FAN_IN, FAN_OUT = 300, 500
VARIANCES = {
    "xavier_uniform": lambda gain: gain**2 * 2 / (FAN_IN + FAN_OUT),
    "xavier_normal": lambda gain: gain**2 * 2 / (FAN_IN + FAN_OUT),
    "kaiming_uniform": lambda gain: gain**2 / FAN_IN,
    "kaiming_normal": lambda gain: gain**2 / FAN_IN,
    "lecun_normal": lambda gain: 1 / FAN_IN,
    "uniform": lambda gain: 0.05**2 / 3,
}


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize(
    ("activation", "gain"), [("relu", math.sqrt(2)), ("tanh", 5 / 3), ("sigmoid", 1.0), ("none", 1.0)]
)
def test_the_variance_is_the_papers(name: str, activation: str, gain: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(FAN_IN, FAN_OUT)
    initialise(layer, name, activation)
    # 150,000 draws: the sample variance of a normal is within 1.5 % of the true one four standard errors out.
    assert layer.weight.var().item() == pytest.approx(VARIANCES[name](gain), rel=0.015)
    assert abs(layer.weight.mean().item()) < 4 * math.sqrt(VARIANCES[name](gain) / layer.weight.numel())
    assert not layer.bias.any()


@pytest.mark.parametrize("name", ["xavier_uniform", "kaiming_uniform", "uniform"])
def test_uniform_is_flat_and_normal_is_not(name: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(FAN_IN, FAN_OUT)
    initialise(layer, name)
    edge = math.sqrt(3 * VARIANCES[name](math.sqrt(2)))
    assert layer.weight.abs().max() <= edge
    assert (layer.weight.abs() > edge / 2).double().mean().item() == pytest.approx(0.5, abs=0.01)


def test_orthogonal_rows_have_the_gain_as_their_length() -> None:
    layer = nn.Linear(40, 20)
    initialise(layer, "orthogonal", "tanh")
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(20) * (5 / 3) ** 2, atol=1e-5, rtol=0)


def test_convolutions_count_their_window_as_fan_in() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 64, 5)
    initialise(layer, "kaiming_normal")
    assert layer.weight.var().item() == pytest.approx(2 / (16 * 25), rel=0.04)


def test_norms_and_the_default_are_left_alone(job) -> None:
    layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = [p.clone() for p in layers.parameters()]
    initialise(layers, None)
    assert all(map(torch.equal, before, layers.parameters()))
    initialise(layers, "xavier_normal")
    assert torch.equal(layers[1].weight, before[2])


def test_the_gain_follows_the_models_activation_and_the_seed_the_weights(job) -> None:
    words = ["data=iris", "model=mlp", "model.hidden=[400,400]", "init=kaiming_normal"]
    weights = {
        act: assemble(job(*words, f"model.activation={act}").config).state.model[3].weight for act in ("relu", "tanh")
    }
    assert (weights["relu"].var() / weights["tanh"].var()).item() == pytest.approx(2 / (25 / 9), rel=1e-4)
    again = assemble(job(*words).config).state.model[3].weight
    assert torch.equal(again, weights["relu"])
