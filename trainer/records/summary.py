"""summary.json: the layers of a run's model, and what they cost. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trainer.files import write_atomically
from trainer.records.contents import exists
from trainer.records.schema import dump, read_json

FILE = "summary.json"
LARGEST_BYTES = 20_000_000


@dataclass(frozen=True)
class Layer:
    """A layer of a model.

    Attributes:
        name: path in the model.
        type: name of its class.
        output: shape of its output for one sample; None if it is not called, or returns no tensor.
        parameters: number of elements, without those of the layers in it.
        multiply_adds: for one sample, in it and the layers in it.
    """

    name: str
    type: str
    output: list[int] | None
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class ModelSummary:
    """The layers of a model and its size.

    Attributes:
        input: shape of a model input, without the batch.
        layers: layers with parameters of their own or without layers in them, in the order of definition.
        parameters: number of elements, `total` and `trainable`.
        multiply_adds: of a forward pass of one sample, as torch's counter counts them: matrix products, convolutions
            and attention.
        weight_bytes: memory of parameters and buffers.
        output_bytes: memory of the outputs of all layers for one sample, about what training keeps for backward.
    """

    input: list[int]
    layers: list[Layer] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    multiply_adds: int = 0
    weight_bytes: int = 0
    output_bytes: int = 0


def write_summary(folder: Path, summary: ModelSummary) -> None:
    """Write summary.json.

    Raises:
        RunFailed: it could not be written.
    """
    write_atomically(folder / FILE, dump(summary, indent=None).encode())


def read_summary(folder: Path) -> ModelSummary | None:
    """Return the content of summary.json; None if there is no such file.

    Raises:
        UserError: it cannot be read or has unexpected content.
    """
    return read_json(folder / FILE, LARGEST_BYTES, ModelSummary) if exists(folder / FILE) else None


def totals(summary: ModelSummary, batch_size: int) -> list[tuple[str, str]]:
    """Return name and text of each total; `batch_size` is that of training."""
    count, megabytes = summary.parameters, 1e6
    return [
        ("input", "x".join(map(str, summary.input))),
        ("parameters", f"{count.get('total', 0):,}, {count.get('trainable', 0):,} trained"),
        ("multiply-adds", f"{summary.multiply_adds:,} for one sample"),
        ("weights", f"{summary.weight_bytes / megabytes:,.2f} MB"),
        ("outputs", f"{batch_size * summary.output_bytes / megabytes:,.2f} MB for a batch of {batch_size}"),
    ]


HEADER = ["layer", "type", "output", "parameters", "multiply-adds"]


def rows(summary: ModelSummary) -> list[list[str | int]]:
    """Return the cells of a table of the layers."""
    return [[x.name, x.type, "x".join(map(str, x.output or [])), x.parameters, x.multiply_adds] for x in summary.layers]
