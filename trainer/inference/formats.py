"""File formats of `trainer export`: ONNX, torch.export's pt2, and state dicts."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.components.metadata import CheckpointMetadata
from trainer.errors import Problem, RunFailed, UserError

EXTRA = "pip install 'trainer-cli[export]'"

Run = Callable[[Tensor], Tensor]


DESCRIPTION = ("task", "classes", "output", "target_scale", "prepare")


def description(metadata: CheckpointMetadata, *, preprocessed: bool) -> dict[str, object]:
    """Return what the exported file says about the model; `preprocessed`: it includes the preprocessing."""
    stored = metadata.to_dict()
    return {"preprocessed": preprocessed, **{name: stored[name] for name in DESCRIPTION}}


def require_onnx() -> None:
    """Check that the packages of the extra `export` are installed.

    Raises:
        UserError: a package is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript
    except ImportError as error:
        reason = f"{error.name} is not installed"
        raise UserError(Problem("--format onnx", reason, command=EXTRA)) from error
    logging.getLogger(onnxscript.__name__).setLevel(logging.ERROR)


def to_onnx(model: nn.Module, inputs: Tensor, about: dict[str, object]) -> tuple[bytes, Run]:
    """Return an ONNX file, and a function that runs it."""
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
    for name, value in about.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    data = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return data, lambda samples: torch.from_numpy(session.run(["outputs"], {"samples": samples.numpy()})[0])


def to_pt2(model: nn.Module, inputs: Tensor, about: dict[str, object]) -> tuple[bytes, Run]:
    """Return a pt2 file, and a function that runs it."""
    program = torch.export.export(model, (_two(inputs),), dynamic_shapes={"samples": {0: torch.export.Dim("batch")}})
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"about.json": json.dumps(about, ensure_ascii=False)})
    data = buffer.getvalue()
    return data, torch.export.load(io.BytesIO(data)).module()


def _two(inputs: Tensor) -> Tensor:
    """Return two samples: exporters treat a batch size of one as a constant."""
    return inputs[:2] if len(inputs) > 1 else inputs.repeat(2, *[1] * (inputs.ndim - 1))


def to_state_dict(weights: dict[str, Tensor]) -> bytes:
    """Return the bytes of a file of weights that plain `torch.load` reads.

    Raises:
        RunFailed: the file does not load as it was saved.
    """
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    data = buffer.getvalue()
    again = torch.load(io.BytesIO(data), weights_only=True)
    if not all(torch.equal(again[name], value) for name, value in weights.items()):
        raise RunFailed("the state dict does not load as it was saved: nothing was written.")
    return data
