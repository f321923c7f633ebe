"""Output of `trainer compare`: tables on the terminal, and the curves of all runs in one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from trainer.data.metrics import METRICS
from trainer.errors import Problem, UserError, printable
from trainer.files import resolve, write_atomically
from trainer.records import compare
from trainer.records.metrics import points
from trainer.records.record import Record
from trainer.report.svg import LOG_FROM
from trainer.report.tables import print_table

COLOURS = ("#1f6fd6", "#d1495b", "#2e933c", "#8f5bd6", "#d68c1f", "#1fa3a3", "#7f8ea3", "#a3591f")
# The loss, and the metrics without a unit that are computed at every validation.
COLUMNS = [
    f"valid_{metric.name}"
    for metric in METRICS.values()
    if metric.name == "loss" or (metric.better == "max" and metric.computed in ("train", "valid"))
]


def show(records: Sequence[Record], picture: Path) -> None:
    """Print how the configurations and the results of runs differ, and draw their curves.

    Raises:
        UserError: the picture cannot be written.
    """
    names = compare.names(records)
    if changed := compare.changed(records):
        print_table(["changed", *names], [[key, *values] for key, values in changed.items()], named=True)
    else:
        print("The runs have the same configuration.")
    print()
    print_table(["figure", *names], compare.figure_rows(records), named=True)
    for note in compare.notes(records):
        print(printable(note))
    if draw(records, names, picture):
        print(f"\ncurves     {printable(str(picture))}")


def draw(records: Sequence[Record], names: Sequence[str], path: Path) -> bool:
    """Draw the validation of all runs, and their training as thin lines; return whether there was any row.

    Raises:
        UserError: the picture cannot be written.
    """
    columns = [c for c in COLUMNS if any(row.get(c) is not None for record in records for row in record.rows)]
    if not columns:
        return False
    across = "step" if any(record.across == "step" for record in records) else "epoch"
    figure = Figure(figsize=(5.2 * len(columns), 4.4), dpi=110, layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        values = []
        for number, (record, name) in enumerate(zip(records, names, strict=True)):
            colour = COLOURS[number % len(COLOURS)]
            for split, width, alpha in (("train", 1.0, 0.45), ("valid", 1.8, 1.0)):
                line = points(record.rows, column.replace("valid", split), across)
                values += [y for _, y in line]
                if line:
                    x, y = zip(*line, strict=True)
                    label = name if split == "valid" else None
                    style = "-" if number < len(COLOURS) else "--"
                    axes.plot(x, y, style, color=colour, linewidth=width, alpha=alpha, label=label)
        if column == "valid_loss" and min(values) > 0 and max(values) / min(values) > LOG_FROM:
            axes.set_yscale("log")
        axes.set(xlabel=across, title=column.removeprefix("valid_"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    shown = [label.replace("$", r"\$") for label in labels]
    figure.legend(handles, shown, loc="outside lower center", frameon=False, fontsize=8, ncols=min(2, len(shown)))
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=path.suffix.lstrip(".").lower() or "png")
    except ValueError as error:
        raise UserError(Problem(f"--out {path}", f"the picture cannot be written ({error})")) from error
    if not path.parent.is_dir():
        reason = f"the picture cannot be written (there is no folder {path.parent})"
        raise UserError(Problem(f"--out {path}", reason))
    write_atomically(resolve(path.parent) / path.name, picture.getbuffer())
    return True
