"""The models match the textbooks: same sizes and arithmetic; each fits data that it should fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.components import build_model
from helpers.datasets import random_images
from helpers.runs import REPOSITORY
from trainer.data.dataset import load
from trainer.data.samples import Arrays
from trainer.data.source import Source
from trainer.errors import UserError
from trainer.models.cnn import CNN, SequentialCNN
from trainer.models.lenet import LeNet5, Net
from trainer.models.mlp import ANN, MNISTClassifier

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
NAMES = sorted(path.stem for path in (REPOSITORY / "conf" / "model").glob("*.yaml"))
OTHERS = {"perceptron", "sequential"}  # one output only, and layers that a user lists: test_mlp.py
PUBLISHED = {
    path.stem for path in (REPOSITORY / "conf" / "model").glob("*.yaml") if "models.vision." in path.read_text()
}
TOO_SMALL = {("sequential_cnn", (1, 8, 8))}  # two 5x5 convolutions need 9 pixels


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (ANN(), 23_581),
        (MNISTClassifier(), 40_620),
        (CNN(), 10_002),
        (LeNet5(), 61_706),
        (Net(), 62_006),
        (SequentialCNN(), 1_607_490),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_number_of_parameters_is_the_published_one(model: nn.Module, count: int) -> None:
    assert sum(p.numel() for p in model.parameters()) == count


def textbook_lenet(model: LeNet5, images: Tensor) -> Tensor:
    activation = F.relu if isinstance(model, Net) else F.tanh
    hidden = F.max_pool2d(F.relu(model.conv1(images)), 2)
    hidden = F.max_pool2d(F.relu(model.conv2(hidden)), 2).flatten(1)
    return model.fc3(activation(model.fc2(activation(model.fc1(hidden)))))


def textbook_cnn(model: CNN, images: Tensor) -> Tensor:
    hidden = F.max_pool2d(F.relu(model.conv1(images)), 2)
    hidden = F.max_pool2d(F.relu(model.conv2(hidden)), 2)
    return model.fc2(F.relu(model.fc1(hidden.flatten(1))))


@pytest.mark.parametrize(
    ("kind", "textbook"),
    [(LeNet5, textbook_lenet), (Net, textbook_lenet), (CNN, textbook_cnn)],
    ids=lambda f: f.__name__,
)
def test_pooling_before_relu_changes_no_bit(kind, textbook) -> None:
    torch.manual_seed(0)
    model = kind()
    inputs = torch.randn(16, model.conv1.in_channels, 32, 32)
    targets = torch.arange(16) % 10
    found = model(inputs)
    F.cross_entropy(found, targets).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    expected = textbook(model, inputs)
    F.cross_entropy(expected, targets).backward()
    assert torch.equal(found, expected)
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters(), strict=True))


def test_mlps_equal_the_layers_written_out() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(16, 1, 28, 28)
    ann, mnist = ANN().eval(), MNISTClassifier()
    assert torch.equal(ann(inputs), ann.output(F.relu(ann.hidden(inputs.view(16, 784)))))
    hidden = F.relu(mnist.layer1(inputs.view(16, 784)))
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()  # BatchNorm while training
    hidden = F.relu(mnist.layer2(hidden))
    hidden = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(mnist(inputs), mnist.output(hidden))


def test_ann_never_drops_an_output() -> None:
    model = ANN(dropout=1.0).train()
    with torch.no_grad():
        outputs = model(torch.randn(50, 784))
    assert torch.equal(outputs, model.output.bias.expand(50, 1))  # all that is dropped is the hidden layer


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NAMES) - OTHERS - PUBLISHED))
def test_every_model_fits_every_data_shape_it_can(name: str, job) -> None:
    config = job(f"model={name}").config
    for shape in SHAPES:
        if (name, shape) in TOO_SMALL:
            continue
        data = random_images(shape)
        model = build_model(config, data).eval()
        batch = data.prepare(data.splits["train"].samples.inputs[:5])
        assert model(batch).shape == (5, 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_model_gets_images_it_can_take(name: str, job) -> None:
    words = {
        "alexnet": ["model.image_size=64"],  # the fewest pixels that are left something after pooling
        "densenet121": ["model.image_size=32"],
        "timm": ["model.name=resnet10t"],
        "torchvision": ["model.name=swin_t"],
        "vgg16": ["model.image_size=32"],
        "vgg19": ["model.image_size=32"],
    }
    if name == "timm":
        pytest.importorskip("timm")
    config = job(f"model={name}", "model.weights=none", *words.get(name, [])).config
    for shape in ((1, 8, 8), (3, 32, 32)):
        data = random_images(shape)
        with torch.device("meta"):
            model = build_model(config, data).eval()
            assert model(torch.empty(5, *data.prepare.output_shape)).shape == (5, 10)
        batch = data.prepare(data.splits["train"].samples.inputs[:5])
        assert batch.shape == (5, *data.prepare.output_shape)
        assert batch.shape[1] == 3
        if shape[0] == 1:
            assert torch.equal(batch, batch[:, :1].expand(-1, 3, -1, -1))


def test_a_binary_task_has_one_output_unless_the_loss_wants_two(job) -> None:
    data = random_images((1, 8, 8), classes=2)
    assert build_model(job("model=ann").config, data).output.out_features == 1
    assert build_model(job("model=ann", "loss=cross_entropy").config, data).output.out_features == 2


def test_initial_weights_depend_on_the_seed_alone(job) -> None:
    data = random_images((1, 8, 8))
    before = torch.get_rng_state()
    first, again, other = (build_model(job(f"seed={seed}").config, data).conv1.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_images_too_small_are_refused_with_both_sizes(job) -> None:
    with pytest.raises(UserError, match=r"9x9.*8x8"):
        build_model(job("model=sequential_cnn").config, random_images((1, 8, 8)))


@pytest.mark.parametrize("name", ["lenet5", "net", "cnn", "sequential_cnn"])
def test_an_image_model_refuses_a_table(name: str, job) -> None:
    table = Source({"train": Arrays(torch.randn(40, 7), torch.arange(40) % 2)}, ("a", "b"))
    data = load(table, valid_fraction=0.2, test_fraction=0.2, seed=0)
    with pytest.raises(UserError, match=r"\[channels, h, w\].*\[7\]"):
        build_model(job(f"model={name}").config, data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "both"),
    [
        (("model=ann", "model.in_features=100"), r"\[3, 32, 32\].*3072.*100"),
        (("model=lenet5", "model.in_channels=1"), r"\[3, 32, 32\].*\b1\b"),
        (("model=net", "model.num_outputs=7"), r"\(2, 7\).*\(2, 10\)"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_both_shapes(words: tuple[str, ...], both: str, job) -> None:
    with pytest.raises(UserError, match=both):
        build_model(job(*words).config, random_images((3, 32, 32)))
