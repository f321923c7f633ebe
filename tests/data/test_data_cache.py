"""Data that the jobs of a sweep share is read once, and is the same as if each had read it alone."""

from __future__ import annotations

import pytest
import torch

from helpers.components import assemble
from helpers.trees import same_tree
from trainer.components.assemble import Components
from trainer.data.dataset import load
from trainer.data.loader import DataCache, LoaderConfig
from trainer.data.loader import make_batches as batches_of
from trainer.data.samples import Arrays
from trainer.data.source import Source

CPU = torch.device("cpu")
WORDS = ("data=digits", "model=ann", "augment=none", "threads=1")
RELABELLED = [f"+data.relabel={{a: {chosen}, b: rest}}" for chosen in ("[0,1,2,3,4]", "[5,6,7,8,9]")]


def batches(parts: Components) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [*parts.train.epoch(1), *parts.valid.epoch(1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "jobs",
    [
        [(), ("batch_size=7",), ("seed=3",), ("data.valid_fraction=0.3",), ("data.per_class=5",)],
        [(word,) for word in RELABELLED],
        [("data.folds=4", f"data.fold={fold}") for fold in range(3)],
        [(), ("model=lenet5",), ("model=lenet5", "debug=overfit"), ()],
        [(), ("precision=float64",), ()],
    ],
)
def test_shared_data_is_what_each_would_read_alone(jobs: list[tuple[str, ...]], job) -> None:
    shared = DataCache()
    for words in jobs:
        together = assemble(job(*WORDS, *words).config, cache=shared)
        alone = assemble(job(*WORDS, *words).config)
        assert same_tree(batches(together), batches(alone))
        assert together.data.fingerprint == alone.data.fingerprint
        assert together.data.notes == alone.data.notes
        assert together.data.prepare == alone.data.prepare
    assert len(shared.sources) <= 2  # models may want images of another size


def test_parts_that_differ_in_their_labels_alone_are_two() -> None:
    inputs = torch.arange(40, dtype=torch.uint8).view(10, 1, 2, 2)
    parts = {name: Arrays(inputs, torch.arange(10) % 4) for name in ("train", "valid", "test")}
    source, loading = Source(parts, tuple("abcd")), LoaderConfig(CPU, torch.float32, 2**30, cache=DataCache())
    for relabel in (None, {"x": ["a", "b"], "y": "rest"}, {"x": ["a"], "y": "rest"}):
        data = load(source, valid_fraction=0.1, test_fraction=0.1, seed=0, relabel=relabel)
        read = torch.cat([targets for _, targets in batches_of(data, "test", 4, loading).epoch(1)])
        assert read.tolist() == data.splits["test"].targets.tolist()


def test_what_is_the_same_is_read_split_and_digested_once(job, monkeypatch: pytest.MonkeyPatch) -> None:
    digested, taken = [], []
    fingerprint, take = Arrays.fingerprint, Arrays.take
    monkeypatch.setattr(Arrays, "fingerprint", lambda self: digested.append(1) or fingerprint(self))
    monkeypatch.setattr(Arrays, "take", lambda self, indices: taken.append(len(indices)) or take(self, indices))
    shared = DataCache()
    assemble(job(*WORDS).config, cache=shared)
    once = len(digested)
    taken.clear()
    for rate in (1e-3, 1e-2):
        assemble(job(*WORDS, f"optim.lr={rate}").config, cache=shared)
    assert sum(taken) <= 2 * len(taken)  # a sample for its shape, never the whole part
    assemble(job(*WORDS, "seed=9").config, cache=shared)
    assert len(digested) == once


def test_a_fingerprint_changes_with_pixels_labels_and_their_order() -> None:
    inputs, targets = torch.arange(24, dtype=torch.uint8).view(6, 1, 2, 2), torch.tensor([0, 1, 0, 1, 0, 1])

    def fingerprint(inputs: torch.Tensor, targets: torch.Tensor, part: str = "train") -> str:
        return Source({part: Arrays(inputs, targets)}, ("a", "b")).fingerprint

    other = inputs.clone()
    other[3, 0, 1, 1] += 1
    found = {
        fingerprint(inputs, targets),
        fingerprint(other, targets),
        fingerprint(inputs, 1 - targets),
        fingerprint(inputs.flip(0), targets.flip(0)),
        fingerprint(inputs, targets, "test"),
        fingerprint(inputs.view(6, 1, 4, 1), targets),
    }
    assert len(found) == 6
    assert fingerprint(inputs.clone(), targets.clone()) in found
