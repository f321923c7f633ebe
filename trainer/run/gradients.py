"""What a run's gradients say: gradients.csv, the warnings, and the picture at the end."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.config.schema import Config
from trainer.records.metrics import MetricsRow
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
    """Takes the watch's figures at every validation and keeps them in gradients.csv.

    Args:
        history: the rows of metrics.csv that a resumed run has behind it; rows of gradients.csv beyond them go.
        tell: is given each warning, once a run.
    """

    def __init__(
        self, watch: Watch, path: Path, history: list[MetricsRow], config: Config, tell: Callable[[str], None]
    ) -> None:
        self.watch, self.path, self.config, self.tell = watch, path, config, tell
        steps = {row.step for row in history}
        self.earlier = [row for row in read(path) if row["step"] in steps] if path.exists() else []
        self.table = Table(path, COLUMNS, self.earlier)
        self.told: set[str] = set()

    def row(self, epoch: int, step: int, loss: float | None) -> None:
        """Writes the rows of a validation, and warns; `loss` is the training part's."""
        rows = [{"epoch": epoch, "step": step, **row} for row in self.watch.rows()]
        for row in rows:
            self.table.add(row)
        for kind, sentence in diagnose(rows, self.earlier, loss, self.config).items():
            if kind not in self.told:
                self.told.add(kind)
                self.tell(sentence)
        self.earlier += rows

    def close(self) -> None:
        self.table.close()

    def draw(self) -> None:
        """gradients.png, if there is anything to draw."""
        if self.earlier:
            from trainer.report.gradients import picture

            picture(self.path.with_suffix(".png"), self.earlier)


def read(path: Path) -> list[Row]:
    """The rows of a gradients.csv."""
    with open(path, encoding="utf-8", newline="") as file:
        return [
            {
                "layer": row.pop("layer"),
                "epoch": int(row.pop("epoch")),
                "step": int(row.pop("step")),
                **{name: float(value) if value else None for name, value in row.items()},
            }
            for row in csv.DictReader(file)
        ]


def diagnose(rows: list[Row], earlier: list[Row], loss: float | None, config: Config) -> dict[str, str]:
    """A sentence for each of `vanish`, `explode` and `dead` that holds for these rows; none where all is well.

    Gradients vanish where the first trained layer's norm is under a thousandth of the last one's: a network whose
    layers learn at comparable rates keeps it within ten or so, whatever its widths. They have also vanished where
    that norm is under 1e-7 of the weights' (the resolution of float32: plain steps at a rate of 1 would be lost in
    rounding), unless the loss is under 0.01: what is learned has no gradient.

    They explode where a norm is not finite or above 1,000: by the outputs the mean loss of classes has a gradient of
    1.4 at most, that of a scaled target is of the same order, and sound layers keep that order. Also where a layer's
    norm is a hundred times the median of its earlier rows, of which there must be three, and above 1: under that it
    may only be that the others were of a time when nearly all was learned.

    More than half of a layer's units dead is a layer of half its width: sparseness is that a unit gives 0 often, not
    that it never gives anything.
    """
    trained = [row for row in rows if row["gradient_norm"] is not None]
    found = {
        "explode": _exploded(trained, earlier, config),
        "vanish": _vanished(trained, loss, config),
        "dead": _dead(rows, config),
    }
    return {kind: sentence for kind, sentence in found.items() if sentence}


def _vanished(trained: list[Row], loss: float | None, config: Config) -> str | None:
    if not trained:
        return None
    first, last = trained[0], trained[-1]
    norm = first["gradient_norm"]
    through_depth = norm < VANISHED_RATIO * last["gradient_norm"] < math.inf
    lost = norm < VANISHED_NORM * first["weight_norm"] and (loss is None or loss > LEARNED_LOSS)
    if not (through_depth or lost):
        return None
    bounded = [row for row in trained if row["saturated_share"] is not None]
    tries, cause = [_other_init(config)], ""
    if bounded:
        flattest = max(bounded, key=lambda row: row["saturated_share"])
        if flattest["saturated_share"] > MANY_DEAD:
            cause = f" {flattest['saturated_share']:.0%} of the outputs of layer {flattest['layer']} are saturated."
            tries.insert(0, _lower_rate(config))
        tries.append(_argument(config, "activation", "relu", "ReLU in place of sigmoid or tanh"))
    tries.append(_argument(config, "norm", "batch", "a normalisation after each layer"))
    beside = f", the first, and {last['gradient_norm']:.2g} in layer {last['layer']}, the last" if first != last else ""
    return (
        f"gradients vanish: in epoch {first['epoch']} their norm is {norm:.2g} in layer {first['layer']}{beside}."
        f"{cause} Try {', '.join(tries)}, or fewer layers."
    )


def _exploded(trained: list[Row], earlier: list[Row], config: Config) -> str | None:
    for row in sorted(trained, key=lambda row: _largest_first(row["gradient_norm"])):
        norm = row["gradient_norm"]
        before = [r["gradient_norm"] for r in earlier if r["layer"] == row["layer"] and r["gradient_norm"] is not None]
        usual = statistics.median(before) if len(before) >= LEAST_ROWS else math.inf
        if not math.isfinite(norm):
            what = "are not finite"
        elif norm > EXPLODED_NORM:
            what = f"have a norm of {norm:.2g} in the mean"
        elif norm > EXPLODED_RATIO * usual and norm > ORDINARY_NORM:
            what = f"have a norm of {norm:.2g} in the mean, after {usual:.2g} in the epochs before"
        else:
            continue
        tries = [word for word in ("clip_norm=1" if config.clip_norm is None else "", _lower_rate(config)) if word]
        return (
            f"gradients explode: in epoch {row['epoch']} those of layer {row['layer']} {what}. "
            f"Try {', '.join(tries)}, or {_other_init(config)}."
        )
    return None


def _dead(rows: list[Row], config: Config) -> str | None:
    dead = [row for row in rows if (row["dead_share"] or 0) > MANY_DEAD]
    if not dead:
        return None
    worst = max(dead, key=lambda row: row["dead_share"])
    others = f" (and more than half in {len(dead) - 1} other{'s' * (len(dead) > 2)})" if len(dead) > 1 else ""
    return (
        f"dead units: {worst['dead_share']:.0%} of those of layer {worst['layer']}{others} gave 0 for every sample of "
        f"epoch {worst['epoch']}. Try {_lower_rate(config)}, {_other_init(config)}, or "
        f"{_argument(config, 'activation', 'leaky_relu', 'LeakyReLU in place of ReLU')}."
    )


def _largest_first(norm: float) -> float:
    return -norm if math.isfinite(norm) else -math.inf


def _lower_rate(config: Config) -> str:
    rate = config.optim.arguments.get("lr")
    return "a lower optim.lr" if rate is None else f"a lower optim.lr than {rate:g}"


def _other_init(config: Config) -> str:
    return "init=orthogonal" if config.init.name.startswith("kaiming") else "init=kaiming_normal"


def _argument(config: Config, name: str, value: str, otherwise: str) -> str:
    """What to type, where the model has such an argument; else what to change in it."""
    return f"model.{name}={value}" if name in config.model.arguments else otherwise
