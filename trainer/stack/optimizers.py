"""The optimizers of stacked runs: torch's own, over parts of the stack.

torch's element-wise optimizers treat each number alone. So runs with the same hyperparameters that stand next to each
other in the stack are stepped by one of them over their part, at the cost of one. Any other optimizer is each run's
own, over views of the stack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from trainer.training.state import RunState

ELEMENTWISE = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
    optim.Adagrad,
    optim.Adadelta,
    optim.Adamax,
    optim.Rprop,
)


Given = dict[str, Any]
COMMON = ("lr", "weight_decay", "maximize")


def hyperparameters(optimizer: Optimizer) -> tuple[Any, ...]:
    """Equal for optimizers that treat equal numbers equally."""
    if type(optimizer) not in ELEMENTWISE:
        return (id(optimizer),)
    return (type(optimizer), *([v for k, v in group.items() if k != "params"] for group in optimizer.param_groups))


def runs_of_equal(keys: Sequence[Any]) -> list[slice]:
    """Of neighbours that are equal."""
    ends = [0, *(i for i in range(1, len(keys)) if keys[i] != keys[i - 1]), len(keys)]
    return [slice(*pair) for pair in pairwise(ends)]


class StackedOptimizer:
    """Steps the optimizers of all runs, whose states stay theirs: views of what is stepped together.

    Args:
        parameters: [R, ...] by name, those of `states` being views of them.
    """

    def __init__(self, states: Sequence[RunState], parameters: dict[str, Tensor]) -> None:
        self.states, self.parameters = states, parameters
        names = {parameter: name for name, parameter in states[0].model.named_parameters()}
        self.parts: list[slice] = []
        self.optimizers: list[Optimizer] = []
        self.fused: list[FusedUpdate] = []
        self.names = [[names[p] for p in group["params"]] for group in states[0].optimizer.param_groups]
        self._join()

    def step(self) -> None:
        """One step of each along the gradients of the stacked parameters."""
        if self._rates() != self.rates:
            self._follow()
        if self.fused:
            self._step_fused()
            return
        for part, optimizer in zip(self.parts, self.optimizers, strict=True):
            for group, names in zip(optimizer.param_groups, self.names, strict=True):
                for parameter, name in zip(group["params"], names, strict=True):
                    gradient = self.parameters[name].grad
                    if gradient is not None:
                        parameter.grad = gradient[part.start] if _alone(part) else gradient[part]
            optimizer.step()
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        if not self.shared:
            self._share()

    def _step_fused(self) -> None:
        torch._foreach_add_([count for group in self.counts for count in group], 1)
        of_runs = [  # each gradient, and what it is for each run
            [(gradient, gradient.unbind()) for name in names if (gradient := self.parameters[name].grad) is not None]
            for names in self.names
        ]
        for part, fused in zip(self.parts, self.fused, strict=True):
            alone = _alone(part)
            fused.step([[runs[part.start] if alone else whole[part] for whole, runs in group] for group in of_runs])

    def _rates(self) -> list[Any]:
        return [group["lr"] for state in self.states for group in state.optimizer.param_groups]

    def _follow(self) -> None:
        """Takes over hyperparameters that a schedule has changed; the parts change where no longer equal ones do."""
        keys = [hyperparameters(state.optimizer) for state in self.states]
        if runs_of_equal(keys) != self.parts:
            self._join()
            return
        self.rates = self._rates()
        for part, optimizer in zip(self.parts, self.optimizers, strict=True):
            own = self.states[part.start].optimizer
            for group, source in zip(optimizer.param_groups, own.param_groups, strict=True):
                group.update({key: value for key, value in source.items() if key != "params"})
        for fused in self.fused:
            fused.follow()

    def _join(self) -> None:
        """An optimizer for each part, with what the runs' own have in their states."""
        self.rates = self._rates()
        self.parts = runs_of_equal([hyperparameters(state.optimizer) for state in self.states])
        self.optimizers = [self._joined(part) for part in self.parts]
        self.fused, self.shared = [], False
        if all(state.optimizer.state for state in self.states):
            self._share()

    def _share(self) -> None:
        """The runs' own states become views of the joined ones; from now on kernels are called where they can be."""
        self.shared = True
        for state in self.states:
            state.optimizer.__dict__["_opt_called"] = True  # not always by itself, but schedulers ask for it
        if all(FusedUpdate.fits(optimizer) for optimizer in self.optimizers):
            first = self.optimizers[0]
            steps = [
                [first.state[p].get("step", torch.zeros(())) for p in group["params"]] for group in first.param_groups
            ]
            self.counts = [[step.clone() for step in group] for group in steps]
            self.fused = [FusedUpdate(optimizer, self.counts) for optimizer in self.optimizers]
        for part, optimizer in zip(self.parts, self.optimizers, strict=True):
            if not _alone(part):
                self._share_part(part, optimizer)

    def _joined(self, part: slice) -> Optimizer:
        runs = [state.optimizer for state in self.states[part]]
        for run in runs:
            run._opt_called = True  # type: ignore[attr-defined]  # else their schedules warn that nothing was stepped
        if len(runs) == 1:
            return runs[0]
        groups: list[dict[str, Any]] = []
        held: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, names in enumerate(self.names):
            parameters = [self.parameters[name].detach()[part] for name in names]
            groups.append({**runs[0].param_groups[number], "params": parameters})
            for place, parameter in enumerate(parameters):
                states = [run.state.get(run.param_groups[number]["params"][place]) for run in runs]
                if states[0]:
                    held[parameter] = {key: _together([s[key] for s in states if s]) for key in states[0]}
        joined = type(runs[0]).__new__(type(runs[0]))
        joined.__setstate__({"defaults": runs[0].defaults, "state": held, "param_groups": groups})
        return joined

    def _share_part(self, part: slice, optimizer: Optimizer) -> None:
        for number, group in enumerate(optimizer.param_groups):
            for place, parameter in enumerate(group["params"]):
                state = optimizer.state[parameter]
                for run, member in enumerate(self.states[part]):
                    own = member.optimizer.param_groups[number]["params"][place]
                    member.optimizer.state[own] = {key: _of_one(value, run) for key, value in state.items()}


def _alone(part: slice) -> bool:
    return part.stop - part.start == 1


def _together(values: Sequence[Any]) -> Any:
    """One value for several runs: moments are stacked, counts of steps are the same for all."""
    first = values[0]
    if not isinstance(first, Tensor):
        return first
    return torch.stack(list(values)) if first.ndim else first.clone()


def _of_one(value: Any, run: int) -> Any:
    return value[run] if isinstance(value, Tensor) and value.ndim else value


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


class FusedUpdate:
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
