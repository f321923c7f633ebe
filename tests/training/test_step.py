"""One optimizer step equals that of a hand-written torch loop."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.components import assemble
from trainer.training.population import SingleRun
from trainer.training.step import train_step


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def first_batches(parts, count: int) -> list[tuple[Tensor, Tensor]]:
    return [batch for batch, _ in zip(parts.train.epoch(0), range(count), strict=False)]


@pytest.mark.parametrize(
    ("words", "make"),
    [
        (("optim=sgd",), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, fused=True)),
        (("optim=adamw",), lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-2, fused=True)),
    ],
    ids=["sgd", "adamw"],
)
@pytest.mark.parametrize("model", ["lenet5", "mnist_classifier"])
def test_steps_equal_a_loop_by_hand_bit_for_bit(model: str, words: tuple[str, ...], make, job) -> None:
    parts = assemble(job(f"model={model}", *words).config)
    hand = copy.deepcopy(parts.state.model).train()
    optimizer = make(hand.parameters())
    parts.population.train()
    losses = []
    for inputs, targets in first_batches(parts, 6):
        train_step(parts.population, [(inputs, targets)])
        optimizer.zero_grad()
        loss = F.cross_entropy(hand(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item() * len(targets))
    assert same_weights(parts.state.model, hand)
    assert parts.state.step == 6
    assert parts.population.sums.result()["train_loss"] == pytest.approx(sum(losses) / (6 * 64), rel=1e-12)


# torch divides a mean of weighed losses by the weights, which other batches share out otherwise.
@pytest.mark.slow
@pytest.mark.parametrize("more", ["clip_norm=0.1", "loss=cross_entropy loss.weight=[1,10,1,1,1,5,1,1,2,1]"])
@pytest.mark.parametrize("cuts", [[64], [16] * 4, [1, 40, 7, 16], [63, 1]], ids=str)
def test_accumulation_equals_the_whole_batch(cuts: list[int], more: str, job) -> None:
    words = ("model=ann", "model.dropout=0", "precision=float64", "optim=sgd", *more.split())
    parts, whole = assemble(job(*words).config), assemble(job(*words).config)
    ((inputs, targets),) = first_batches(parts, 1)
    train_step(parts.population, list(zip(inputs.split(cuts), targets.split(cuts), strict=True)))
    train_step(whole.population, [(inputs, targets)])
    for x, y in zip(parts.state.model.parameters(), whole.state.model.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)
    assert parts.state.step == 1
    found, expected = (p.population.sums.result() for p in (parts, whole))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "value"), [(0.05, None), (None, 0.01), (0.05, 0.01), (1e9, 1e9)])
def test_clipping_is_torchs(norm: float | None, value: float | None, job) -> None:
    given = [f"clip_{kind}={value}" for kind, value in (("norm", norm), ("value", value)) if value]
    parts = assemble(job("optim=sgd", *given).config)
    hand = copy.deepcopy(parts.state.model)
    ((inputs, targets),) = first_batches(parts, 1)
    train_step(parts.population, [(inputs, targets)])
    F.cross_entropy(hand(inputs), targets).backward()
    if value:
        nn.utils.clip_grad_value_(hand.parameters(), value)
    if norm:
        nn.utils.clip_grad_norm_(hand.parameters(), norm)
    torch.optim.SGD(hand.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True).step()
    assert same_weights(parts.state.model, hand)


@pytest.mark.parametrize("bad", [float("nan"), pytest.param(float("inf"), marks=pytest.mark.slow)])
def test_a_loss_that_is_not_finite_updates_nothing(bad: float, job) -> None:
    parts = assemble(job("model=ann").config)
    good, spoilt = first_batches(parts, 2)
    spoilt[0][3] = bad
    before = copy.deepcopy(parts.state.model)
    assert train_step(parts.population, [good, spoilt]) == [parts.state]
    assert parts.population.states == []
    assert same_weights(parts.state.model, before)
    assert parts.state.step == 0
    assert not parts.state.optimizer.state


def fit_a_little(words: tuple[str, ...], job) -> tuple[nn.Module, nn.Module]:
    parts = assemble(job(*words).config)
    before = copy.deepcopy(parts.state.model)
    parts.population.train()
    for batch in first_batches(parts, 3):
        train_step(parts.population, [batch])
    return before, parts.state.model


def test_frozen_batchnorm_keeps_statistics_and_parameters(job) -> None:
    before, after = fit_a_little(("model=mnist_classifier", "freeze=[norm1.*,layer1.*]"), job)
    for name, value in after.state_dict().items():
        held = name.startswith(("norm1.", "layer1."))
        assert torch.equal(value, before.state_dict()[name]) == held, name


def test_without_freezing_the_statistics_move(job) -> None:
    before, after = fit_a_little(("model=mnist_classifier",), job)
    assert not torch.equal(before.norm1.running_mean, after.norm1.running_mean)
    assert after.norm1.num_batches_tracked == 3


def test_a_frozen_model_has_less_to_train(train) -> None:
    done = train("model=mnist_classifier", "freeze=[layer1.*]", "epochs=1", "debug.batches=2")
    counts = done.results["parameters"]
    assert counts["total"] - counts["trainable"] == 64 * 50 + 50
    assert "nothing is left to train" in train("model=ann", "freeze=*").err
    assert "no parameter has such a name" in train("model=ann", "freeze=hiden.*").err


def test_binary_steps_use_one_logit(job) -> None:
    parts = assemble(job("model=ann", "model.dropout=0", "optim=sgd", "+data.relabel={low: [0, 1], high: rest}").config)
    assert isinstance(parts.population, SingleRun)
    hand = copy.deepcopy(parts.state.model)
    ((inputs, targets),) = first_batches(parts, 1)
    train_step(parts.population, [(inputs, targets)])
    F.binary_cross_entropy_with_logits(hand(inputs)[:, 0], targets.float()).backward()
    torch.optim.SGD(hand.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True).step()
    assert same_weights(parts.state.model, hand)


RRELU = "model.layers=[Flatten,{Linear:[64,10]},RReLU]"


@pytest.mark.parametrize(
    ("words", "draws"),
    [(("model=mlp", "model.dropout=0.5"), False), (("model=lenet5",), False), (("model=sequential", RRELU), True)],
    ids=["dropout", "lenet5", "rrelu"],
)
def test_torchs_stream_is_seeded_only_for_a_model_that_may_draw(words: tuple[str, ...], draws: bool, job) -> None:
    """What was drawn before a step does not change it."""
    losses, untouched = [], []
    for other_draws in (0, 5):
        parts = assemble(job(*words).config)
        parts.population.train()
        batches = first_batches(parts, 2)
        torch.rand(other_draws)
        before = torch.get_rng_state()
        for batch in batches:
            train_step(parts.population, [batch])
        untouched.append(torch.equal(torch.get_rng_state(), before))
        losses.append(parts.population.sums.result()["train_loss"])
    assert untouched == [not draws] * 2
    assert losses[0] == losses[1]
