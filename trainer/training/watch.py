"""Looks at every layer while it trains: gradients, weights, updates, activations. By hooks, and changing nothing.

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

RECTIFIERS = ("relu", "relu_", "relu6")  # their slope is 0 wherever the output is
SQUASHERS = {"sigmoid": (0.5, 0.49), "tanh": (0.0, 0.98)}  # centre, and the distance from it where flatness begins
CHANNELS_FIRST = (_ConvNd, _NormBase, nn.GroupNorm)  # units lie along axis 1 of what they give, else along the last


class Watch:
    """Figures of each layer since they were last asked for, summed on the device: no step waits for them.

    A layer is a module with parameters of its own, named by its path. An activation, be it a module or a function,
    belongs to the layer that was called last before it. Every hook looks and computes; none draws random numbers or
    writes to what the model or the optimizer uses.

    Args:
        model: on its device; make the copies that are not to be watched first, for a copy takes the hooks along.
        scaler: of the loss; gradients are counted as if it were not there.
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
        self.called: dict[int, int] = {}  # layer -> its place in the order of the first calls
        self.latest: int | None = None  # the layer whose activation is still to come
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
        self.alive: dict[int, Tensor] = {}  # [U], whether a unit ever gave more than 0
        self.flat: dict[int, Tensor] = {}  # [], outputs in the flat parts of a sigmoid or tanh
        self.outputs: dict[int, int] = {}  # of how many

    def _begin(self, activations: _Activations, model: nn.Module, inputs: Any) -> None:
        """A forward pass; only those that train are watched."""
        self.latest = None
        if model.training and torch.is_grad_enabled():
            activations.enter()

    def _call(self, layer: int, module: nn.Module, inputs: Any) -> None:
        self.latest = layer
        self.called.setdefault(layer, len(self.called))

    @torch.no_grad()
    def _activation(self, kind: str, outputs: Tensor) -> None:
        """The first activation after a layer; `outputs` is [B, U], [B, U, ...] or [B, ..., U]."""
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
        known_U = self.alive.get(layer, alive_U)
        if known_U.shape == alive_U.shape:  # of a layer that is used at two sizes, the first counts
            self.alive[layer] = known_U | alive_U

    @torch.no_grad()
    def _gradient(self, slot: int, parameter: Tensor) -> None:
        """Of a parameter, so far in this step: of several backward passes the last leaves the whole."""
        assert parameter.grad is not None
        self.norms_P[slot].copy_(torch.linalg.vector_norm(parameter.grad, dtype=self.exact))

    @torch.no_grad()
    def _before_step(self, *_: Any) -> None:
        if self.ratio_L is None:
            self.before = [parameter.clone() for parameter in self.trained]

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        norms_L = self._by_layer(self.norms_P)
        self.norms_P.zero_()  # a parameter may have no part in the next step
        if self.scaler.is_enabled():
            norms_L = norms_L / self.scaler.scale(torch.ones_like(self.steps))
            finite = norms_L.isfinite().all()  # else the scaler left this step out
            norms_L, done = norms_L.where(finite, 0), finite.to(self.exact)
        else:
            done = torch.ones_like(self.steps)
        self.sum_L += norms_L
        self.largest_L = self.largest_L.maximum(norms_L)
        self.steps += done
        if self.before is not None:
            moved = [new - old for new, old in zip(self.trained, self.before, strict=True)]
            self.ratio_L = self._size(moved) / self._size(self.before)
            self.before = None

    def _by_layer(self, norms_P: Tensor) -> Tensor:
        return torch.zeros_like(self.sum_L).index_add_(0, self.layer_P, norms_P.square()).sqrt()

    def _size(self, tensors: list[Tensor]) -> Tensor:
        """L2 norms [L] of values, one tensor for each trained parameter."""
        return self._by_layer(torch.stack([torch.linalg.vector_norm(t, dtype=self.exact) for t in tensors]))

    @torch.no_grad()
    def rows(self) -> list[dict[str, Any]]:
        """A row of figures per layer, in the order of the first calls; then all sums begin anew.

        Empty where no step was made. Waits for the device. The figures:

            gradient_norm: L2 norm of the layer's whole gradient before clipping, the mean over the steps; None where
                nothing in the layer is trained. The steps' largest is largest_gradient_norm.
            weight_norm: L2 norm of its parameters now.
            dead_share: units whose ReLU gave 0 for every sample; None where no ReLU follows. A unit of a convolution
                is a channel.
            saturated_share: outputs of its sigmoid or tanh past 98 % of the way from the middle to a bound, where the
                slope is under 4 % of the steepest; None where none follows.
            update_ratio: size of the first step's update by the size of what it moved.
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
        """Layers as they are called; one that never is, such as a part of an attention, after the one listed before."""
        places, place = [], -1
        for i in range(len(self.names)):
            place = self.called.get(i, place)
            places.append((place, i))
        return [i for _, i in sorted(places)]

    def state_dict(self) -> dict[str, Any]:
        """The sums, so that a run resumed in the middle of an epoch goes on with them."""
        names = ("sum_L", "largest_L", "steps", "ratio_L", "alive", "flat", "outputs", "called")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        device = self.sum_L.device
        for name, value in saved.items():
            if isinstance(value, dict):
                value = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in value.items()}
            setattr(self, name, value.to(device) if isinstance(value, Tensor) else value)


class _Activations(TorchFunctionMode):
    """While entered, tells of each call of an activation, a function's as well as a module's: (kind, outputs)."""

    def __init__(self, tell: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self.tell, self.entered = tell, False

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
            self.tell(kind, outputs.detach())
        return outputs
