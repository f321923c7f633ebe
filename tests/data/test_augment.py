"""Windows, shear, colour and erasing: per sample, seeded, and equal to what arithmetic gives."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop
from torchvision.transforms.v2 import functional as tv

from helpers.components import resolved
from helpers.datasets import random_images
from trainer.components.data import build_augmentation
from trainer.data.augment.chain import Chain
from trainer.data.augment.colour import ColourJitter
from trainer.data.augment.erasing import RandomErasing
from trainer.data.augment.geometry import FlipCrop, RandomAffine, RandomResizedCrop
from trainer.data.augment.strong import Strong

CONF = Path(__file__).parents[2] / "conf"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(batch: int = 8, channels: int = 3, side: int = 24) -> Tensor:
    return torch.randn(batch, channels, side, side, generator=generator(5), dtype=torch.float64)


def test_shear_reads_a_plane_where_the_formula_says() -> None:
    centres = (2 * torch.arange(33, dtype=torch.float64) + 1) / 33 - 1
    plane = (centres[None, :] + 2 * centres[:, None]).expand(4, 1, 33, 33)  # x + 2 y: bilinear reading is exact
    found = RandomAffine(degrees=0, translate=0, scale=0, shear=20)(plane, generator())
    draws = generator()
    torch.rand(4, 4, generator=draws, dtype=torch.float64)  # rotation, scale and shifts come first
    lean = (torch.rand(4, generator=draws, dtype=torch.float64) * 2 - 1) * math.radians(20)
    for image, angle in zip(found, lean.tolist(), strict=True):
        expected = centres[None, :] + math.tan(angle) * centres[:, None] + 2 * centres[:, None]
        torch.testing.assert_close(image[0, :, 8:25], expected[:, 8:25], atol=1e-12, rtol=0)


def test_nothing_asked_for_is_nothing_done() -> None:
    images = photos()
    still = RandomAffine(degrees=0, translate=0, scale=0, shear=0)
    torch.testing.assert_close(still(images, generator()), images)


def test_erasing_takes_one_rectangle_of_the_area_asked_for() -> None:
    images = torch.ones(2000, 1, 20, 20)
    erased = RandomErasing(probability=0.5, area=0.3)(images, generator()) == 0
    hit = erased.flatten(1).any(1)
    # 2,000 coins: four standard errors are 0.045; a rectangle covers 0.15 on average, less what the grid cuts off.
    assert hit.double().mean().item() == pytest.approx(0.5, abs=0.045)
    assert 0.1 < erased[hit].double().mean().item() < 0.2
    for mask in erased[hit][:50, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert max(rows.diff().count_nonzero(), columns.diff().count_nonzero()) <= 2


# Random resized crop


@pytest.mark.parametrize(("height", "width"), [(20, 20), (18, 31)])
def test_a_window_is_read_where_it_was_drawn(height: int, width: int) -> None:
    images = torch.randn(30, 2, height, width, generator=generator(1), dtype=torch.float64)
    augment = RandomResizedCrop(scale=(0.1, 0.6), ratio=(0.5, 2.0))
    found = augment(images, generator(7))
    again = generator(7)
    draws = torch.rand(2, 10, 30, generator=again, dtype=torch.float64)
    places = torch.rand(3, 30, generator=again, dtype=torch.float64).numpy()
    tall, wide, fitting = (x.numpy() for x in augment._windows(draws, width / height))
    assert fitting.all()
    for i in range(30):
        rows = (np.arange(height) + 0.5) * tall[i] + places[0, i] * (1 - tall[i]) * height - 0.5
        columns = (np.arange(width) + 0.5) * wide[i] + places[1, i] * (1 - wide[i]) * width - 0.5
        at = np.meshgrid(rows, columns[::-1] if places[2, i] < 0.5 else columns, indexing="ij")
        expected = np.stack([map_coordinates(channel, at, order=1, mode="nearest") for channel in images[i].numpy()])
        np.testing.assert_allclose(found[i].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("scale", "ratio", "height", "width"),
    [((0.08, 1.0), (3 / 4, 4 / 3), 224, 224), ((0.5, 1.0), (0.5, 2.0), 300, 400), ((0.9, 1.0), (0.3, 0.5), 200, 200)],
)
def test_windows_are_distributed_as_torchvisions(scale, ratio, height: int, width: int) -> None:
    count, image = 3000, torch.empty(1, height, width)
    torch.manual_seed(0)
    theirs = np.array([TorchvisionCrop.get_params(image, list(scale), list(ratio)) for _ in range(count)], dtype=float)
    draws = torch.rand(2, 10, count, generator=generator(3), dtype=torch.float64)
    tall, wide, _ = RandomResizedCrop(scale, ratio)._windows(draws, width / height)
    for mine, other, side in ((tall, theirs[:, 2], height), (wide, theirs[:, 3], width)):
        deciles = np.arange(0.05, 1, 0.1)
        # The standard error of a decile of 3,000 draws is about 0.007 of the side; theirs are whole pixels.
        difference = np.quantile(mine.numpy(), deciles) - np.quantile(other / side, deciles)
        assert np.abs(difference).max() < 0.03


def test_the_whole_image_as_a_window_is_the_image_or_its_mirror() -> None:
    images = photos(40)
    found = RandomResizedCrop(scale=(1, 1), ratio=(1, 1))(images, generator())
    mirrored = [torch.allclose(a, b.flip(-1), atol=1e-12) for a, b in zip(found, images, strict=True)]
    same = [torch.allclose(a, b, atol=1e-12) for a, b in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 32
    still = RandomResizedCrop(scale=(1, 1), ratio=(1, 1), flip=False)
    torch.testing.assert_close(still(images, generator()), images)


# Colour

MEAN, STD = (125.3, 122.9, 113.8), (63.0, 62.1, 66.7)


def jittered(images: Tensor, **shares: float) -> tuple[Tensor, Tensor]:
    """Raw pixels after a jitter of normalised ones with these shares alone, and the draws [4, B] that it made."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (MEAN, STD))
    none = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    augment = ColourJitter(**(none | shares), mean=MEAN, std=STD)
    found = augment((images - mean) / std, generator(11)) * std + mean
    draws = torch.rand(4, len(images), generator=generator(11), dtype=torch.float64) * 2 - 1
    return found, draws


def raw(batch: int = 12, low: float = 100, high: float = 150) -> Tensor:
    """Pixels that no factor near 1 brings out of 0 to 255."""
    return torch.rand(batch, 3, 9, 7, generator=generator(2), dtype=torch.float64) * (high - low) + low


@pytest.mark.parametrize(
    ("name", "index", "reference"),
    [
        ("brightness", 0, tv.adjust_brightness),
        ("contrast", 1, tv.adjust_contrast),
        ("saturation", 2, tv.adjust_saturation),
    ],
)
def test_each_colour_change_is_torchvisions(name: str, index: int, reference) -> None:
    images = raw()
    found, draws = jittered(images, **{name: 0.4})
    for i in range(len(images)):
        expected = reference(images[i] / 255, float(1 + 0.4 * draws[index, i])) * 255
        torch.testing.assert_close(found[i], expected, atol=0.02, rtol=0)  # their greys have weights of four digits


def test_all_changes_together_are_torchvisions_in_rotation() -> None:
    images = raw()
    found, draws = jittered(images, brightness=0.2, contrast=0.3, saturation=0.4)
    for i in range(len(images)):
        expected = tv.adjust_brightness(images[i] / 255, float(1 + 0.2 * draws[0, i]))
        expected = tv.adjust_contrast(expected, float(1 + 0.3 * draws[1, i]))
        expected = tv.adjust_saturation(expected, float(1 + 0.4 * draws[2, i])) * 255
        torch.testing.assert_close(found[i], expected, atol=0.05, rtol=0)


def test_hue_turns_as_hsv_does_by_a_third_and_keeps_greys_and_sums() -> None:
    from trainer.data.augment.colour import _rotation

    one = torch.eye(3, dtype=torch.float64)
    images = raw(1)[0]
    for third in (1 / 3, -1 / 3):
        turned = torch.einsum("dc,chw->dhw", _rotation(torch.tensor([third * 2 * math.pi]).double(), one)[0], images)
        torch.testing.assert_close(turned, tv.adjust_hue(images / 255, third) * 255, atol=1e-6, rtol=1e-6)
    images = raw()
    found, _ = jittered(images, hue=0.5)
    torch.testing.assert_close(found.sum(1), images.sum(1))
    assert not torch.allclose(found, images, atol=1)
    grey = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(jittered(grey, hue=0.5)[0], grey)


def test_colours_stay_within_a_byte_unless_the_data_is_floats() -> None:
    images = raw(low=0, high=255)
    found, _ = jittered(images, brightness=1.0, contrast=1.0, saturation=1.0)
    assert found.min() >= -1e-9
    assert found.max() <= 255 + 1e-9
    for mean, std in ((None, None), ((0.0,) * 3, (1.0,) * 3)):
        assert ColourJitter(brightness=1.0, mean=mean, std=std)(images, generator()).max() > 300


@pytest.mark.parametrize("channels", [1, 4])
def test_colour_of_other_channels_is_brightness_and_contrast(channels: int) -> None:
    images = torch.rand(5, channels, 6, 6, generator=generator(), dtype=torch.float64)
    found = ColourJitter(0.3, 0.3, 0.0, 0.5)(images, generator())
    slope = (found - found.mean((2, 3), keepdim=True)) / (images - images.mean((2, 3), keepdim=True))
    torch.testing.assert_close(slope, slope[:, :1, :1, :1].expand_as(slope))


# Chains


def test_a_chain_is_its_steps_in_rotation() -> None:
    images = photos()
    chain = Chain(["FlipCrop", {"ColourJitter": {"hue": 0.1}}, {"RandomErasing": {"area": 0.4}}], MEAN, STD)
    draws = generator(4)
    expected = FlipCrop()(images, draws)
    expected = ColourJitter(hue=0.1, mean=MEAN, std=STD)(expected, draws)
    expected = RandomErasing(area=0.4)(expected, draws)
    assert torch.equal(chain(images, generator(4)), expected)


def test_strong_augmentation_equals_a_chain_and_leaves_the_colours_of_grey_images_alone() -> None:
    affine, erasing = {"RandomAffine": {"degrees": 5.0, "shear": 3.0}}, {"RandomErasing": {"probability": 0.5}}
    jitter = {"ColourJitter": dict.fromkeys(("brightness", "contrast", "saturation"), 0.1)}
    strong = Strong(5.0, 0.08, 0.1, 3.0, colour=0.1, erase=0.5, mean=MEAN, std=STD)
    colour, grey = photos(), photos(channels=1)
    assert torch.equal(strong(colour, generator()), Chain([affine, jitter, erasing], MEAN, STD)(colour, generator()))
    assert torch.equal(strong(grey, generator()), Chain([affine, erasing])(grey, generator()))


@pytest.mark.parametrize("wrong", [{"colour": 1.0}, {"erase": 1.5}, {"erase_area": 0.0}])
def test_strong_augmentation_refuses_values_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="colour must be from 0 to below 1, erase from 0 to 1, erase_area from above"):
        Strong(**wrong)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([], "one or more augmentations"),
        ("FlipCrop", "one or more augmentations"),
        (["Flip"], "step 1 is Flip; expected one of RandomResizedCrop, FlipCrop"),
        ([{"FlipCrop": {}}, {"FlipCrop": 3}], "step 2 is"),
        ([{"FlipCrop": {"padding": 65}}], "padding must be from 0 to 64"),
        ([{"FlipCrop": {"paddin": 6}}], "unexpected keyword argument 'paddin'"),
    ],
)
def test_chains_that_make_no_sense_are_refused(steps, sentence: str) -> None:
    with pytest.raises((ValueError, TypeError), match=sentence):
        Chain(steps)


EVERY = {
    "affine": RandomAffine(shear=5),
    "flip_crop": FlipCrop(),
    "resized_crop": RandomResizedCrop(),
    "colour": ColourJitter(hue=0.1, mean=MEAN, std=STD),
    "erasing": RandomErasing(1.0),
    "chain": Chain(["RandomResizedCrop", "ColourJitter"], MEAN, STD),
    "strong": Strong(mean=MEAN, std=STD),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_every_augmentation_is_seeded_per_sample_and_keeps_shape_and_input(name: str, dtype: torch.dtype) -> None:
    images = photos(1).to(dtype).expand(6, -1, -1, -1).contiguous()
    before = images.clone()
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first, again, other = (EVERY[name](images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.shape, first.dtype) == (images.shape, dtype)
    assert len({image.numpy().tobytes() for image in first}) == 6
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    last = EVERY[name](images.contiguous(memory_format=torch.channels_last), generator(1))
    torch.testing.assert_close(last, first)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("augment/*.yaml") if path.stem != "none"))
def test_grey_images_repeated_to_three_channels_are_augmented_as_colour_images_of_the_same_pixels(
    name: str, job
) -> None:
    target = resolved(job(f"augment={name}").config, "augment").augment
    grey, colour = random_images((1, 12, 12)), random_images((3, 12, 12))
    grey.fit(None, 3)
    colour.prepare = replace(colour.prepare, mean=grey.prepare.mean * 3, std=grey.prepare.std * 3)
    pixels = grey.splits["train"].samples.take(torch.arange(8))
    images = [data.prepare(raw) for data, raw in ((grey, pixels), (colour, pixels.expand(-1, 3, -1, -1)))]
    found, expected = (
        build_augmentation(target, data)(batch, generator(1))
        for data, batch in zip((grey, colour), images, strict=True)
    )
    assert found.shape == (8, 3, 12, 12)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomResizedCrop(scale=(0, 1)),
        lambda: RandomResizedCrop(scale=(0.5, 0.4)),
        lambda: RandomResizedCrop(scale=(0.5, 1.1)),
        lambda: RandomResizedCrop(scale=(0.5,)),
        lambda: RandomResizedCrop(ratio=(0, 1)),
        lambda: RandomResizedCrop(ratio=(1, math.inf)),
        lambda: RandomAffine(shear=90),
        lambda: RandomAffine(scale=1),
        lambda: RandomAffine(degrees=math.inf),
        lambda: RandomErasing(probability=1.1),
        lambda: RandomErasing(area=0),
        lambda: ColourJitter(brightness=1.1),
        lambda: ColourJitter(saturation=-0.1),
        lambda: ColourJitter(hue=0.6),
    ],
)
def test_numbers_out_of_range_are_refused(make) -> None:
    with pytest.raises(ValueError, match="0"):
        make()
