"""mixup and cutmix: targets match the mixed inputs, draws are seeded, and metrics stay honest."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainer.components.loss import LOSSES, Criterion
from trainer.data.augment.mix import Mix
from trainer.data.tasks import Classification
from trainer.records.metrics import read_metrics

IMAGES = torch.arange(12, dtype=torch.float64)[:, None, None, None].expand(12, 3, 16, 16)
CLASSES = torch.arange(12)
LOGS = ["data=iris", "model=mlp", "model.final=log_softmax", "model.output=log_probabilities"]


@pytest.mark.parametrize("words", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_a_target_is_the_share_of_the_input(words: dict[str, float]) -> None:
    inputs, targets = Mix(12, **words)(IMAGES, CLASSES, seed=3)
    # Image i holds the number i everywhere, so its mean is the mean of the classes mixed into it.
    torch.testing.assert_close(inputs.mean(dim=(1, 2, 3)), targets @ CLASSES.double())
    torch.testing.assert_close(targets.sum(1), torch.ones(12, dtype=torch.float64))
    assert (targets.max(1).values < 1).any()


def test_cutmix_pastes_one_rectangle() -> None:
    inputs, _ = Mix(12, cutmix=1.0)(IMAGES, CLASSES, seed=1)
    for number, image in enumerate(inputs[:, 0]):
        foreign = image != number
        assert torch.equal(foreign, foreign.any(1)[:, None] & foreign.any(0)[None, :])


def test_draws_are_seeded_and_differ_from_pair_to_pair() -> None:
    mix = Mix(12, mixup=1.0)
    first, again, other = (mix(IMAGES, CLASSES, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(set(first.max(1).values.tolist())) > 6


def test_losses_take_what_comes_out() -> None:
    outputs = torch.randn(12, 12, dtype=torch.float64)
    _, soft = Mix(12, mixup=1.0)(IMAGES, CLASSES, seed=0)
    by_hand = -(soft * outputs.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(
        Criterion(nn.CrossEntropyLoss(), LOSSES[nn.CrossEntropyLoss], "logits")(outputs, soft), by_hand
    )
    single = torch.randn(12, 1, dtype=torch.float64)
    _, soft = Mix(2, mixup=1.0)(IMAGES, CLASSES % 2, seed=0)
    expected = F.binary_cross_entropy_with_logits(single[:, 0], soft[:, 1])
    fits = LOSSES[nn.BCEWithLogitsLoss]
    torch.testing.assert_close(Criterion(nn.BCEWithLogitsLoss(), fits, "logits")(single, soft), expected)
    assert Classification(("a", "b")).correct(single, soft) == ((single[:, 0] > 0) == (soft[:, 1] > 0.5)).sum()


def test_validation_never_sees_a_mixture_and_resume_repeats_it(train) -> None:
    words = ["model=ann", "augment.mixup=0.4", "augment.cutmix=1.0", "checkpoint.every=3st", "test=false"]
    stopped = train(*words, "epochs=2", "max_steps=7").folder
    assert train(f"resume={stopped}", "max_steps=null").code == 0
    whole = train(*words, "epochs=2")
    rows = [read_metrics(f / "metrics.csv")[-1] for f in (stopped, whole.folder)]
    assert rows[0]["valid_loss"] == rows[1]["valid_loss"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data=diabetes", "model=mlp", "augment.mixup=0.2"], "augment.mixup: the task is a regression"),
        (["data=iris", "model=mlp", "augment.cutmix=0.2"], "augment.cutmix: the data has no images"),
        ([*LOGS, "augment.mixup=0.2"], "loss=nll: it takes classes"),
        (["augment.mixup=-1"], "augment.mixup=-1: expected a number from 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_mixed_is_refused(words: list[str], sentence: str, train) -> None:
    done = train(*words)
    assert done.code == 2
    assert sentence in done.err
