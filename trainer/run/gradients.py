"""Diagnosis of gradients: gradients.csv, the warnings, and the picture at the end."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from trainer.config.schema import Config
from trainer.data.tables.formulas import unescaped
from trainer.files import open_regular
from trainer.records.contents import exists
from trainer.records.metrics import MetricsRow, moment
from trainer.records.table import Table
from trainer.training.watch import Watch

FILE = "gradients.csv"
COLUMNS = (
    "epoch",
    "layer",
    "gradient_norm",
    "weight_norm",
    "dead_share",
    "saturated_share",
    "update_ratio",
    "largest_gradient_norm",
    "step",
)
VANISHED_RATIO, VANISHED_NORM, LEARNED_LOSS = 1e-3, 1e-7, 0.01
EXPLODED_NORM, EXPLODED_RATIO, LEAST_ROWS, ORDINARY_NORM = 1e3, 100, 3, 1.0
MANY_DEAD = 0.5

Row = dict[str, Any]


class GradientLog:
    """Writes the statistics of the layers to gradients.csv at every validation, and warns of each kind of fault once.

    Rows of steps that are not in `history`, with which a resumed run begins, are removed from the file.
    """

    def __init__(
        self, watch: Watch, path: Path, history: list[MetricsRow], advice: Advice, warn: Callable[[str], None]
    ) -> None:
        self.watch, self.path, self.advice, self.warn = watch, path, advice, warn
        steps = {row.step for row in history}
        self.earlier = [row for row in read(path) if row["step"] in steps] if exists(path) else []
        self.table = Table(path, COLUMNS, self.earlier)
        self.warned: set[str] = set()

    def row(self, epoch: int, step: int, loss: float | None) -> None:
        """Write the rows of a validation, and warn; `loss` is the training loss."""
        rows = [{"epoch": epoch, "step": step, **row} for row in self.watch.rows()]
        for row in rows:
            self.table.add(row)
        for kind, sentence in diagnose(rows, self.earlier, loss, self.advice).items():
            if kind not in self.warned:
                self.warned.add(kind)
                self.warn(sentence)
        self.earlier += rows

    def close(self) -> None:
        """Close the file."""
        self.table.close()

    def draw(self) -> None:
        """Draw gradients.png, unless there are no rows."""
        if self.earlier:
            from trainer.report.gradients import picture

            picture(self.path.with_suffix(".png"), self.earlier)


def read(path: Path) -> list[Row]:
    """Read the rows of a gradients.csv."""
    with TextIOWrapper(open_regular(path), "utf-8", newline="") as file:
        return [
            {
                "layer": unescaped(row.pop("layer")),
                "epoch": int(row.pop("epoch")),
                "step": int(row.pop("step")),
                **{name: float(value) if value else None for name, value in row.items()},
            }
            for row in csv.DictReader(file)
        ]


class Advice:
    """Remedies for bad gradients, as overrides or in words, and how the time of a validation is named.

    Attributes:
        lower_rate: a lower learning rate.
        other_init: another initialisation.
        clip: clipping of the gradient norm; empty if the run clips already.
        model: the arguments of the model.
    """

    def __init__(self, config: Config, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        rate = config.optim.arguments.get("lr")
        self.lower_rate = "a lower optim.lr" if rate is None else f"a lower optim.lr than {rate:g}"
        self.other_init = "init=orthogonal" if (config.init.name or "").startswith("kaiming") else "init=kaiming_normal"
        self.clip = "clip_norm=1" if config.clip_norm is None else ""
        self.model = config.model.arguments

    def when(self, row: Row) -> str:
        """Return `in epoch 3`, or `up to step 200` for rows of a validation inside an epoch."""
        reached = moment(row["epoch"], row["step"], self.steps_per_epoch)
        return f"in {reached}" if reached.startswith("epoch") else f"up to {reached}"

    def argument(self, name: str, value: str, otherwise: str) -> str:
        """Return the override of a model's argument, or the change in words if the model has no such argument."""
        return f"model.{name}={value}" if name in self.model else otherwise


def diagnose(rows: list[Row], earlier: list[Row], loss: float | None, advice: Advice) -> dict[str, str]:
    """Return a sentence for each of `vanish`, `explode` and `dead` that applies to the rows of a validation.

    Gradients vanish if the norm of the first trained layer is below a thousandth of the last one's: if layers learn
    at comparable rates, the ratio stays within ten or so, whatever their widths. They have also vanished if that norm
    is below 1e-7 of the weights' (the resolution of float32: plain steps with a learning rate of 1 would be lost in
    rounding), unless the loss is below 0.01: a fitted model has no gradient.

    They explode if a norm is not finite or above 1,000. With respect to the outputs, the mean cross-entropy has a
    gradient of 1.4 at most, a mean squared error of a standardised target has the same order, and sound layers keep
    that order. They also explode if a layer's norm is a hundred times the median of its earlier rows, at least three,
    and above 1: below 1, the earlier rows may be those of a nearly fitted model.

    If more than half of a layer's units are dead, the layer has less than half its width. Sparse activations are
    different: there, a unit is 0 for many samples but not for all.

    Args:
        rows: the rows of this validation, in the order in which layers are called.
        earlier: the rows of earlier validations.
        loss: the training loss; None if unknown.
        advice: remedies to suggest.
    """
    trained = [row for row in rows if row["gradient_norm"] is not None]
    sentences = {
        "explode": _exploded(trained, earlier, advice),
        "vanish": _vanished(trained, loss, advice),
        "dead": _dead(rows, advice),
    }
    return {kind: sentence for kind, sentence in sentences.items() if sentence}


def _vanished(trained: list[Row], loss: float | None, advice: Advice) -> str | None:
    if not trained:
        return None
    first, last = trained[0], trained[-1]
    norm = first["gradient_norm"]
    through_depth = norm < VANISHED_RATIO * last["gradient_norm"] < math.inf
    lost = norm < VANISHED_NORM * first["weight_norm"] and (loss is None or loss > LEARNED_LOSS)
    if not (through_depth or lost):
        return None
    bounded = [row for row in trained if row["saturated_share"] is not None]
    remedies, cause = [advice.other_init], ""
    if bounded:
        flattest = max(bounded, key=lambda row: row["saturated_share"])
        if flattest["saturated_share"] > MANY_DEAD:
            cause = f" {flattest['saturated_share']:.0%} of the outputs of layer {flattest['layer']} are saturated."
            remedies.insert(0, advice.lower_rate)
        remedies.append(advice.argument("activation", "relu", "ReLU in place of sigmoid or tanh"))
    remedies.append(advice.argument("norm", "batch", "a normalisation after each layer"))
    comparison = (
        f", the first, and {last['gradient_norm']:.2g} in layer {last['layer']}, the last" if first != last else ""
    )
    return (
        f"gradients vanish: {advice.when(first)} their norm is {norm:.2g} in layer {first['layer']}{comparison}."
        f"{cause} Try {', '.join(remedies)}, or fewer layers."
    )


def _exploded(trained: list[Row], earlier: list[Row], advice: Advice) -> str | None:
    for row in sorted(trained, key=lambda row: _largest_first(row["gradient_norm"])):
        norm = row["gradient_norm"]
        before = [r["gradient_norm"] for r in earlier if r["layer"] == row["layer"] and r["gradient_norm"] is not None]
        usual = statistics.median(before) if len(before) >= LEAST_ROWS else math.inf
        if not math.isfinite(norm):
            symptom = "are not finite"
        elif norm > EXPLODED_NORM:
            symptom = f"have a mean norm of {norm:.2g}"
        elif norm > EXPLODED_RATIO * usual and norm > ORDINARY_NORM:
            symptom = f"have a mean norm of {norm:.2g}, after {usual:.2g} in earlier epochs"
        else:
            continue
        remedies = [word for word in (advice.clip, advice.lower_rate) if word]
        return (
            f"gradients explode: {advice.when(row)} those of layer {row['layer']} {symptom}. "
            f"Try {', '.join(remedies)}, or {advice.other_init}."
        )
    return None


def _dead(rows: list[Row], advice: Advice) -> str | None:
    dead = [row for row in rows if (row["dead_share"] or 0) > MANY_DEAD]
    if not dead:
        return None
    worst = max(dead, key=lambda row: row["dead_share"])
    others = f" (and more than half in {len(dead) - 1} other{'s' * (len(dead) > 2)})" if len(dead) > 1 else ""
    return (
        f"dead units: {worst['dead_share']:.0%} of the units of layer {worst['layer']}{others} were 0 for every "
        f"sample {advice.when(worst)}. Try {advice.lower_rate}, {advice.other_init}, or "
        f"{advice.argument('activation', 'leaky_relu', 'LeakyReLU in place of ReLU')}."
    )


def _largest_first(norm: float) -> float:
    return -norm if math.isfinite(norm) else -math.inf
