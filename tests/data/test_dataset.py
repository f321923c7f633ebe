"""Samples: split without overlap, prepared as stored, and in the same batches on every path to the device."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import StratifiedShuffleSplit
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from helpers.components import assemble, build_source
from trainer.components.feed import evaluation_batches
from trainer.data import loader
from trainer.data.augment.geometry import FlipCrop, RandomAffine
from trainer.data.batches import Batches, TrainSampling
from trainer.data.dataset import Data, load
from trainer.data.labels import merge_classes
from trainer.data.loader import LoaderConfig
from trainer.data.map_dataset import as_tensor, from_dataset
from trainer.data.prepare import Prepare, channel_statistics
from trainer.data.samples import Arrays, Samples
from trainer.data.source import Source
from trainer.data.sources import digits as bundled_digits
from trainer.data.split import stratified
from trainer.errors import UserError

CPU = torch.device("cpu")
FRACTIONS = {"valid_fraction": 0.2, "test_fraction": 0.2, "seed": 0}


def bytes_of(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=Generator().manual_seed(5))


def digits(seed: int = 0) -> Data:
    return load(bundled_digits(), valid_fraction=0.2, test_fraction=0.2, seed=seed)


# Splitting


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_stratified_shares_are_those_of_scikit_learn(fraction: float) -> None:
    targets = torch.from_numpy(np.random.default_rng(0).choice(6, 997, p=[0.4, 0.3, 0.15, 0.1, 0.03, 0.02]))
    kept, held = stratified(targets, fraction, seed=3)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(997))
    assert len(held) == round(997 * fraction)
    splitter = StratifiedShuffleSplit(1, test_size=round(997 * fraction), random_state=0)
    _, theirs = next(splitter.split(np.zeros(997), targets.numpy()))
    difference = torch.bincount(targets[held], minlength=6) - torch.bincount(targets[theirs], minlength=6)
    assert difference.abs().max() <= 1


def test_the_split_follows_its_seed_alone() -> None:
    targets = torch.arange(200) % 4
    first, again, other = (stratified(targets, 0.25, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_class_keeps_at_least_one_sample_to_train_on() -> None:
    targets = torch.tensor([0] * 50 + [1])
    kept, _ = stratified(targets, 0.9, seed=0)
    assert set(targets[kept].tolist()) == {0, 1}


def test_no_sample_is_in_two_parts() -> None:
    splits = digits().splits
    together = torch.cat([splits[name].indices for name in ("train", "valid", "test")])
    assert torch.equal(together.sort().values, torch.arange(1797))


def test_mnist_has_its_sizes(mnist_root: str, job) -> None:
    config = job("data=mnist", f"data.root={mnist_root}").config
    data = load(build_source(config), valid_fraction=0.2, test_fraction=0.2, seed=0)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 48000, "valid": 12000, "test": 10000}
    assert data.task.classes == tuple("0123456789")
    assert data.shape == (1, 28, 28)
    # The counts of LeCun's page: the test part is untouched.
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(data.splits["test"].targets).tolist() == counts


# Labels


def test_relabelling_maps_every_class() -> None:
    classes, labels = merge_classes(tuple("abcd"), {"others": "rest", "ends": ["a", "d"]})
    assert classes == ("others", "ends")
    assert labels.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ({"x": ["a", "z"], "y": "rest"}, "class z"),
        ({"x": ["a", "b"], "y": ["b", "c", "d"]}, "class b is in two"),
        ({"x": ["a"], "y": ["b"]}, "c, d are in no group"),
        ({"x": "rest"}, "two groups"),
    ],
)
def test_a_wrong_relabelling_is_refused(groups: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        merge_classes(tuple("abcd"), groups)


def test_relabelled_digits_are_a_binary_task() -> None:
    source = bundled_digits()
    before = source.splits["train"].targets.clone()
    relabel = {"high": "rest", "low": [0, 1, 2]}
    data = load(source, valid_fraction=0.2, test_fraction=0.2, seed=0, relabel=relabel)
    assert data.task.name == "binary"
    split = data.splits["test"]
    assert torch.equal(split.targets, (before[split.indices] < 3).long())


@pytest.mark.parametrize("wrong", [-1, 3, -100])
def test_a_label_out_of_range_is_refused(wrong: int) -> None:
    targets = torch.arange(30) % 3
    targets[7] = wrong
    with pytest.raises(UserError, match=f"{wrong}; expected 0 to 2"):
        load(Source({"train": Arrays(bytes_of(30, 1, 4, 4), targets)}, ("a", "b", "c")), **FRACTIONS)


# Preparation


def test_channel_statistics_are_numpys() -> None:
    raw = bytes_of(50, 3, 7, 5)
    raw[:, 2] = 9
    mean, std = channel_statistics(raw.split(7))
    expected = raw.numpy().astype(np.float64)
    np.testing.assert_allclose(mean, expected.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std[:2], expected.std((0, 2, 3))[:2], rtol=1e-12)
    assert std[2] == 1.0  # nothing to divide by


def test_statistics_see_the_training_part_alone() -> None:
    inputs = bytes_of(60, 1, 4, 4)
    loaded = load(Source({"train": Arrays(inputs, torch.arange(60) % 2)}, ("a", "b")), **FRACTIONS)
    train = inputs[loaded.splits["train"].indices].double()
    assert loaded.prepare.mean[0] == pytest.approx(train.mean().item(), rel=1e-13)
    batch = loaded.prepare(train, torch.float64)
    assert batch.mean().item() == pytest.approx(0, abs=1e-13)
    assert batch.std(correction=0).item() == pytest.approx(1, rel=1e-13)


def test_28_pixels_are_padded_by_2_and_8_are_resized() -> None:
    raw = bytes_of(4, 1, 28, 28)
    found = Prepare((1, 28, 28), (10.0,), (50.0,), (32, 32))(raw)
    assert torch.equal(found, (tv.pad(raw, [2]).float() - 10) / 50)
    raw = bytes_of(4, 3, 8, 8)
    found = Prepare((3, 8, 8), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (32, 32))(raw)
    resized = tv.resize(raw.float(), [32, 32], InterpolationMode.BILINEAR, antialias=True)
    torch.testing.assert_close(found, tv.normalize(resized, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]))


def test_larger_images_are_shrunk_without_aliasing() -> None:
    raw = bytes_of(2, 1, 100, 90)
    found = Prepare((1, 100, 90), (0.0,), (1.0,), (32, 32))(raw)
    assert torch.equal(found, F.interpolate(raw.float(), (32, 32), mode="bilinear", antialias=True))


def test_preparation_survives_a_checkpoint() -> None:
    prepare = Prepare((1, 28, 28), (10.0,), (50.0,), (32, 32))
    assert Prepare.from_dict(prepare.to_dict()) == prepare


# Batches


def everything(batches: Batches, epoch: int = 0, start: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [(inputs.clone(), targets.clone()) for inputs, targets in batches.epoch(epoch, start)]


@pytest.mark.parametrize("size", [None, (32, 32)], ids=["8x8", "resized to 32x32"])
@pytest.mark.parametrize("augment", [None, RandomAffine(), FlipCrop(padding=2)], ids=["plain", "affine", "flip"])
def test_batches_are_the_same_resident_and_streamed(size, augment) -> None:
    data = digits()
    if size:
        data.fit(size)
    raw = 1797 * 64
    ways = {
        "prepared": LoaderConfig(CPU, torch.float32, 1 << 40),
        "unprepared": LoaderConfig(CPU, torch.float32, 3 * raw),  # the bytes fit, their floats do not
        "streamed": LoaderConfig(CPU, torch.float32, 1 << 40, resident=False),
        "with workers": LoaderConfig(CPU, torch.float32, 0, workers=2),
    }
    found = {
        name: loader.make_batches(data, "train", 100, way, TrainSampling(4, augment=augment))
        for name, way in ways.items()
        if name != "with workers" or size is None
    }
    assert [type(b.fetch).__name__ for b in found.values()][:3] == ["ResidentFetch", "ResidentFetch", "StreamedFetch"]
    expected = everything(found["prepared"], epoch=3)
    for batches in found.values():
        for start in (0, 9):
            got = everything(batches, 3, start)
            assert len(got) == len(expected) - start
            for (x, y), (x2, y2) in zip(got, expected[start:], strict=True):
                assert torch.equal(x, x2)
                assert torch.equal(y, y2)


def whole(num_samples: int, batch_size: int, draw: TrainSampling) -> Batches:
    """Batches whose inputs are the samples' own numbers."""

    def fetch(batches, seeds=None):
        return ((positions, positions) for positions in batches)

    return Batches(fetch, num_samples, batch_size, CPU, draw)


def test_each_epoch_has_an_order_of_its_own_and_every_sample_once() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([x for x, _ in whole(103, 10, TrainSampling(seed)).epoch(epoch)]).tolist()

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert all(sorted(o) == list(range(103)) for o in orders)
    assert len({tuple(o) for o in orders}) == 3
    assert order(0, 1) == orders[1]


@pytest.mark.parametrize(
    ("samples", "drop_last", "sizes"),
    [
        (30, False, [10, 10, 10]),
        (31, False, [10, 10, 11]),  # BatchNorm cannot take a single sample
        (32, False, [10, 10, 10, 2]),
        (31, True, [10, 10, 10]),
        (32, True, [10, 10, 10]),
        (1, False, [1]),
        (7, True, [7]),  # nothing would be left
    ],
)
def test_the_last_batch(samples: int, drop_last: bool, sizes: list[int]) -> None:
    batches = whole(samples, 10, TrainSampling(0, drop_last=drop_last))
    assert [len(x) for x, _ in batches.epoch(0)] == sizes
    assert len(batches) == len(sizes)


def test_a_dropped_rest_is_another_one_each_epoch() -> None:
    batches = whole(19, 10, TrainSampling(0, drop_last=True))
    left = [set(range(19)) - set(torch.cat([x for x, _ in batches.epoch(e)]).tolist()) for e in range(2)]
    assert left[0] != left[1]


def test_validation_and_test_are_never_augmented_nor_shuffled(job) -> None:
    parts = assemble(job("augment=light", "model=ann").config)
    for name, batches in (
        ("valid", parts.valid),
        ("test", evaluation_batches(parts.config.batch_size, parts.data, "test", parts.loading)),
    ):
        split = parts.data.splits[name]
        inputs = torch.cat([x for x, _ in batches.epoch(7)])
        assert torch.equal(inputs, parts.data.prepare(split.samples.take(split.indices)))
        assert torch.equal(torch.cat([y for _, y in batches.epoch(7)]), split.targets)
    assert parts.train.sampling.augment is not None


# Augmentation


def smooth(batch: int, height: int, width: int) -> Tensor:
    """Images without sharp edges, so that two ways to interpolate agree closely."""
    noise = torch.rand(batch, 2, height, width, generator=Generator().manual_seed(1), dtype=torch.float64)
    return F.avg_pool2d(noise, 5, stride=1, padding=2)


def draws(batch: int) -> Tensor:
    """RandomAffine's angle, size and shifts as shares of their limits."""
    return torch.rand(4, batch, generator=Generator().manual_seed(9), dtype=torch.float64) * 2 - 1


def test_affine_without_a_limit_gives_back_the_images() -> None:
    images = smooth(3, 9, 14)
    found = RandomAffine(degrees=0, translate=0, scale=0)(images, Generator().manual_seed(0))
    torch.testing.assert_close(found, images, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sides", [(31, 31), (24, 40)])
def test_rotation_and_scaling_are_torchvisions(sides: tuple[int, int]) -> None:
    images = smooth(4, *sides)
    found = RandomAffine(degrees=20, translate=0, scale=0.2)(images, Generator().manual_seed(9))
    inside = (..., slice(9, -9), slice(9, -9))  # torchvision fills what comes in with zeros
    for i, (angle, size) in enumerate(draws(4)[:2].T.tolist()):
        expected = tv.affine(images[i], -20 * angle, [0, 0], 1 + 0.2 * size, [0.0, 0.0], InterpolationMode.BILINEAR)
        torch.testing.assert_close(found[i][inside], expected[inside], rtol=0, atol=1e-5)


def test_a_shift_is_torchvisions_and_within_its_share() -> None:
    images = smooth(6, 20, 50)
    found = RandomAffine(degrees=0, translate=0.2, scale=0)(images, Generator().manual_seed(9))
    for i, (right, down) in enumerate(draws(6)[2:].T.tolist()):
        moved = [-0.2 * 50 * right, -0.2 * 20 * down]
        expected = tv.affine(images[i], 0.0, moved, 1.0, [0.0, 0.0], InterpolationMode.BILINEAR)
        inside = (..., slice(5, -5), slice(11, -11))
        torch.testing.assert_close(found[i][inside], expected[inside], rtol=0, atol=1e-5)
    ramp = torch.arange(50.0).expand(500, 1, 20, 50)
    moved = RandomAffine(degrees=0, translate=0.2, scale=0)(ramp, Generator().manual_seed(0))
    shift = (moved - ramp)[:, 0, 10, 25].abs()
    assert 0.95 * 10 < shift.max() <= 10 + 1e-4  # a fifth of 50 pixels


@pytest.mark.parametrize("augment", [RandomAffine(), FlipCrop(padding=3)], ids=["affine", "flip_crop"])
def test_each_sample_has_a_draw_of_its_own_from_the_generator(augment) -> None:
    images = smooth(1, 16, 16).expand(8, -1, -1, -1)
    first, again, other = (augment(images, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({image.numpy().tobytes() for image in first}) > 5


def test_flip_crop_equals_a_loop_over_samples() -> None:
    images = bytes_of(40, 3, 6, 9).float()
    found = FlipCrop(padding=2)(images, Generator().manual_seed(3))
    generator = Generator().manual_seed(3)
    starts = torch.randint(0, 5, (2, 40, 1), generator=generator)[..., 0].T.tolist()
    mirrored = (torch.rand(40, 1, generator=generator) < 0.5)[:, 0].tolist()
    assert 8 < sum(mirrored) < 32
    for i, (top, left) in enumerate(starts):
        expected = tv.crop(tv.pad(images[i], [2], padding_mode="edge"), top, left, 6, 9)
        assert torch.equal(found[i], tv.hflip(expected) if mirrored[i] else expected)


def test_flip_crop_without_padding_and_flip_gives_back_the_images() -> None:
    images = bytes_of(4, 1, 5, 5).float()
    assert torch.equal(FlipCrop(padding=0, flip=False)(images, Generator()), images)


@pytest.mark.parametrize(
    "make", [lambda: RandomAffine(degrees=200), lambda: RandomAffine(scale=1), lambda: FlipCrop(padding=-1)]
)
def test_limits_out_of_range_are_refused(make) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


# A user's own data set

OWN = """
import numpy as np, torch
from PIL import Image
from torch.utils.data import Dataset

class Own(Dataset):
    def __init__(self, kind="tensor"):
        self.kind = kind
    def __len__(self):
        return 60
    def __getitem__(self, i):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        inputs = {
            "pil": lambda: Image.fromarray(pixels),
            "numpy": lambda: np.ascontiguousarray(pixels.transpose(2, 0, 1)),
            "tensor": lambda: torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
            "table": lambda: np.random.default_rng(i).random(5),
            "noise": lambda: torch.rand(5),
        }[self.kind]()
        return inputs, i % 3

class Split(Own):
    classes = ["x", "y", "z"]
    def __init__(self, split, root, kind="table"):
        super().__init__(kind)
        self.split = split
    def __len__(self):
        return {"train": 60, "valid": 20, "test": 40}[self.split]

class Wrong(Own):
    def __init__(self, target):
        super().__init__("table")
        self.target = target
    def __getitem__(self, i):
        return super().__getitem__(i)[0], self.target if i == 7 else i % 3
"""


@pytest.fixture
def own(monkeypatch, job):
    """Loads the data set of a file in the current folder."""
    Path("own_data.py").write_text(OWN)
    monkeypatch.syspath_prepend(Path.cwd())
    monkeypatch.delitem(sys.modules, "own_data", raising=False)

    def make(name: str, *words: str) -> Data:
        config = job("data=custom", f"data._target_=own_data.{name}", *words).config
        return load(build_source(config), **FRACTIONS)

    return make


def test_pil_numpy_and_tensor_items_are_the_same_data(own) -> None:
    found = {kind: own("Own", f"+data.kind={kind}") for kind in ("pil", "numpy", "tensor")}
    expected = torch.from_numpy(np.random.default_rng(4).integers(0, 256, (8, 8, 3), dtype=np.uint8)).permute(2, 0, 1)
    for data in found.values():
        assert data.shape == (3, 8, 8)
        assert torch.equal(data.splits["train"].samples.take(torch.tensor([4]))[0], expected)
        assert data.fingerprint == found["pil"].fingerprint
    together = torch.cat([found["pil"].splits[name].indices for name in ("train", "valid", "test")])
    assert torch.equal(together.sort().values, torch.arange(60))
    assert found["pil"].task.classes == ("0", "1", "2")


def test_a_data_set_with_splits_is_asked_for_each(own) -> None:
    data = own("Split")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 60, "valid": 20, "test": 40}
    assert data.task.classes == ("x", "y", "z")


def test_a_named_split_is_split_by_us(own) -> None:
    data = own("Split", "+data.split=train")
    assert sum(map(len, data.splits.values())) == 60


def test_samples_that_change_are_streamed_never_kept(own) -> None:
    data = own("Own", "+data.kind=noise")
    config = LoaderConfig(CPU, torch.float32, 1 << 40)
    batches = loader.make_batches(data, "train", 16, config, TrainSampling(0))
    inputs = [torch.cat([x for x, _ in everything(batches, epoch)]) for epoch in (0, 0, 1)]
    assert torch.equal(inputs[0], inputs[1])
    assert not set(inputs[0].flatten().tolist()) & set(inputs[2].flatten().tolist())
    assert any("streamed" in note for note in data.notes)
    with pytest.raises(UserError, match=r"^data.resident=true: the data set's samples change .* Leave it out"):
        loader.make_batches(data, "train", 16, replace(config, resident=True), TrainSampling(0))


@pytest.mark.parametrize("target", ["-1", "text"])
def test_a_target_that_is_no_class_is_refused(target: str, own) -> None:
    with pytest.raises(UserError, match=r"item 7|label|int, str"):
        own("Wrong", f"+data.target={target}")


class _InParts(torch.utils.data.Dataset):
    """Items that fail in one way or another."""

    def __init__(self, split: str, fault: str) -> None:
        self.split, self.fault = split, fault

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int):
        if self.fault == "raises" and i == 7:
            raise OSError("the disk is gone")
        if self.fault == "mapping":
            return {"x": torch.zeros(3), "y": i % 2}
        return torch.zeros(2 if (self.fault, self.split) == ("shape", "test") else 3), i % 2


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("raises", r"data._target_=Own: item 7 cannot be read \(OSError: the disk is gone\)\."),
        ("mapping", r"data._target_=Own: item 0 is not \(input, target\) but a dict with x, y\."),
        ("shape", r"data._target_=Own: inputs differ in shape: train \[3\], test \[2\]\."),
    ],
)
def test_what_a_users_data_set_does_wrong_is_a_sentence(fault: str, sentence: str) -> None:
    assert set(from_dataset(partial(_InParts, fault=""), "Own").splits) == {"train", "valid", "test"}
    with pytest.raises(UserError, match=f"^{sentence}$") as raised:
        from_dataset(partial(_InParts, fault=fault), "Own")
    assert isinstance(raised.value.__cause__, OSError) == (fault == "raises")


def test_nan_in_an_input_does_not_change_it() -> None:
    class Holes(_InParts):
        def __getitem__(self, i: int):
            return torch.full((3,), float("nan")), i % 2

    assert from_dataset(partial(Holes, fault=""), "Own").splits["train"].repeatable


def test_a_custom_data_set_trains(own, train) -> None:
    done = train("data=custom", "data._target_=own_data.Split", "model=ann", "epochs=1")
    assert done.code == 0, done.err
    assert sum(map(sum, done.results["test"]["confusion_matrix"])) == 40


def test_inputs_of_different_shapes_are_refused(own) -> None:
    class Ragged(Samples):
        targets = torch.arange(10) % 2

        def __len__(self) -> int:
            return 10

        def __getitem__(self, i: int):
            return torch.zeros(3 + i % 2), i % 2

    with pytest.raises(UserError, match=r"differ in shape: \[\(3,\), \(4,\)\]"):
        load(from_dataset(Ragged, "Ragged"), **FRACTIONS)


@pytest.mark.filterwarnings("error")
def test_gray_and_deep_pil_images_keep_their_values(own) -> None:
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert torch.equal(as_tensor(Image.fromarray(gray)), torch.arange(16, dtype=torch.uint8).view(1, 4, 4))
    deep = as_tensor(Image.fromarray(gray.astype(np.uint16) * 4000))  # 16 bits do not fit into a byte
    assert torch.equal(deep, torch.arange(16.0).view(1, 4, 4) * 4000)
