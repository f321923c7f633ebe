"""torch's fused kernels, called directly.

What `torch.optim` does around a kernel costs several times the kernel where a model is small, and a stack would pay
it for each run. Its own first step makes the states; a test holds every further one to what its `step` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

Given = dict[str, Any]


def _adam(group: Given) -> Given:
    beta1, beta2 = group["betas"]
    return {"beta1": beta1, "beta2": beta2, **{name: group[name] for name in ("eps", "amsgrad")}}


# For each optimizer: its kernel, what it keeps for each parameter in the kernel's order, its own settings.
KERNELS: dict[type[Optimizer], tuple[Callable[..., None], tuple[str, ...], Callable[[Given], Given]]] = {
    optim.Adam: (torch._fused_adam_, ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"), _adam),
    optim.AdamW: (torch._fused_adamw_, ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"), _adam),
    optim.Adagrad: (torch._fused_adagrad_, ("sum", "step"), lambda g: {name: g[name] for name in ("eps", "lr_decay")}),
    optim.SGD: (
        torch._fused_sgd_,
        ("momentum_buffer",),
        lambda g: {"is_first_step": False, **{name: g[name] for name in ("momentum", "dampening", "nesterov")}},
    ),
}
COMMON = ("lr", "weight_decay", "maximize")


class Fused:
    """An optimizer's further steps.

    Args:
        optimizer: one that `fits`.
        counts: of steps for each parameter of each group, which take the place of the optimizer's own; whoever calls
            `step` has raised them by one.
    """

    def __init__(self, optimizer: Optimizer, counts: Sequence[Sequence[Tensor]]) -> None:
        self.optimizer = optimizer
        self.kernel, kept, self.settings = KERNELS[type(optimizer)]
        self.lists: list[list[list[Tensor]]] = []
        for group, of_group in zip(optimizer.param_groups, counts, strict=True):
            states = [optimizer.state[parameter] for parameter in group["params"]]
            for state, count in zip(states, of_group, strict=True):
                if "step" in state:
                    state["step"] = count
            held = [[state[name] for state in states if isinstance(state.get(name), Tensor)] for name in kept]
            self.lists.append(held)
        self.follow()

    @staticmethod
    def fits(optimizer: Optimizer) -> bool:
        """Whether a kernel does what this optimizer's next step does."""
        if type(optimizer) not in KERNELS:
            return False
        return all(
            group["fused"]
            and not isinstance(group["lr"], Tensor)
            and all(p in optimizer.state for p in group["params"])
            for group in optimizer.param_groups
        )

    def follow(self) -> None:
        """Reads the hyperparameters anew."""
        self.given = [
            {**{name: group[name] for name in COMMON}, **self.settings(group)} for group in self.optimizer.param_groups
        ]

    def step(self, gradients: Sequence[list[Tensor]]) -> None:
        """One step along the gradients of each group."""
        groups = zip(self.optimizer.param_groups, gradients, self.lists, self.given, strict=True)
        for group, of_group, lists, given in groups:
            self.kernel(group["params"], of_group, *lists, **given)
