"""Class weights of a loss: the mean over weighted samples, as scikit-learn computes it."""

from __future__ import annotations

import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.components import assemble
from trainer.components.loss import Criterion, build_criterion
from trainer.components.target import Target
from trainer.data.tasks import Classification
from trainer.errors import UserError
from trainer.records.metrics import read_metrics
from trainer.training import checkpoint

TWO = Classification(("no", "yes"))
WEIGHTS = torch.tensor([0.3, 4.0], dtype=torch.float64)
LOSSES = {
    nn.BCEWithLogitsLoss: ("logits", lambda y, p, w: sk.log_loss(y, p, sample_weight=w)),
    nn.BCELoss: ("probabilities", lambda y, p, w: sk.log_loss(y, p, sample_weight=w)),
    nn.MSELoss: ("probabilities", lambda y, p, w: sk.mean_squared_error(y, p, sample_weight=w)),
    nn.L1Loss: ("probabilities", lambda y, p, w: sk.mean_absolute_error(y, p, sample_weight=w)),
}


def criterion_of(loss: type[nn.Module], output: str, weights: Tensor | None = WEIGHTS) -> Criterion:
    target = Target("loss", loss.__name__, loss, {})
    return build_criterion(target, TWO, output, weights, torch.tensor([0, 1]), torch.float64)


def samples() -> tuple[Tensor, Tensor]:
    """Return logits [200, 1] and targets [200], a tenth of them of class 1."""
    torch.manual_seed(0)
    return torch.randn(200, 1, dtype=torch.float64), (torch.arange(200) % 10 == 0).long()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_weighted_loss_of_two_classes_is_scikit_learns(loss: type[nn.Module]) -> None:
    logits, targets = samples()
    output, expected = LOSSES[loss]
    found = criterion_of(loss, output)(logits if output == "logits" else logits.sigmoid(), targets)
    weights = WEIGHTS[targets].numpy()
    assert found.item() == pytest.approx(expected(targets.numpy(), logits.sigmoid()[:, 0].numpy(), weights), rel=1e-12)


def test_weighted_loss_does_not_depend_on_which_class_is_called_1() -> None:
    logits, targets = samples()
    one = criterion_of(nn.BCEWithLogitsLoss, "logits")(logits, targets)
    other = criterion_of(nn.BCEWithLogitsLoss, "logits", WEIGHTS.flip(0))(-logits, 1 - targets)
    both = criterion_of(nn.CrossEntropyLoss, "logits")(torch.cat([0 * logits, logits], 1), targets)
    torch.testing.assert_close(one, other, rtol=1e-14, atol=0)
    torch.testing.assert_close(one, both, rtol=1e-14, atol=0)


def test_a_target_between_the_classes_counts_as_a_share_of_each() -> None:
    logits, _ = samples()
    share = torch.rand(200, dtype=torch.float64)
    found = criterion_of(nn.BCEWithLogitsLoss, "logits")(logits, torch.stack([1 - share, share], 1))
    true = torch.arange(2).repeat_interleave(200)
    weights = torch.cat([WEIGHTS[0] * (1 - share), WEIGHTS[1] * share])
    estimated = logits.sigmoid()[:, 0].repeat(2)
    assert found.item() == pytest.approx(sk.log_loss(true, estimated, sample_weight=weights), rel=1e-12)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss, nn.CrossEntropyLoss])
def test_weighted_means_of_parts_add_up_to_that_of_the_whole(loss: type[nn.Module], soft: bool) -> None:
    logits, targets = samples()
    criterion = criterion_of(loss, "logits")
    outputs = logits if criterion.single else torch.cat([0 * logits, logits], 1)
    if soft:
        targets = F.one_hot(targets, 2).double() * 0.8 + 0.1
    total = 0
    for x, y in zip(outputs.split([3, 150, 47]), targets.split([3, 150, 47]), strict=True):
        total += criterion(x, y) * criterion.denominator(y)
    torch.testing.assert_close(total / criterion.denominator(targets), criterion(outputs, targets), rtol=1e-13, atol=0)


def test_a_loss_that_cannot_be_weighted_is_refused() -> None:
    class Averaged(nn.BCEWithLogitsLoss):
        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return super().forward(outputs, targets).mean()

    class Own(nn.Module):
        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return F.cross_entropy(outputs, targets)

    for loss in (Averaged, Own):
        criterion_of(loss, "logits", None)
        with pytest.raises(UserError, match=f"{loss.__name__} takes no class weights"):
            criterion_of(loss, "logits")


@pytest.mark.parametrize("words", ["data=breast_cancer", "data=wine"])
def test_float64_class_weights_keep_all_their_digits(words: str, job) -> None:
    parts = assemble(job(words, "model=mlp", "precision=float64", "loss.weight=balanced").config)
    criterion = parts.population.criterion
    assert torch.equal(criterion.weights, parts.class_weights)
    outputs = torch.randn(40, parts.num_outputs, dtype=torch.float64)
    targets = torch.arange(40) % len(parts.class_weights)
    scores = outputs.sigmoid()[:, 0] if parts.num_outputs == 1 else outputs.softmax(1)
    expected = sk.log_loss(targets, scores, sample_weight=parts.class_weights[targets])
    assert criterion(outputs, targets).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("order", ["{ill: [malignant], well: [benign]}", "{well: [benign], ill: [malignant]}"])
def test_reported_losses_are_scikit_learns_log_loss(order: str, train, job) -> None:
    """The learning rate is too small to change a weight, so that every batch is of the same model."""
    words = ["data=breast_cancer", f"data.relabel={order}", "model=mlp", "loss.weight=balanced", "precision=float64"]
    words += ["optim.lr=1e-30", "epochs=1", "accumulate=2", "batch_size=50"]
    done = train(*words)
    assert done.code == 0, done.err
    parts = assemble(job(*words).config)
    parts.state.model.load_state_dict(checkpoint.load(done.folder / "checkpoints" / "best.pt")["model"])
    (row,) = read_metrics(done.folder / "metrics.csv")
    reported = {**row.metrics, "test_loss": done.results["test"]["loss"]}
    for name, split in parts.data.splits.items():
        scores = parts.state.model(parts.data.prepare(split.samples.take(split.indices), torch.float64)).sigmoid()
        weights = parts.class_weights[split.targets]
        expected = sk.log_loss(split.targets, scores.detach()[:, 0], sample_weight=weights)
        assert reported[f"{name}_loss"] == pytest.approx(expected, rel=1e-6)
