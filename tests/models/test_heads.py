"""Heads: the configured layers, the shapes of outputs, and auxiliary heads that are used only in training."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers.components import assemble
from trainer.components.assemble import Components
from trainer.models.vision import torchvision_model
from trainer.records.metrics import read_metrics

SMALL = ["model=torchvision", "model.weights=none", "model.image_size=32"]
SHUFFLENET = [*SMALL, "model.name=shufflenet_v2_x0_5"]
GOOGLENET = [*SMALL, "model.name=googlenet", "model.init_weights=false"]
FEW = ["batch_size=16", "debug.batches=3", "test=false"]


def rows(path: Path) -> list[dict]:
    return read_metrics(path / "metrics.csv")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "options", "layers", "count"),
    [
        ("resnet18", 10, {}, "Linear(512, 10)", 5_130),
        ("densenet121", 2, {"dropout": 0.2}, "Linear(1024, 256) ReLU Dropout(0.2) Linear(256, 2)", 262_914),
        ("alexnet", 2, {"dropout": [0.5, 0]}, "Dropout(0.5) Linear(9216, 256) ReLU Linear(256, 2)", 2_360_066),
        ("resnet50", 5, {"hidden": [64, 32]}, "Linear(2048, 64) ReLU Linear(64, 32) ReLU Linear(32, 5)", 133_381),
        ("vit_b_16", 7, {"hidden": 32}, "Linear(768, 32) ReLU Linear(32, 7)", 24_839),
        ("convnext_tiny", 3, {"hidden": 8}, "LayerNorm2d Flatten Linear(768, 8) ReLU Linear(8, 3)", 1_536 + 6_179),
    ],
)
def test_a_head_has_these_layers(name: str, classes: int, options: dict, layers: str, count: int) -> None:
    with torch.device("meta"):
        model = torchvision_model(name, classes, head="mlp" if options else "linear", **options)
        assert model.eval()(torch.empty(2, 3, 224, 224)).shape == (2, classes)
    head = model.get_submodule(model.head_path)
    assert sum(p.numel() for p in head.parameters()) == count
    shown = []
    for module in head.modules():
        if isinstance(module, nn.Linear):
            shown.append(f"Linear({module.in_features}, {module.out_features})")
        elif isinstance(module, nn.Dropout):
            shown.append(f"Dropout({module.p})")
        elif not isinstance(module, nn.Sequential):
            shown.append(type(module).__name__)
    assert " ".join(shown) == layers


@pytest.mark.slow
def test_log_probabilities_with_nll_are_logits_with_cross_entropy(train) -> None:
    words = [*SHUFFLENET, "model.head=mlp", *FEW, "epochs=2"]
    logs = train(*words, "model.output=log_probabilities", "loss=nll")
    assert logs.code == 0, logs.err
    logits = train(*words)
    for a, b in zip(rows(logs.folder), rows(logits.folder), strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], abs=1e-5)
        assert a["valid_accuracy"] == b["valid_accuracy"]


def test_log_probabilities_sum_to_one(job) -> None:
    words = [*SHUFFLENET, "model.head=mlp", "model.output=log_probabilities", "loss=nll", *FEW]
    parts = assemble(job(*words).config)
    inputs, _ = next(iter(parts.valid.epoch(0)))
    parts.population.eval()
    with torch.no_grad():
        torch.testing.assert_close(parts.population.outputs(inputs[:4]).exp().sum(1), torch.ones(4))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("resnet18", {"head": "foo"}, "head=foo: expected linear or mlp"),
        ("resnet18", {"head": "mlp", "dropout": [0.1]}, "dropout has 1 numbers; expected one, or one for each of 2"),
        ("squeezenet1_1", {"head": "mlp"}, r"\(classifier\) is not made of linear layers"),
        ("shufflenet", {}, "the nearest are shufflenet_v2_x"),
    ],
)
def test_a_head_that_cannot_be_is_refused(name: str, options: dict, sentence: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=sentence):
        torchvision_model(name, 10, **options)


def test_the_refusal_of_a_head_is_one_sentence(train) -> None:
    done = train(*SHUFFLENET, "model.head=foo")
    assert done.code == 2
    assert "head=foo: expected linear or mlp" in done.err
    assert len(done.err.splitlines()) == 1


# Auxiliary heads


def loss_and_gradients(parts: Components) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    inputs, targets = next(iter(parts.train.epoch(0)))
    parts.population.train()
    _, loss = parts.population.forward(inputs, targets)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in parts.state.model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "weight", "heads"),
    [
        (["model=inception_v3", "model.init_weights=false", "batch_size=2"], 0.4, 1),
        ([*GOOGLENET, "batch_size=8"], 0.3, 2),
        ([*GOOGLENET, "batch_size=8", "model.output=log_probabilities", "loss=nll"], 0.3, 2),
    ],
    ids=["inception_v3", "googlenet", "googlenet, log probabilities"],
)
def test_auxiliary_heads_move_the_weights_and_are_not_seen(words, weight, heads, job) -> None:
    parts = assemble(job(*words, "model.weights=none", "debug.batches=1").config)
    inputs, targets = next(iter(parts.train.epoch(0)))
    by_hand = copy.deepcopy(parts.state.model).train()
    main, *others = by_hand(inputs)
    assert len(others) == heads
    if "loss=nll" in words:
        assert torch.allclose(main.exp().sum(1), torch.ones(len(main)))
    expected = F.cross_entropy(main, targets)  # of log probabilities too: their softmax is themselves
    (expected + weight * sum(F.cross_entropy(other, targets) for other in others)).backward()
    loss, gradients = loss_and_gradients(parts)
    torch.testing.assert_close(loss, expected.detach())
    for name, parameter in by_hand.named_parameters():
        scale = parameter.grad.abs().max().item()
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=0, atol=1e-5 * scale, msg=name)


@pytest.mark.slow
def test_auxiliary_heads_are_not_needed(train, job) -> None:
    words = ["model=inception_v3", "model.weights=none", "model.image_size=75", "batch_size=2", "debug.batches=1"]
    parts = assemble(job(*words, "model.aux_logits=false").config)
    loss, gradients = loss_and_gradients(parts)
    assert loss.isfinite()
    assert all(gradient is not None for gradient in gradients.values())
    done = train(*words)  # its auxiliary head needs larger images
    assert done.code == 2
    assert "aux_logits=false" in done.err
