"""Statistics of every layer during training, by hooks: gradients, weights, updates, activations.

Shape letters: L layers, P trained parameters, U units.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from trainer.device import exact_dtype

RECTIFIERS = ("relu", "relu_", "relu6")  # functions whose slope is 0 wherever their output is 0
SQUASHERS = {"sigmoid": (0.5, 0.49), "tanh": (0.0, 0.98)}  # centre, and the distance from it where flatness begins
CHANNELS_FIRST = (_ConvNd, _NormBase, nn.GroupNorm)  # units lie along axis 1 of their outputs, otherwise along the last


class Watch:
    """Statistics of each layer since the last call of `rows`, summed on the device without synchronising.

    A layer is a module with parameters of its own, named by its path. An activation, module or function, belongs
    to the layer that was called last before it. Hooks draw no random numbers and change nothing that the model
    or the optimizer uses.

    Args:
        model: the model, on its device. Later copies of it have the hooks too.
        optimizer: updates the model.
        scaler: scales the loss; its factor is divided out of the gradients.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, scaler: GradScaler) -> None:
        self.scaler = scaler
        layers = {path: module for path, module in model.named_modules() if list(module.parameters(recurse=False))}
        self.names = [path or "(model)" for path in layers]
        self.weights = [list(module.parameters(recurse=False)) for module in layers.values()]
        owned = [(i, p) for i, weights in enumerate(self.weights) for p in weights if p.requires_grad]
        self.trained = [parameter for _, parameter in owned]
        self.has_trained = {i for i, _ in owned}
        device = self.trained[0].device
        self.exact = exact_dtype(device)
        self.layer_P = torch.tensor([i for i, _ in owned], device=device)
        self.norms_P = torch.zeros(len(owned), dtype=self.exact, device=device)
        self.unit_axes = [1 if isinstance(module, CHANNELS_FIRST) else -1 for module in layers.values()]
        self.called: dict[int, int] = {}  # each layer's position in the order of first calls
        self.latest: int | None = None  # the layer whose activation comes next
        self.before: list[Tensor] | None = None
        self._reset()

        activations = _Activations(self._activation)
        model.register_forward_pre_hook(partial(self._begin, activations), prepend=True)
        model.register_forward_hook(lambda *_: activations.leave(), always_call=True)
        for i, module in enumerate(layers.values()):
            module.register_forward_pre_hook(partial(self._call, i))
        for slot, parameter in enumerate(self.trained):
            parameter.register_post_accumulate_grad_hook(partial(self._gradient, slot))
        optimizer.register_step_pre_hook(self._before_step)
        optimizer.register_step_post_hook(self._after_step)

    def _reset(self) -> None:
        self.sum_L = self.norms_P.new_zeros(len(self.names))
        self.largest_L = self.sum_L.clone()
        self.steps = self.sum_L.new_zeros(())
        self.ratio_L: Tensor | None = None
        self.alive: dict[int, Tensor] = {}  # [U], whether a unit was ever above 0
        self.flat: dict[int, Tensor] = {}  # [], number of outputs in the flat ends of a sigmoid or tanh
        self.outputs: dict[int, int] = {}  # number of all outputs

    def _begin(self, activations: _Activations, model: nn.Module, inputs: Any) -> None:
        """Begin to watch a forward pass in training mode."""
        self.latest = None
        if model.training and torch.is_grad_enabled():
            activations.enter()

    def _call(self, layer: int, module: nn.Module, inputs: Any) -> None:
        self.latest = layer
        self.called.setdefault(layer, len(self.called))

    @torch.no_grad()
    def _activation(self, kind: str, outputs: Tensor) -> None:
        """Count the first activation after a layer; `outputs` is [B, U], [B, U, ...] or [B, ..., U]."""
        layer, self.latest = self.latest, None
        if layer is None or outputs.ndim < 2:
            return
        if kind in SQUASHERS:
            centre, distance = SQUASHERS[kind]
            count = ((outputs - centre).abs() > distance).sum(dtype=self.exact)
            self.flat[layer] = self.flat[layer] + count if layer in self.flat else count
            self.outputs[layer] = self.outputs.get(layer, 0) + outputs.numel()
            return
        unit_axis = self.unit_axes[layer] % outputs.ndim
        alive_U = outputs.amax([axis for axis in range(outputs.ndim) if axis != unit_axis]) > 0
        before_U = self.alive.get(layer, alive_U)
        if before_U.shape == alive_U.shape:  # a layer that is used with two sizes counts with the first
            self.alive[layer] = before_U | alive_U

    @torch.no_grad()
    def _gradient(self, slot: int, parameter: Tensor) -> None:
        """Store the gradient norm of a parameter; after several backward passes it is that of their sum."""
        assert parameter.grad is not None
        self.norms_P[slot].copy_(torch.linalg.vector_norm(parameter.grad, dtype=self.exact))

    @torch.no_grad()
    def _before_step(self, *_: Any) -> None:
        if self.ratio_L is None:
            self.before = [parameter.clone() for parameter in self.trained]

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        norms_L = self._by_layer(self.norms_P)
        self.norms_P.zero_()  # a parameter may get no gradient in the next step
        if self.scaler.is_enabled():
            norms_L = norms_L / self.scaler.scale(torch.ones_like(self.steps))
            finite = norms_L.isfinite().all()  # otherwise the scaler skipped this step
            norms_L, counted = norms_L.where(finite, 0), finite.to(self.exact)
        else:
            counted = torch.ones_like(self.steps)
        self.sum_L += norms_L
        self.largest_L = self.largest_L.maximum(norms_L)
        self.steps += counted
        if self.before is not None:
            updates = [new - old for new, old in zip(self.trained, self.before, strict=True)]
            self.ratio_L = self._size(updates) / self._size(self.before)
            self.before = None

    def _by_layer(self, norms_P: Tensor) -> Tensor:
        return torch.zeros_like(self.sum_L).index_add_(0, self.layer_P, norms_P.square()).sqrt()

    def _size(self, tensors: list[Tensor]) -> Tensor:
        """Return the L2 norm [L] of each layer over `tensors`, one for each trained parameter."""
        return self._by_layer(torch.stack([torch.linalg.vector_norm(t, dtype=self.exact) for t in tensors]))

    @torch.no_grad()
    def rows(self) -> list[dict[str, Any]]:
        """Return a row of statistics per layer, in the order of first calls, and reset all sums. Synchronises.

        The list is empty if no step was made. The columns:

            gradient_norm: L2 norm of the layer's whole gradient before clipping, mean over the steps; None if nothing
                in the layer is trained. largest_gradient_norm is the maximum.
            weight_norm: L2 norm of its parameters now.
            dead_share: Share of units whose ReLU was 0 for every sample; None if no ReLU follows. A unit of a
                convolution is a channel.
            saturated_share: Share of outputs of its sigmoid or tanh beyond 98 % of the way from the centre to a bound,
                where the slope is below 4 % of the steepest; None if none follows.
            update_ratio: Norm of the first step's update divided by the norm of the weights before it.
        """
        steps = self.steps.item()
        if not steps:
            return []
        means, largest = (self.sum_L / steps).tolist(), self.largest_L.tolist()
        ratios = self.ratio_L.tolist() if self.ratio_L is not None else [None] * len(self.names)
        rows = [
            {
                "layer": name,
                "gradient_norm": means[i] if i in self.has_trained else None,
                "weight_norm": torch.stack([torch.linalg.vector_norm(w, dtype=self.exact) for w in self.weights[i]])
                .norm()
                .item(),
                "dead_share": 1 - self.alive[i].to(self.exact).mean().item() if i in self.alive else None,
                "saturated_share": self.flat[i].item() / self.outputs[i] if i in self.flat else None,
                "update_ratio": ratios[i] if i in self.has_trained else None,
                "largest_gradient_norm": largest[i] if i in self.has_trained else None,
            }
            for i, name in enumerate(self.names)
        ]
        self._reset()
        return [rows[i] for i in self._order()]

    def _order(self) -> list[int]:
        """Return the layers in the order of first calls; a layer without calls follows the one registered before it."""
        order, position = [], -1
        for i in range(len(self.names)):
            position = self.called.get(i, position)
            order.append((position, i))
        return [i for _, i in sorted(order)]

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, so that a run resumed within an epoch continues them."""
        names = ("sum_L", "largest_L", "steps", "ratio_L", "alive", "flat", "outputs", "called")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load the sums that `state_dict` returned."""
        device = self.sum_L.device
        for name, value in saved.items():
            if isinstance(value, dict):
                value = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in value.items()}
            setattr(self, name, value.to(device) if isinstance(value, Tensor) else value)


class _Activations(TorchFunctionMode):
    """While entered, calls `report` with the kind and the outputs of each activation, module or function."""

    def __init__(self, report: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self.report, self.entered = report, False

    def enter(self) -> None:
        self.__enter__()
        self.entered = True

    def leave(self) -> None:
        if self.entered:
            self.entered = False
            self.__exit__(None, None, None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "hardtanh" and (kwargs or {}).get("min_val") == 0:  # nn.ReLU6
            name = "relu6"
        kind = "relu" if name in RECTIFIERS else name.rstrip("_")
        if (kind == "relu" or kind in SQUASHERS) and isinstance(outputs, Tensor):
            self.report(kind, outputs.detach())
        return outputs
