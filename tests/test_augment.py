"""Shear, colour and erasing: per sample, seeded, and what arithmetic says they are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainer.data.augment import RandomAffine, Strong


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
    still = Strong(degrees=0, translate=0, scale=0, shear=0, colour=0, erase=0)
    torch.testing.assert_close(still(images, generator()), images)


def test_draws_are_seeded_and_differ_from_sample_to_sample() -> None:
    images = photos(1).expand(6, -1, -1, -1)
    first, again, other = (Strong()(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(image.flatten().tolist()) for image in first}) == 6


def test_erasing_takes_one_rectangle_of_the_area_asked_for() -> None:
    images = torch.ones(2000, 1, 20, 20)
    erased = Strong(degrees=0, translate=0, scale=0, shear=0, erase=0.5, erase_area=0.3)(images, generator()) == 0
    hit = erased.flatten(1).any(1)
    # 2,000 coins: four standard errors are 0.045; a rectangle covers 0.15 on average, less what the grid cuts off.
    assert hit.double().mean().item() == pytest.approx(0.5, abs=0.045)
    assert 0.1 < erased[hit].double().mean().item() < 0.2
    for mask in erased[hit][:50, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert max(rows.diff().count_nonzero(), columns.diff().count_nonzero()) <= 2


def test_colour_changes_keep_greys_grey_and_stay_within_their_share() -> None:
    grey = photos(50, 1).expand(-1, 3, -1, -1)
    recoloured = Strong(degrees=0, translate=0, scale=0, shear=0, erase=0, colour=0.3)(grey, generator())
    torch.testing.assert_close(recoloured[:, 0], recoloured[:, 2])
    contrast = recoloured.flatten(1).std(1) / grey.flatten(1).std(1)
    assert contrast.min() >= 0.7 - 1e-9
    assert contrast.max() <= 1.3 + 1e-9
    assert contrast.std() > 0.1


@pytest.mark.parametrize(
    "words", [{"shear": 90}, {"colour": 1}, {"erase_area": 0}, {"scale": 1}, {"degrees": math.inf}]
)
def test_settings_out_of_range_are_refused(words: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="from 0"):
        Strong(**words)
