"""A stacked population trains each of its runs as alone; solo runs are the oracle."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import islice, product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from helpers.components import assemble
from helpers.datasets import write_images, write_pets
from trainer.components.assemble import Components
from trainer.config.job import Job
from trainer.signals import Signals
from trainer.stack.build import stacked
from trainer.stack.optimizers import StackedOptimizer
from trainer.stack.population import StackedRuns
from trainer.training.evaluate import evaluate
from trainer.training.step import train_step

Make = Callable[..., Job]
STEPS = 60
AT_LENGTH = pytest.param(200, marks=pytest.mark.exhaustive)
BASE = ("threads=1", "precision=float64", "batch_size=16", "epochs=100", "patience=null")
# Models that are small enough to be trained here, with data that they take; torchvision's are stacked further down.
MODELS = {
    "ann": ("data=breast_cancer",),
    "perceptron": ("data=breast_cancer", "loss=bce"),
    "mlp": ("data=digits", "model.norm=layer"),
    "mnist_classifier": ("data=breast_cancer", "batch_size=64"),
    "sequential": ("data=iris", "model.layers=[{Linear: [4, 8]}, Tanh, {Linear: [8, 3]}]"),
    "cnn": ("data=digits", "batch_size=4"),
    "lenet5": ("data=digits", "batch_size=4"),
    "net": ("data=digits", "batch_size=4"),
    "sequential_cnn": ("data=image_folder", "data.root=noise", "data.size=12", "batch_size=2"),
}
THREE = (("seed=1", "optim.lr=0.002"), ("seed=2", "optim.lr=0.002"), ("seed=3", "optim.lr=0.01", "clip_norm=0.1"))


@pytest.fixture
def noise() -> None:
    """Twelve images of noise for each of two classes."""
    write_images(Path("noise"), {"this": 12, "that": 12}, size=32)


def built(job: Make, base: Sequence[str], varied: Sequence[Sequence[str]]) -> list[Components]:
    return [assemble(job(*BASE, *base, *words).config) for words in varied]


def train(population: StackedRuns | object, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    population.train()
    for batch in batches:
        train_step(population, [batch])


def first_batches(parts: Components, count: int) -> list[tuple[Tensor, Tensor]]:
    found: list[tuple[Tensor, Tensor]] = []
    for epoch in range(count):
        found += islice(parts.train.epoch(epoch), count - len(found))
    return found


def tensors(parts: Components) -> list[Tensor]:
    """All that a run's arithmetic has changed."""
    state = parts.state
    held = [value for entry in state.optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    average = list(state.average.state_dict().values()) if state.average is not None else []
    return [*state.model.state_dict().values(), *held, *average, state.sums.loss_R, state.sums.correct_R]


def assert_same(found: Components, expected: Components, tolerance: float = 1e-10) -> None:
    for one, other in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert found.state.step == expected.state.step


@pytest.mark.slow
@pytest.mark.parametrize("steps", [STEPS, AT_LENGTH])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("noise")
def test_each_run_ends_where_it_would_alone(model: str, steps: int, job: Make) -> None:
    words = (f"model={model}", *MODELS[model], "data.seed=0", "optim=sgd")
    together, alone = built(job, words, THREE), built(job, words, THREE)
    batches = first_batches(alone[0], steps)
    train(StackedRuns([parts.population for parts in together]), batches)
    for found, expected in zip(together, alone, strict=True):
        train(expected.population, batches)
        assert_same(found, expected)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("target", ["[bird,cat,dog]", "[height,weight]"])
def test_runs_with_several_targets_end_where_they_would_alone(target: str, shared: bool, job: Make) -> None:
    write_pets(Path("pets.csv"))
    words = ("data=csv", "data.path=pets.csv", "data.features=[a,b,c,d]", f"data.target={target}", "model=mlp")
    words += ("model.hidden=[8]", "optim=sgd", "monitor=valid_loss", *(["data.seed=0"] if shared else []))
    varied = [list(words) for words in THREE]
    if "bird" in target:
        varied[1] += ["loss.weight=balanced", "monitor=valid_auroc"]
    together, alone = built(job, words, varied), built(job, words, varied)
    population, data = stacked(together)
    train(population, [batch for epoch in range(3) for batch in data.train.epoch(epoch)])
    population.eval()
    values = population.metrics(*evaluate(population.outputs, data.valid, Signals(), population.batch_axis))
    for found, expected, metrics in zip(together, alone, values, strict=True):
        train(expected.population, [batch for epoch in range(3) for batch in expected.train.epoch(epoch)])
        assert_same(found, expected)
        expected.population.eval()
        [own] = expected.population.metrics(*evaluate(expected.population.outputs, expected.valid, Signals()))
        assert metrics == pytest.approx(own, rel=1e-9)
        assert found.state.sums.result() == pytest.approx(expected.state.sums.result(), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [STEPS, AT_LENGTH])
@pytest.mark.parametrize(
    "model", ["mnist_classifier", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("mlp", "lenet5"))]
)
def test_with_adamw_it_drifts_no_further_than_by_a_last_digit(model: str, steps: int, job: Make) -> None:
    """AdamW makes a step of a rounding error where a gradient is all but zero, as before BatchNorm.

    So what is compared is the same run alone with weights that differ in their last digit.
    """
    words = (f"model={model}", *MODELS[model], "data.seed=0", "optim=adamw")
    together, alone, nudged = (built(job, words, THREE) for _ in range(3))
    batches = first_batches(alone[0], steps)
    train(StackedRuns([parts.population for parts in together]), batches)
    drifts = []
    for found, expected, other in zip(together, alone, nudged, strict=True):
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in other.state.model.parameters():
                weight.mul_(1 + 2.2e-16 * torch.randn_like(weight).sign())
        train(expected.population, batches)
        train(other.population, batches)
        drifts.append([_distance(found, expected), _distance(other, expected)])
    assert max(ours for ours, _ in drifts) <= max(1e-10, 10 * max(theirs for _, theirs in drifts))
    assert max(ours for ours, _ in drifts) < 1e-3


def _distance(one: Components, other: Components) -> float:
    pairs = zip(one.state.model.parameters(), other.state.model.parameters(), strict=True)
    return max((x - y).abs().max().item() for x, y in pairs)


OPTIMIZERS = {
    "sgd": ("optim.momentum=0.9", "optim.momentum=0.5", "optim.nesterov=false"),
    "adam": ("optim.betas=[0.9,0.99]", "optim.betas=[0.8,0.999]", "optim.eps=1e-6"),
    "adamw": ("optim.betas=[0.9,0.99]", "optim.betas=[0.8,0.999]", "optim.amsgrad=true"),
    "rmsprop": ("optim.alpha=0.99", "optim.alpha=0.9", "+optim.momentum=0.5"),
    "adagrad": ("optim.eps=1e-10", "+optim.lr_decay=0.01", "optim.eps=1e-8"),
    "nadam": ("optim.betas=[0.9,0.99]", "optim.betas=[0.8,0.999]", "optim.eps=1e-6"),
}


SCHEDULES = ("constant", "cosine", "one_cycle")
THIN = set(zip(OPTIMIZERS, SCHEDULES * 2, strict=True))  # each optimizer once, each schedule twice


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optim", "schedule"),
    [
        pytest.param(*pair, marks=[] if pair in THIN else pytest.mark.exhaustive)
        for pair in product(OPTIMIZERS, SCHEDULES)
    ],
)
def test_settings_of_each_run_are_its_own(optim: str, schedule: str, job: Make) -> None:
    if schedule == "one_cycle" and optim == "adagrad":
        schedule = "step"  # it has no momentum to cycle
    words = ("model=mlp", "data=digits", "data.seed=0", f"optim={optim}", "model.dropout=0.2", "loss=cross_entropy")
    words += (f"schedule={schedule}", "optim.weight_decay=0.01", "optim.lr=0.003")
    first, second, third = OPTIMIZERS[optim]
    varied = [
        ("seed=1", first, "clip_norm=0.5"),
        ("seed=2", first),
        ("seed=3", second, "model.dropout=0.6", "loss.label_smoothing=0.1"),
        ("seed=1", third, "optim.weight_decay=0.1", "clip_value=0.01", "optim.lr=0.01"),
        ("seed=1", third, "optim.weight_decay=0.1", "clip_value=0.02", "optim.lr=0.01", "loss.label_smoothing=0.2"),
    ]
    varied = [[word.lstrip("+") if "=" in word else word for word in some] for some in varied]
    together, alone = built(job, words, varied), built(job, words, varied)
    batches = first_batches(alone[0], STEPS)
    train(StackedRuns([parts.population for parts in together]), batches)
    for found, expected in zip(together, alone, strict=True):
        train(expected.population, batches)
        assert_same(found, expected)
        assert found.state.optimizer.param_groups[0]["lr"] == expected.state.optimizer.param_groups[0]["lr"]


OPTIONS = {
    "batch norm, averaged": ("model.norm=batch", "ema.decay=0.9", "data=iris", "optim=sgd", "batch_size=64"),
    "in parts": ("accumulate=3", "clip_norm=0.2"),
    "class weights": ("loss=cross_entropy", "loss.weight=balanced"),
    "weights of two classes": ("data=breast_cancer", "loss.weight=balanced", "accumulate=3", "augment.mixup=0.4"),
    "mixed": ("augment.mixup=0.4",),
    "decay of matrices only": ("optim.decay_all=false", "optim.weight_decay=0.1"),
    "warm-up": ("schedule=cosine", "schedule.warmup_epochs=2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", OPTIONS.values(), ids=OPTIONS)
def test_what_the_loop_does_around_a_step_is_the_same(words: tuple[str, ...], job: Make) -> None:
    words = ("model=mlp", "data=digits", "data.seed=0", *words)
    together, alone = built(job, words, THREE), built(job, words, THREE)
    batches, size = first_batches(alone[0], 60), alone[0].config.accumulate
    groups = [batches[i : i + size] for i in range(0, len(batches), size)]
    population = StackedRuns([parts.population for parts in together])
    for each in (population, *(parts.population for parts in alone)):
        each.train()
        for group in groups:
            train_step(each, group)
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)
    with Signals() as signals:
        population.eval()
        outputs, targets = evaluate(population.outputs, together[0].valid, signals)
        metrics = population.metrics(outputs, targets)
        for run, expected in enumerate(alone):
            expected.population.eval()
            mine, _ = evaluate(expected.population.outputs, expected.valid, signals)
            torch.testing.assert_close(outputs[run], mine, rtol=1e-10, atol=1e-10)
            [own] = expected.population.metrics(mine, targets)
            assert metrics[run].pop("loss") == pytest.approx(own.pop("loss"), rel=1e-10)
            assert metrics[run] == own


@pytest.mark.slow
@pytest.mark.parametrize("data", ["data=digits", "data=diabetes", "data=breast_cancer loss.weight=balanced"])
def test_runs_may_have_samples_of_their_own(data: str, job: Make) -> None:
    """Other seeds split, order and scale the data in other ways; two of the runs share theirs."""
    varied = [("seed=1",), ("seed=2", "optim.lr=0.01"), ("seed=1", "optim.lr=0.02"), ("seed=3",)]
    words = ("model=mlp", *data.split(), "model.dropout=0.1")
    together, alone = built(job, words, varied), built(job, words, varied)
    population, data = stacked(together)
    train(population, first_batches_of(data.train, 60))
    for found, expected in zip(together, alone, strict=True):
        train(expected.population, first_batches(expected, 60))
        assert_same(found, expected)
    with Signals() as signals:
        population.eval()
        outputs, targets = evaluate(population.outputs, data.valid, signals, population.batch_axis)
        for run, expected in enumerate(alone):
            expected.population.eval()
            mine, own = evaluate(expected.population.outputs, expected.valid, signals)
            assert population.metrics(outputs, targets)[run] == pytest.approx(
                expected.population.metrics(mine, own)[0], rel=1e-9
            )


def first_batches_of(batches: object, count: int) -> list[tuple[Tensor, Tensor]]:
    found: list[tuple[Tensor, Tensor]] = []
    for epoch in range(count):
        found += islice(batches.epoch(epoch), count - len(found))
    return found


def test_a_run_that_leaves_changes_nothing_for_the_others_and_stays_whole(job: Make) -> None:
    words = ("model=mlp", "data=iris", "data.seed=0", "model.norm=batch", "model.dropout=0.3", "ema.decay=0.9")
    words += ("optim=sgd", "batch_size=64")
    together, alone = built(job, words, THREE), built(job, words, THREE)
    batches = first_batches(alone[0], 40)
    population = StackedRuns([parts.population for parts in together])
    train(population, batches[:20])
    leaving = together[1].state
    population.remove([leaving])
    assert population.states == [together[0].state, together[2].state]
    train(population, batches[20:])
    for run, (found, expected) in enumerate(zip(together, alone, strict=True)):
        train(expected.population, batches[:20] if run == 1 else batches)
        assert_same(found, expected)
    for tensor in (*leaving.model.state_dict().values(), *leaving.weights().values()):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes  # or its checkpoint would hold the whole stack


def test_a_run_that_is_not_finite_leaves_before_the_step_that_the_others_take(job: Make) -> None:
    words = ("model=mlp", "data=digits", "data.seed=0")
    together, alone = built(job, words, THREE), built(job, words, THREE)
    batches = first_batches(alone[0], 10)
    population = StackedRuns([parts.population for parts in together])
    train(population, batches[:5])
    before = copy.deepcopy(together[1].state.model.state_dict())
    with torch.no_grad():
        next(together[1].state.model.parameters())[0, 0] = float("nan")
        next(iter(before.values()))[0, 0] = float("nan")
    assert train_step(population, [batches[5]]) == [together[1].state]
    train(population, batches[6:])
    for run in (0, 2):
        train(alone[run].population, batches)
        assert_same(together[run], alone[run])
    for name, value in together[1].state.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.slow
def test_single_precision_stays_within_a_thousandth_for_fifty_steps(job: Make) -> None:
    """The order of additions differs, so float32 drifts apart as two thread counts do; this is how far."""
    words = ("model=mlp", "model.norm=layer", "data=digits", "data.seed=0", "precision=float32", "optim=sgd")
    together, alone = built(job, words, THREE), built(job, words, THREE)
    batches = first_batches(alone[0], 50)
    train(StackedRuns([parts.population for parts in together]), batches)
    for found, expected in zip(together, alone, strict=True):
        train(expected.population, batches)
        assert_same(found, expected, 1e-3)


@pytest.mark.slow
def test_half_precision_is_stacked_too(job: Make) -> None:
    words = ("model=mlp", "data=digits", "data.seed=0", "precision=bfloat16", "model.dropout=0.2")
    together, alone = built(job, words, THREE[:2]), built(job, words, THREE[:2])
    batches = first_batches(alone[0], 20)
    train(StackedRuns([parts.population for parts in together]), batches)
    for found, expected in zip(together, alone, strict=True):
        train(expected.population, batches)
        for one, other in zip(found.state.model.parameters(), expected.state.model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0.05, atol=0.01)


def test_a_member_resumes_alone_to_where_the_stack_would_have_come(job: Make) -> None:
    words = ("model=mlp", "data=digits", "data.seed=0", "model.dropout=0.3")
    together, alone = built(job, words, THREE), built(job, words, THREE)
    batches = first_batches(alone[0], 40)
    population = StackedRuns([parts.population for parts in together])
    train(population, batches[:20])
    for parts, member in zip(alone, together, strict=True):
        parts.state.load_state_dict(copy.deepcopy(member.state.state_dict()))
        train(parts.population, batches[20:])
    train(population, batches[20:])
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 32), pytest.param("densenet121", 32, marks=pytest.mark.exhaustive)]
)
@pytest.mark.usefixtures("noise")
def test_networks_of_torchvision_stack(name: str, size: int, job: Make) -> None:
    words = (f"model={name}", "model.weights=none", "data=image_folder", "data.root=noise", f"data.size={size}")
    words += ("data.seed=0", "batch_size=4", "optim=sgd")
    together, alone = built(job, words, THREE[:2]), built(job, words, THREE[:2])
    batches = first_batches(alone[0], 2)
    train(StackedRuns([parts.population for parts in together]), batches)
    for found, expected in zip(together, alone, strict=True):
        train(expected.population, batches)
        assert_same(found, expected, 1e-8)


def test_equal_settings_are_stepped_at_once_and_others_by_themselves(job: Make) -> None:
    words = ("model=mlp", "data=digits", "data.seed=0")
    parts = built(job, words, [("seed=1",), ("seed=2",), ("seed=3", "optim.lr=0.5"), ("seed=4",)])
    population = StackedRuns([p.population for p in parts])
    assert population.optimizer.slices == [slice(0, 2), slice(2, 3), slice(3, 4)]
    assert population.optimizer.optimizers[1] is parts[2].state.optimizer
    parts[2].state.optimizer.param_groups[0]["lr"] = parts[0].state.optimizer.param_groups[0]["lr"]
    train(population, first_batches(parts[0], 1))
    assert population.optimizer.slices == [slice(0, 4)]


class Normed(torch.optim.Optimizer):
    """Steps along the direction of the gradient alone: not element by element."""

    def __init__(self, params: object, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * parameter.grad / parameter.grad.norm()


def test_an_optimizer_that_looks_at_whole_tensors_sees_each_run_by_itself(job: Make) -> None:
    words = ("model=mlp", "data=digits", "data.seed=0")
    together, alone = built(job, words, THREE[:2]), built(job, words, THREE[:2])
    for parts in (*together, *alone):
        parts.state.optimizer = Normed(parts.state.model.parameters())
    batches = first_batches(alone[0], 20)
    population = StackedRuns([parts.population for parts in together])
    assert isinstance(population.optimizer, StackedOptimizer)
    train(population, batches)
    for found, expected in zip(together, alone, strict=True):
        train(expected.population, batches)
        assert_same(found, expected)


def test_a_layer_of_dropout_that_is_used_twice_draws_as_it_does_alone(job: Make) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, 16))
            self.drop, self.last = nn.Dropout(0.2), nn.Linear(16, 10)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(self.drop(self.inner(self.drop(inputs.flatten(1))).relu()))

    from trainer.training.dropout import seed_dropout

    words = ("model=mlp", "data=digits", "data.seed=0", "optim=sgd")
    together, alone = built(job, words, THREE[:2]), built(job, words, THREE[:2])
    for parts in (*together, *alone):
        torch.manual_seed(parts.config.seed)
        model = Twice()
        parts.population.dropouts = seed_dropout(model, parts.config.seed)
        parts.state.model = model.double()
        parts.state.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        parts.population.trained = parts.population.call = model
    batches = first_batches(alone[0], 20)
    train(StackedRuns([parts.population for parts in together]), batches)
    for found, expected in zip(together, alone, strict=True):
        train(expected.population, batches)
        assert_same(found, expected)
