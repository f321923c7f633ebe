"""A user's code that draws from the global random streams: repeated, resumed and evaluated to the same result."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from helpers.outcome import run_outcome
from helpers.trees import same_tree
from trainer.data import streams
from trainer.data.batches import Batch
from trainer.data.loader import DataCache
from trainer.data.map_dataset import MapDataset
from trainer.errors import UserError
from trainer.stack.trial import verify_stacked_step
from trainer.training import loop
from trainer.training.population import Population
from trainer.training.state import RunState
from trainer.training.step import train_step as loop_step

OWN = """
import random
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from trainer.data.augment.base import Augmentation

DRAWS = {"torch": lambda: torch.rand((), device="cpu").item(), "random": random.random, "numpy": np.random.rand}

class Noisy(torch.utils.data.Dataset):
    def __init__(self, draws):
        self.draw = DRAWS.get(draws, lambda: 0.0)
        self.offsets = [[draw() for draw in DRAWS.values()] for _ in range(60)]
    def __len__(self):
        return 60
    def __getitem__(self, i):
        return torch.tensor([[[i % 3 + self.draw(), self.draw()], self.offsets[i][:2]]]), i % 3

class Net(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.linear = nn.Linear(4, num_outputs)
        self.scales = [draw() for draw in DRAWS.values()]
    def forward(self, x):
        if x.is_meta:
            return self.linear(x.flatten(1))
        noise = sum(draw() for draw in DRAWS.values())
        return self.linear(F.dropout(x.flatten(1) * sum(self.scales) + noise, 0.2, training=True))

class Loss(nn.CrossEntropyLoss):
    def forward(self, outputs, targets):
        return super().forward(outputs, targets) * (1 + random.random())

class Jitter(Augmentation):
    def __call__(self, images, generator):
        return images + np.random.rand() + torch.rand(())
"""
WORDS = ["data=custom", "data._target_=own_random.Noisy", "batch_size=8", "epochs=3", "threads=1"]
NET = ["model._target_=own_random.Net", "loss._target_=own_random.Loss", "augment._target_=own_random.Jitter"]


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_random.py").write_text(OWN)
    monkeypatch.syspath_prepend(Path.cwd())


def disturb() -> None:
    """Leave the streams in a state that no run has seen."""
    torch.seed()
    random.seed()
    np.random.seed()


def interrupted_at(step: int) -> Callable[..., Any]:
    """Return a training step that sends SIGINT to the program after step number `step`."""

    def train_step(population: Population, batches: Sequence[Batch]) -> list[RunState]:
        lost = loop_step(population, batches)
        if population.states[0].step == step:
            signal.raise_signal(signal.SIGINT)
        return lost

    return train_step


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["model=mlp", "data.draws=torch"],
        ["model=mlp", "data.draws=random"],
        ["model=mlp", "data.draws=numpy", "data.balance=sampler"],
        ["accumulate=2", "data.draws=none", *NET],
    ],
    ids=["torch", "random", "numpy", "model, loss and augmentation"],
)
def test_repeated_or_resumed_the_run_is_the_same(
    words: list[str], train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*more: str, code: int = 0) -> Path:
        disturb()
        done = train(*more)
        assert done.code == code, done.err
        return done.folder

    whole = run(*WORDS, *words, "data.workers=2")
    repeated = run(*WORDS, *words, "data.workers=0")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupted_at(4))  # in the middle of an epoch
        stopped = run(*WORDS, *words, "data.workers=2", code=130)
    resumed = run(f"resume={stopped}", "data.workers=0", "trust=true")
    assert same_tree(run_outcome(repeated), run_outcome(whole))
    assert same_tree(run_outcome(resumed), run_outcome(whole))


@pytest.mark.slow
def test_evaluations_of_a_model_that_draws_are_equal(train, verb) -> None:
    done = train(*WORDS, "data.draws=numpy", *NET, "epochs=1")
    for number in (1, 2):
        disturb()
        assert verb("evaluate", done.folder, "--trust").code == 0
        evaluation = json.loads((done.folder / f"evaluation-{number}.json").read_text())
        assert evaluation["own_data"]
        assert evaluation["test"] == done.results["test"]


def test_a_loss_that_draws_is_not_stacked(job) -> None:
    jobs = [job(*WORDS, "data.draws=none", "model=mlp", NET[1], f"seed={seed}", "data.seed=0") for seed in range(2)]
    with pytest.raises(UserError, match="draws random numbers"):
        verify_stacked_step(jobs, DataCache(), trusted=True)


class Items(Dataset):
    """Items [x, x] of 600 samples, where x is what `draw` returns for the sample."""

    def __init__(self, draw: Callable[[int], float]) -> None:
        self.draw = draw

    def __len__(self) -> int:
        return 600

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([self.draw(i), self.draw(i)]), i % 2


INDICES = torch.tensor([7, 7, 400, 3])


@pytest.mark.parametrize("name", streams.STREAMS)
def test_what_an_item_draws_is_decided_by_a_seed_alone(name: str) -> None:
    def draw(index: int) -> float:
        return streams.STREAMS[name].number()

    samples = MapDataset(Items(draw), "Items")
    assert samples.repeatable
    assert not samples.fixed
    before = [stream.state() for stream in streams.STREAMS.values()]
    first = samples.take(INDICES)
    for stream, state in zip(streams.STREAMS.values(), before, strict=True):
        assert np.array_equal(str(stream.state()), str(state))
    disturb()
    assert torch.equal(samples.take(INDICES), first)
    assert torch.equal(samples.take(INDICES.flip(0)), first.flip(0))
    assert torch.equal(MapDataset(Items(draw), "Items").draw(INDICES, 5), drawn := samples.draw(INDICES, 5))
    assert len(set(drawn.flatten().tolist())) == 8  # a sample that is in a batch twice varies too
    assert not set(drawn.flatten().tolist()) & set(samples.draw(INDICES, 6).flatten().tolist())


def test_one_item_in_many_that_draws_is_noticed() -> None:
    samples = MapDataset(Items(lambda i: random.random() if i == 400 else 0.0), "Items")
    assert not samples.fixed
    assert torch.equal(samples.take(INDICES), samples.take(INDICES))
    assert not torch.equal(samples.draw(INDICES, 1), samples.draw(INDICES, 2))


def test_items_that_seed_the_stream_themselves_are_kept() -> None:
    def draw(index: int) -> float:
        torch.default_generator.manual_seed(index)
        return torch.rand(()).item()

    samples = MapDataset(Items(draw), "Items")
    assert samples.fixed
    assert torch.equal(samples.draw(INDICES, 1), samples.draw(INDICES, 2))


def test_items_that_draw_from_elsewhere_are_not_repeatable() -> None:
    own = np.random.default_rng()
    samples = MapDataset(Items(lambda i: own.random()), "Items")
    assert not samples.repeatable
    assert not samples.fixed


def test_targets_that_are_drawn_are_refused() -> None:
    class Labels(Items):
        def __getitem__(self, i: int) -> tuple[torch.Tensor, float]:
            x = torch.rand(3)
            return x, x.sum().item()

    with pytest.raises(UserError, match=r"^data._target_=Labels: the target of item 0 changes"):
        MapDataset(Labels(float), "Labels")


def test_streams_are_restored_and_draw_apart() -> None:
    with streams.kept_streams():
        numbers = [stream.number() for stream in streams.STREAMS.values()]
        streams.seed_streams(3)
        assert len({round(stream.number(), 6) for stream in streams.STREAMS.values()}) == 3
    assert [stream.number() for stream in streams.STREAMS.values()] == numbers
