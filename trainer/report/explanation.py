"""Pictures and printed lines of `trainer explain`."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib
import numpy
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from trainer.data.metrics import text
from trainer.errors import printable
from trainer.records.explained import ExplainedMistakes, Importance
from trainer.report.explained import METHODS
from trainer.report.plots import TRAIN, VALID, mistakes, plain, save
from trainer.report.tables import print_table

MOST_COLUMNS = 30  # in a picture and on a page
STRONGEST = 0.99  # quantile of the attributions that is drawn in the strongest colour
FULL = 0.75  # share of the colour where it is strongest: the image stays visible
SIDE = 224  # pixels of a stored picture's height, at most


def overlay(image: Tensor, heat: Tensor) -> Tensor:
    """Return a grey image [3, H, W] with what speaks for the prediction in red and what speaks against it in blue.

    Args:
        image: float [3, H, W] from 0 to 1.
        heat: attributions [H, W].
    """
    strongest = heat.abs().flatten().quantile(STRONGEST) or heat.abs().max()
    heat = (heat / strongest.clamp(min=1e-12)).clamp(-1, 1)
    colours = torch.from_numpy(matplotlib.colormaps["bwr"]((heat * 0.5 + 0.5).numpy())[..., :3]).permute(2, 0, 1)
    strength = heat.abs() * FULL
    grey = image.mean(0, keepdim=True) * 0.75 + 0.125
    return grey * (1 - strength) + colours.float() * strength


def side_by_side(image: Tensor, heat: Tensor) -> Tensor:
    """Return an image and its overlay beside each other, float [3, H, 2W + gap]."""
    gap = torch.ones(3, image.shape[1], max(1, image.shape[2] // 32))
    return torch.cat([image, gap, overlay(image, heat)], dim=2)


def png(image: Tensor) -> bytes:
    """Return an image, float [3, H, W] from 0 to 1, as a PNG of at most SIDE pixels in height."""
    picture = Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((4 * SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def draw_pixels(path: Path, explained: tuple[Tensor, Tensor], title: str, method: str) -> None:
    """Draw an image and its overlay beside each other; `explained` are the arguments of `overlay`.

    Raises:
        RunFailed: the file could not be written.
    """
    figure = Figure(figsize=(8, 4.4), dpi=110, layout="constrained")
    figure.suptitle(printable(title), parse_math=False)
    pictures = {"what the model sees": explained[0], METHODS[method]: overlay(*explained)}
    for axes, (name, picture) in zip(figure.subplots(1, 2), pictures.items(), strict=True):
        axes.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy())
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    figure.supxlabel("red speaks for it" + ", blue against it" * (method != "grad_cam"), fontsize=9)
    save(figure, path)


def draw_columns(path: Path, importance: Importance) -> None:
    """Draw the importance of the first columns with the standard deviations of the repeats.

    Raises:
        RunFailed: the file could not be written.
    """
    columns = importance.columns[:MOST_COLUMNS][::-1]
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(columns)), dpi=110, layout="constrained")
    axes = figure.subplots()
    errors = {"ecolor": TRAIN, "capsize": 3}
    means, stds = [column.mean for column in columns], [column.std for column in columns]
    axes.barh(range(len(columns)), means, xerr=stds, color=VALID, error_kw=errors)
    axes.set_yticks(range(len(columns)), [printable(column.name) for column in columns], parse_math=False)
    axes.axvline(0, color=TRAIN, linewidth=1)
    axes.set(xlabel=f"loss of {importance.metric.replace('_', ' ')} when the column is permuted")
    more = f"; the {len(columns)} most important columns" if len(columns) < len(importance.columns) else ""
    score = f"{importance.metric.replace('_', ' ')} {text(importance.metric, importance.score)}"
    axes.set_title(f"{importance.samples:,} samples ({importance.split}): {score}{more}", fontsize=10)
    plain(axes)
    save(figure, path)


def draw_mistakes(path: Path, content: ExplainedMistakes) -> None:
    """Draw a grid of the explained mistakes; nothing if there are none.

    Raises:
        RunFailed: the file could not be written.
    """
    pictures, captions = [], []
    for mistake in content.mistakes:
        with Image.open(io.BytesIO(base64.b64decode(mistake.image))) as picture:
            pictures.append(torch.from_numpy(numpy.array(picture.convert("RGB"))).permute(2, 0, 1))
        captions.append(f"{mistake.predicted} {mistake.chance:.0%}\ntrue: {mistake.true}")
    if pictures:
        mistakes(path, torch.stack(pictures), captions)


def show_columns(importance: Importance) -> None:
    """Print the importance of each column."""
    origin = "" if importance.own_data else ", of other data than the run was trained on"
    metric, score = importance.metric.replace("_", " "), text(importance.metric, importance.score)
    print(f"{importance.split:<10} {importance.samples:,} samples{origin}: {metric} {score}")
    print(f"           {importance.repeats} permutations of each column, seed {importance.seed}\n")
    rows = [[column.name, column.mean, column.std] for column in importance.columns]
    print_table(["column", f"loss of {metric}", "std"], rows, named=True)
