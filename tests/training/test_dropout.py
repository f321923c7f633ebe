"""Dropout with derived masks has the same rate as torch's, and the same mask at the same step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from helpers.trees import same_tree
from trainer.models.mlp import MLP
from trainer.training.dropout import DRAWLESS, SeededDropout, may_draw, seed_dropout


def masked(
    p: float = 0.3, *, seed: int = 0, layer: str = "a", step: int = 0, micro: int = 0, size: int = 4000
) -> Tensor:
    dropout = SeededDropout(p, seed, layer)
    dropout.position = (step, micro)
    return dropout(torch.ones(size // 40, 40))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_the_share_kept_and_the_mean_are_torchs(p: float) -> None:
    size = 200_000
    found = masked(p, size=size)
    kept = (found != 0).double().mean().item()
    five_sigma = 5 * math.sqrt(p * (1 - p) / size)
    assert abs(kept - (1 - p)) < five_sigma
    assert abs(found.double().mean().item() - 1) < five_sigma / (1 - p)
    assert torch.allclose(found[found != 0], torch.tensor(1 / (1 - p)))


def test_units_are_dropped_independently_of_each_other() -> None:
    mask = (masked(0.5, size=200_000).view(-1) != 0).double() - 0.5
    for lag in (1, 40, 41):  # the next unit, the next sample, the one beside it
        assert abs((mask[lag:] * mask[:-lag]).mean().item()) < 5 * 0.25 / math.sqrt(len(mask))


@pytest.mark.parametrize("other", [{"seed": 1}, {"layer": "b"}, {"step": 1}, {"micro": 1}], ids=str)
def test_the_mask_follows_its_key_and_nothing_else(other: dict) -> None:
    first = masked()
    torch.rand(5)
    assert torch.equal(masked(), first)
    changed = masked(**other)
    agreement = ((changed != 0) == (first != 0)).double().mean().item()
    assert agreement == pytest.approx(0.7**2 + 0.3**2, abs=5 * math.sqrt(0.25 / 4000))  # as two independent draws


def test_a_layer_called_twice_in_one_step_draws_twice() -> None:
    """Many models share one nn.Dropout between layers; equal masks would tie those layers to each other."""
    dropout = SeededDropout(0.5, 0, "a")
    inputs = torch.ones(50, 40)
    found = []
    for dropout.position in ((0, 0), (0, 0)):
        first, second = dropout(inputs), dropout(inputs)
        assert not torch.equal(first, second)
        found.append((first, second))
    assert same_tree(*found)


def test_evaluation_is_the_identity() -> None:
    inputs = torch.randn(5, 4)
    assert torch.equal(SeededDropout(0.9, 0, "a").eval()(inputs), inputs)
    assert torch.equal(SeededDropout(0.0, 0, "a")(inputs), inputs)


def test_everything_dropped_is_zero_without_nan() -> None:
    assert torch.equal(masked(1.0), torch.zeros(100, 40))


def test_gradients_flow_through_what_is_kept() -> None:
    inputs = torch.randn(6, 40, requires_grad=True)
    outputs = SeededDropout(0.4, 0, "a")(inputs)
    outputs.sum().backward()
    torch.testing.assert_close(inputs.grad, (outputs != 0) / 0.6)


def test_torchs_stream_is_left_alone() -> None:
    before = torch.get_rng_state()
    masked()
    assert torch.equal(torch.get_rng_state(), before)


def test_every_dropout_of_a_model_is_replaced_in_its_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.4), nn.Linear(4, 2)))
    model[2].eval()
    keyed = seed_dropout(model, seed=3)
    assert [(d.p, d.layer, d.training) for d in keyed] == [(0.2, "1", True), (0.4, "2.0", False)]
    assert not any(type(module) is nn.Dropout for module in model.modules())


ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.Softmax, nn.LogSoftmax)
LAYERS = {
    (4, 6): [
        *(nn.Linear(6, 2), nn.BatchNorm1d(6), nn.LayerNorm(6), nn.GroupNorm(2, 6)),
        *(nn.Sequential(), nn.Flatten(), nn.Identity(), *(kind() for kind in ACTIVATIONS)),
    ],
    (4, 6, 8): [nn.Conv1d(6, 2, 3), nn.MaxPool1d(2), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(2)],
    (4, 6, 8, 8): [nn.Conv2d(6, 2, 3), nn.BatchNorm2d(6), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)],
}


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_layers_without_draws_leave_torchs_stream_alone() -> None:
    assert {type(layer) for layers in LAYERS.values() for layer in layers} == DRAWLESS
    for shape, layers in LAYERS.items():
        for layer in layers:
            inputs = torch.randn(shape)
            before = torch.get_rng_state()
            layer.train()(inputs)
            assert torch.equal(torch.get_rng_state(), before), layer


@pytest.mark.parametrize("layer", [nn.RReLU(), nn.Dropout1d(), nn.FractionalMaxPool2d(2, 2), nn.LSTM(4, 4)], ids=str)
def test_a_model_with_another_layer_may_draw(layer: nn.Module) -> None:
    assert may_draw(nn.Sequential(nn.Linear(4, 4), nn.Sequential(layer)))


def test_a_model_draws_nothing_once_its_dropout_is_replaced() -> None:
    model = MLP(4, 2, hidden=[3], dropout=0.5)
    assert may_draw(model)
    seed_dropout(model, seed=0)
    assert not may_draw(model)
