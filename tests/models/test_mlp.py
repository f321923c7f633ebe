"""Perceptron, mlp and sequential: sizes from textbooks, gradients by hand, layers as listed."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainer.models.mlp import ACTIVATIONS, MLP, Perceptron
from trainer.models.sequential import sequential


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ((10, 50, 1), 601),
        ((8, 4, 2), 46),
        ((6, 4, 1), 33),
        ((6, 4, 3), 43),
        ((4, 2, 1), 13),
        ((10, 18, 20, 5), 683),
        ((16, 8, 4, 2), 182),
    ],
)
def test_parameters_are_those_of_the_layers_written_out(sizes: tuple[int, ...], count: int) -> None:
    model = MLP(in_features=sizes[0], num_outputs=sizes[-1], hidden=sizes[1:-1])
    by_hand = sum(a * b + b for a, b in itertools.pairwise(sizes))
    assert sum(p.numel() for p in model.parameters()) == by_hand == count


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_the_perceptrons_gradient_is_the_one_derived_by_hand(loss: str) -> None:
    torch.manual_seed(0)
    model, inputs = Perceptron(5).double(), torch.randn(40, 5, dtype=torch.float64)
    targets = (torch.rand(40) > 0.4).double()
    p = model(inputs)[:, 0]
    (F.mse_loss(p, targets) if loss == "mse" else F.binary_cross_entropy(p, targets)).backward()
    # dL/dz for p = sigmoid(z): cross-entropy p - t; squared error 2 (p - t) p (1 - p); both averaged.
    with torch.no_grad():
        slope = (p - targets) if loss == "cross_entropy" else 2 * (p - targets) * p * (1 - p)
        torch.testing.assert_close(model.neuron.weight.grad[0], inputs.T @ slope / 40, rtol=0, atol=1e-12)
        torch.testing.assert_close(model.neuron.bias.grad[0], slope.mean(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_is_torchs_function_of_that_name(activation: str) -> None:
    model = MLP(3, 2, hidden=(4,), activation=activation, slope=0.2).eval()
    inputs = torch.randn(7, 3)
    function = {"none": lambda x: x, "leaky_relu": lambda x: F.leaky_relu(x, 0.2)}.get(activation)
    function = function or getattr(F, activation, None) or getattr(torch, activation)
    first, last = (m for m in model if isinstance(m, nn.Linear))
    torch.testing.assert_close(model(inputs), last(function(first(inputs))))


def test_norm_comes_before_the_activation_and_dropout_after_it_never_on_the_output() -> None:
    kinds = [type(m).__name__ for m in MLP(3, 2, hidden=(4,), norm="batch", dropout=0.5)]
    assert kinds == ["Flatten", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]


def test_an_unknown_activation_is_refused_with_the_known_ones(train) -> None:
    done = train("data=iris", "model=mlp", "model.activation=rellu")
    assert done.code == 2
    assert "activation=rellu: expected one of none, relu" in done.err


def test_sequential_is_the_layers_in_order() -> None:
    model = sequential([{"Linear": [4, 2]}, "Sigmoid", {"Dropout": {"p": 0.2}}, {"Linear": [2, 1]}])
    assert [type(m) for m in model] == [nn.Linear, nn.Sigmoid, nn.Dropout, nn.Linear]
    assert model[2].p == 0.2


@pytest.mark.parametrize("entry", ["Liner", 3, {"Linear": [4, 2], "ReLU": []}, "functional", "Module.register_buffer"])
def test_what_is_no_layer_is_refused(entry) -> None:
    with pytest.raises(ValueError, match="layer 1 is"):
        sequential([entry])
