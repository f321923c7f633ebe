"""Pictures of a run as PNG, drawn without pyplot's global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from trainer.files import write_atomically
from trainer.records.details import Bin
from trainer.records.metrics import MetricsRow, points

TRAIN, VALID = "#7f8ea3", "#1f6fd6"
MAX_TARGETS = 8  # of a regression that are drawn; details.json and the page have all


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically and without following a link at `path`.

    Raises:
        RunFailed: the file could not be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getbuffer())


def curves(path: Path, history: Sequence[MetricsRow], across: str, best: int | None) -> None:
    """Draw training and validation: the loss, and accuracy, that of labels, or R2.

    Args:
        path: path of the PNG file.
        history: rows of metrics.csv.
        across: the x axis, `epoch` or `step`.
        best: epoch or step of the best validation, which is marked.

    Raises:
        RunFailed: the file could not be written.
    """
    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    columns = {column for row in history for column in row.metrics}
    second = next((name for name in ("accuracy", "label_accuracy") if f"valid_{name}" in columns), "r2")
    for axes, name in zip(figure.subplots(1, 2), ("loss", second), strict=True):
        for split, colour in (("train", TRAIN), ("valid", VALID)):
            line = points(history, f"{split}_{name}", across)
            if line:
                marker = "o" if len(line) < 30 else None
                x, y = zip(*line, strict=True)
                axes.plot(x, y, color=colour, label=split, marker=marker, markersize=3, linewidth=1.6)
        if best is not None:
            axes.axvline(best, color="#c0392b", linewidth=1, linestyle=":", label=f"best, {across} {best}")
        axes.set(xlabel=across, title=name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "loss":
            _log_if_wide(axes, history)
        plain(axes)
        axes.legend(frameon=False)
    save(figure, path)


def predictions(path: Path, targets: Tensor, predicted: Tensor, names: Sequence[str] = ()) -> None:
    """Draw predicted against true values, both [N, K], and the residuals against the predicted values.

    Args:
        names: of several targets; a row of the picture for each of the first ones.

    Raises:
        RunFailed: the file could not be written.
    """
    rows = min(targets.shape[1], MAX_TARGETS)
    figure = Figure(figsize=(10, 4.4 * rows), dpi=110, layout="constrained")
    for number, axes in enumerate(figure.subplots(rows, 2, squeeze=False)):
        name = f"{names[number]}: " if names else ""
        _draw_predictions(axes, targets[:, number], predicted[:, number], name)
    save(figure, path)


def _draw_predictions(both: Sequence[Axes], targets_N: Tensor, predicted_N: Tensor, name: str) -> None:
    left, right = both
    low, high = float(min(targets_N.min(), predicted_N.min())), float(max(targets_N.max(), predicted_N.max()))
    left.plot([low, high], [low, high], color=TRAIN, linewidth=1)
    left.scatter(targets_N, predicted_N, s=14, color=VALID, alpha=0.6, linewidths=0)
    left.set(xlabel="true", ylabel="predicted")
    left.set_title(f"{name}predicted against true", parse_math=False)
    right.axhline(0, color=TRAIN, linewidth=1)
    right.scatter(predicted_N, predicted_N - targets_N, s=14, color=VALID, alpha=0.6, linewidths=0)
    right.set(xlabel="predicted", ylabel="predicted - true")
    right.set_title(f"{name}residuals", parse_math=False)
    for axes in both:
        plain(axes)


def _log_if_wide(axes: Axes, history: Sequence[MetricsRow]) -> None:
    values = [value for row in history for name in ("train_loss", "valid_loss") if (value := row.get(name))]
    if values and min(values) > 0 and max(values) / min(values) > 20:
        axes.set_yscale("log")


def plain(axes: Axes) -> None:
    """Remove the frame's upper and right lines, and draw a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def confusion_matrix(path: Path, matrix: list[list[int]], classes: Sequence[str]) -> None:
    """Draw counts, rows for the true classes and columns for the predicted ones; the shade is the share of the row.

    Raises:
        RunFailed: the file could not be written.
    """
    counts = torch.tensor(matrix, dtype=torch.float64)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    n = len(classes)
    side = min(3.2 + 0.45 * n, 16)
    figure = Figure(figsize=(side + 0.6, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    size = 9 if n <= 20 else 5
    rotation = 90 if max(map(len, classes)) > 3 and n > 3 else 0
    axes.set_xticks(range(n), classes, rotation=rotation, fontsize=size, parse_math=False)
    axes.set_yticks(range(n), classes, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    if n <= 25:
        for i in range(n):
            for j in range(n):
                if counts[i, j]:
                    colour = "white" if shares[i, j] > 0.5 else "black"
                    axes.text(j, i, f"{int(counts[i, j])}", ha="center", va="center", color=colour, fontsize=8)
    save(figure, path)


def reliability(path: Path, curves: dict[str, list[Bin]]) -> None:
    """Draw accuracy against confidence, and how many samples have each confidence.

    Args:
        path: path of the PNG file.
        curves: bins of equal width by name of the curve, two at most.

    Raises:
        RunFailed: the file could not be written.
    """
    figure = Figure(figsize=(5.4, 6), dpi=110, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=TRAIN, linewidth=1, linestyle=":", label="calibrated")
    for (name, bins), colour in zip(curves.items(), (VALID, "#c0392b"), strict=False):
        filled = [(b.confidence, b.accuracy) for b in bins if b.count]
        x, y = zip(*filled, strict=True) if filled else ((), ())
        upper.plot(x, y, color=colour, marker="o", markersize=4, linewidth=1.6, label=name)
        shares = [b.count / max(sum(b.count for b in bins), 1) for b in bins]
        lower.stairs(shares, [b.low for b in bins] + [bins[-1].high], color=colour, linewidth=1.4)
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02), title="reliability of the predicted class")
    upper.legend(frameon=False, loc="upper left")
    lower.set(xlabel="confidence", ylabel="share of samples")
    for axes in (upper, lower):
        plain(axes)
    save(figure, path)


def mistakes(path: Path, images: Tensor, captions: list[str]) -> None:
    """Draw a grid of images [N, C, H, W], uint8 or float, with their captions.

    Raises:
        RunFailed: the file could not be written.
    """
    wide = images.shape[3] > 1.5 * images.shape[2]
    most, width, height = (4, 2.9, 1.9) if wide else (6, 1.9, 2.3)
    columns = min(most, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(width * columns, height * rows), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        pixels = image.float()
        pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-9)
        if image.shape[0] == 3:
            axes.imshow(pixels.permute(1, 2, 0).numpy())
        else:
            axes.imshow(pixels[0].numpy(), cmap="gray_r")
        axes.set_title(caption, fontsize=8, parse_math=False)
    save(figure, path)
