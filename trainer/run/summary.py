"""Summary of a model: layers with output shapes, parameters, multiply-adds and memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.components.assemble import Components
from trainer.components.model import ModelBuilder
from trainer.data.streams import seeded_streams
from trainer.records.summary import Layer, ModelSummary
from trainer.run.results import count_parameters

SAMPLES = 2  # of the trial batch: a single one is special for some layers


def summarise(components: Components) -> ModelSummary:
    """Return the summary of a run's model, from a forward pass of a copy; it computes with shapes alone if it can."""
    config, shape = components.config, components.data.prepare.output_shape
    published = components.preprocessing.published
    target = components.targets.model
    builder = ModelBuilder(target, config.model.output, shape, components.num_outputs, published)
    with seeded_streams(0):  # a user's model may draw while it is built; the streams are restored
        model = builder.try_on_meta().eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    outputs, counter = _forward(model, torch.zeros((SAMPLES, *shape), device=device))
    counts = counter.get_flop_counts()
    root = type(model).__name__
    layers = [
        Layer(
            path or root,
            type(module).__name__,
            list(outputs[path].shape[1:]) if path in outputs else None,
            sum(parameter.numel() for parameter in module.parameters(recurse=False)),
            sum(counts.get(f"{root}.{path}" if path else root, {}).values()) // (2 * SAMPLES),
        )
        for path, module in model.named_modules()
        if not list(module.children()) or list(module.parameters(recurse=False))
    ]
    size = components.loading.dtype.itemsize
    return ModelSummary(
        input=list(shape),
        layers=layers,
        parameters=count_parameters(components),
        multiply_adds=counter.get_total_flops() // (2 * SAMPLES),
        weight_bytes=sum(value.nbytes for value in components.state.model.state_dict().values()),
        output_bytes=sum(math.prod(x.output) * size for x in layers if x.output is not None),
    )


def _forward(model: nn.Module, inputs: Tensor) -> tuple[dict[str, Tensor], FlopCounterMode]:
    """Return the first output of each module that is called and returns a tensor, and the operations counted."""
    outputs: dict[str, Tensor] = {}
    counter = FlopCounterMode(display=False)

    def keep(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.setdefault(path, output)

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in model.named_modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would hide the products
    try:
        with torch.no_grad(), counter:
            model(inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for handle in handles:
            handle.remove()
    return outputs, counter
