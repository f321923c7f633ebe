"""`trainer export`: a trained model for other programs, written only if its outputs agree with torch's."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer import device
from trainer.data.images.pool import Progress
from trainer.data.prepare import Prepare
from trainer.data.tables.prepare import TablePrepare
from trainer.errors import Problem, RunFailed, UserError
from trainer.files import resolve, write_atomically
from trainer.inference.checkpoint import LoadedCheckpoint
from trainer.inference.evaluation import read_data
from trainer.inference.formats import Run, description, require_onnx, to_onnx, to_pt2, to_state_dict
from trainer.inference.model import build_model
from trainer.inference.settings import evaluation_settings

SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "state_dict": ".pt"}
SAMPLES = 256  # of the test split, for the comparison
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # relative to the largest output, if that is above 1


@dataclass(frozen=True)
class ExportRequest:
    """Options of an export.

    Attributes:
        format: onnx, pt2 or state_dict.
        out: the file; None for model.onnx, model.pt2 or model.pt beside the checkpoint.
        preprocess: whether the inputs are raw samples (uint8 images or unscaled rows) instead of prepared ones.
        replace: whether an existing file may be replaced; it is kept if the export fails.
        words: overrides `key=value`, which name the test data: data.root=DIR.
    """

    format: str
    out: Path | None = None
    preprocess: bool = False
    replace: bool = False
    words: Sequence[str] = ()


@dataclass(frozen=True)
class ExportResult:
    """The exported file and the comparison with torch.

    Attributes:
        size: size in bytes.
        samples: number of compared samples; 0 for a state dict, which computes nothing.
        split: the split that they are of.
        difference: the largest difference between outputs of the exported model and torch's.
        scale: the largest absolute output.
    """

    path: Path
    size: int
    samples: int = 0
    split: str = ""
    difference: float = 0.0
    scale: float = 0.0


class ExportedModel(nn.Module):
    """A model whose argument is always called `samples`: raw samples [B, ...], or prepared ones if `prepare` is None.

    Its outputs are [B, C].
    """

    def __init__(self, model: nn.Module, prepare: Prepare | TablePrepare | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.prepare, self.dtype = model, prepare, dtype

    def forward(self, samples: Tensor) -> Tensor:
        return self.model(samples if self.prepare is None else self.prepare(samples, self.dtype))


def export(checkpoint: LoadedCheckpoint, request: ExportRequest, progress: Progress | None = None) -> ExportResult:
    """Write a trained model in another format; `progress` is called while samples are read, and may raise to stop.

    Raises:
        UserError: a package or the data is missing, or the file exists.
        RunFailed: the model cannot be exported, or its outputs differ; nothing was written.
    """
    path = _output_path(checkpoint, request)
    if request.format == "state_dict":
        data = to_state_dict(checkpoint.weights)
        write_atomically(path, data)
        return ExportResult(path, len(data))
    dtype = device.dtype_of(checkpoint.config("precision").precision, torch.device("cpu"))
    model, prepare = build_model(checkpoint), checkpoint.metadata.prepare
    settings = evaluation_settings(checkpoint, request.words)
    device.set_up(settings.config.threads, settings.config.deterministic)
    split, raw = read_data(settings, progress).spread_samples(SAMPLES)
    # Preparation caches tensors at its first call, which must not happen while it is traced.
    prepared = prepare(raw, dtype)
    inputs = raw if request.preprocess else prepared
    module = ExportedModel(model, prepare if request.preprocess else None, dtype)
    data, difference, scale = _convert(module.eval(), inputs, checkpoint, request)
    if not difference <= TOLERANCE[dtype] * max(1.0, scale):
        raise RunFailed(
            f"{checkpoint.name}: as {request.format} its outputs differ by {difference:.3g} from torch's, which go up "
            f"to {scale:.3g}: nothing was written to {path}."
        )
    write_atomically(path, data)
    return ExportResult(path, len(data), len(inputs), split, difference, scale)


def _output_path(checkpoint: LoadedCheckpoint, request: ExportRequest) -> Path:
    """Return the path to write to."""
    path = request.out or checkpoint.folder / f"model{SUFFIXES[request.format]}"
    path = resolve(path.parent) / path.name
    if not os.path.isdir(path.parent):
        raise UserError(Problem(f"--out {path}", f"there is no folder {path.parent}"))
    if os.path.isdir(path) or (os.path.lexists(path) and not request.replace):
        advice = "Choose another with --out FILE, or add --replace."
        raise UserError(Problem(str(path), "it already exists", advice=advice))
    if request.preprocess and request.format == "state_dict":
        raise UserError(Problem("--preprocess", "a state dict holds weights alone; use --format onnx or pt2"))
    if request.format == "onnx":
        require_onnx()
    return path


def _convert(
    module: nn.Module, inputs: Tensor, checkpoint: LoadedCheckpoint, request: ExportRequest
) -> tuple[bytes, float, float]:
    """Convert a model, and return the file, the largest difference of its outputs, and the largest output."""
    convert = to_onnx if request.format == "onnx" else to_pt2
    about = description(checkpoint.metadata, preprocessed=request.preprocess)
    # Warnings about torch's internals are hidden; the outputs are compared below.
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        expected = module(inputs)
        try:
            data, run = convert(module, inputs, about)
            difference = _difference(run, inputs, expected)
        except (UserError, RunFailed):
            raise
        except Exception as error:  # exporters raise errors of any type
            reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
            advice = " It may work without --preprocess." if request.preprocess else ""
            raise RunFailed(
                f"{checkpoint.name}: cannot be exported as {request.format}: {reason[:300]}.{advice}"
            ) from error
    return data, difference, expected.abs().max().item()


def _difference(run: Run, inputs: Tensor, expected: Tensor) -> float:
    """Return the largest difference of outputs, for all samples at once and for a single one; NaN if any is NaN."""
    differences = []
    for count in (len(inputs), 1):
        outputs = run(inputs[:count].contiguous())
        if outputs.shape != expected[:count].shape:
            shapes = f"{list(outputs.shape)} instead of {list(expected[:count].shape)}"
            raise RunFailed(f"the exported model's outputs are {shapes}: nothing was written.")
        differences.append((outputs - expected[:count]).abs().max())
    return torch.stack(differences).max().item()  # in torch, the maximum of NaN and a number is NaN
