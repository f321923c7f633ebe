"""`trainer export`: a trained model for other programs, written only once it has given the same answers as here."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer.data.images.pool import Progress
from trainer.data.prepare import Prepare
from trainer.data.tables.prepare import TablePrepare
from trainer.errors import RunFailed, UserError
from trainer.files import write_atomically
from trainer.inference.checkpoint import LoadedCheckpoint
from trainer.inference.evaluation import Evaluation

SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "state_dict": ".pt"}
SAMPLES = 256  # of the test part, that are compared
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # of the largest output, where that is above 1
EXTRA = "pip install 'trainer-cli[export]'"

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        samples: that were compared, of the test part; 0 where there was nothing to compute.
        difference: the largest one between outputs there and here; `scale` is the largest output.
    """

    path: Path
    size: int
    samples: int
    difference: float
    scale: float


class WithPreprocessing(nn.Module):
    """A model with its preprocessing before it: raw samples [B, ...] to outputs [B, C]."""

    def __init__(self, model: nn.Module, prepare: Prepare | TablePrepare, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.prepare, self.dtype = model, prepare, dtype

    def forward(self, samples: Tensor) -> Tensor:
        return self.model(self.prepare(samples, self.dtype))


class ModelOnly(nn.Module):
    """A model alone: prepared samples [B, ...] to outputs [B, C]; its argument has the same name in all models."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor) -> Tensor:
        return self.model(samples)


def export(
    opened: LoadedCheckpoint,
    form: str,
    out: Path | None = None,
    *,
    preprocess: bool = False,
    replace: bool = False,
    words: Sequence[str] = (),
    progress: Progress | None = None,
) -> ExportResult:
    """Writes a trained model in another form.

    Args:
        form: onnx, pt2 or state_dict.
        out: default: model.onnx, model.pt2 or model.pt beside the checkpoint.
        preprocess: raw samples go in, uint8 images or unscaled rows, instead of what preparation makes of them.
        replace: a file that is there may be replaced; it still stands where the export fails.
        words: key=value, where the test samples are now: data.root=DIR.
        progress: is told how far reading the data is; may raise to end it.

    Raises:
        UserError: a package or the data is not there, or the file is.
        RunFailed: the model cannot be exported, or does not agree; nothing was written.
    """
    if out is None:
        out = opened.folder / f"model{SUFFIXES[form]}"
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}.")
    if out.is_dir() or (out.exists() and not replace):
        raise UserError(f"{out}: it is there already. Choose another with --out FILE, or add --replace.")
    if preprocess and form == "state_dict":
        raise UserError("--preprocess: a state dict holds weights alone; use --format onnx or pt2.")
    if form == "onnx":
        _need_onnx()
    if form == "state_dict":
        data = _state_dict(opened.weights)
        write_atomically(out, data)
        return ExportResult(out, len(data), 0, 0.0, 0.0)
    dtype = torch.float64 if opened.config("precision").precision == "float64" else torch.float32
    model, prepare = opened.model(), opened.about.prepare
    raw = Evaluation(opened, words, progress).samples(SAMPLES)
    # A first call outside the tracing: what preparation keeps for later must be tensors of numbers.
    inputs = raw if preprocess else prepare(raw, dtype)
    whole = WithPreprocessing(model, prepare, dtype) if preprocess else ModelOnly(model)
    whole.eval()
    # What torch has to say of its own workings is left out; what matters is compared below.
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        expected = whole(inputs)
        try:
            data, run = (_onnx if form == "onnx" else _pt2)(whole, inputs, about(opened, preprocess))
            difference = _difference(run, inputs, expected)
        except (UserError, RunFailed):
            raise
        except Exception as error:  # exporters raise whatever they come upon
            reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
            advice = " Without --preprocess it may work." if preprocess else ""
            raise RunFailed(f"{opened.name}: cannot be exported as {form}: {reason[:300]}.{advice}") from error
    scale = expected.abs().max().item()
    if not difference <= TOLERANCE[dtype] * max(1.0, scale):
        raise RunFailed(
            f"{opened.name}: as {form} its outputs differ by {difference:.3g} from torch's, which go up to "
            f"{scale:.3g}: nothing was written to {out}."
        )
    write_atomically(out, data)
    return ExportResult(out, len(data), len(inputs), difference, scale)


def about(opened: LoadedCheckpoint, preprocess: bool) -> dict[str, Any]:
    """What another program has to know of a model, as it is written into the file."""
    found, task = opened.about, opened.about.task
    return {
        "task": task.name,
        "classes": list(task.classes),
        "output": task.output,
        "target_scale": list(task.scale) if task.scale else None,
        "preprocessed": preprocess,
        "prepare": found.prepare.to_dict(),
    }


def _need_onnx() -> None:
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise UserError(f"--format onnx: {error.name} is not installed: {EXTRA}") from error
    logging.getLogger(onnxscript.__name__).setLevel(logging.ERROR)
    assert onnx
    assert onnxruntime


def _onnx(model: nn.Module, inputs: Tensor, described: dict[str, Any]) -> tuple[bytes, Run]:
    import onnxruntime

    program = torch.onnx.export(
        model,
        (_two(inputs),),
        dynamo=True,
        dynamic_shapes={"samples": {0: torch.export.Dim("batch")}},
        input_names=["samples"],
        output_names=["outputs"],
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for name, value in described.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    data = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return data, lambda samples: torch.from_numpy(session.run(["outputs"], {"samples": samples.numpy()})[0])


def _pt2(model: nn.Module, inputs: Tensor, described: dict[str, Any]) -> tuple[bytes, Run]:
    program = torch.export.export(model, (_two(inputs),), dynamic_shapes={"samples": {0: torch.export.Dim("batch")}})
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"about.json": json.dumps(described, ensure_ascii=False)})
    data = buffer.getvalue()
    return data, torch.export.load(io.BytesIO(data)).module()


def _two(inputs: Tensor) -> Tensor:
    """Two samples: exporters take a size of one for a constant."""
    return inputs[:2] if len(inputs) > 1 else inputs.repeat(2, *[1] * (inputs.ndim - 1))


def _difference(run: Run, inputs: Tensor, expected: Tensor) -> float:
    """The largest difference of outputs, for all samples at once and for one alone."""
    found = []
    for some, right in ((inputs, expected), (inputs[:1], expected[:1])):
        outputs = run(some.contiguous())
        if outputs.shape != right.shape:
            shapes = f"{list(outputs.shape)} instead of {list(right.shape)}"
            raise RunFailed(f"the exported model's outputs are {shapes}: nothing was written.")
        found.append((outputs - right).abs().max().item())
    return max(found, key=lambda value: float("inf") if value != value else value)


def _state_dict(weights: dict[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    data = buffer.getvalue()
    again = torch.load(io.BytesIO(data), weights_only=True)
    if not all(torch.equal(again[name], value) for name, value in weights.items()):
        raise RunFailed("the state dict does not read as it was written: nothing was written.")
    return data
