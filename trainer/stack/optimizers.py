"""The optimizers of stacked runs: torch's own, over slices of the stack.

torch's element-wise optimizers treat each number independently. So neighbouring runs with equal hyperparameters are
stepped by one optimizer over their slice, at the cost of one. Other optimizers stay each run's own, over views of the
stack.
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


Settings = dict[str, Any]
COMMON = ("lr", "weight_decay", "maximize")


def hyperparameters(optimizer: Optimizer) -> tuple[Any, ...]:
    """Return a key that is equal for optimizers that make equal updates; their learning rates are part of it."""
    if type(optimizer) not in ELEMENTWISE:
        return (id(optimizer),)
    return (type(optimizer), *([v for k, v in group.items() if k != "params"] for group in optimizer.param_groups))


def runs_of_equal(keys: Sequence[Any]) -> list[slice]:
    """Return the slices of neighbours with equal keys."""
    ends = [0, *(i for i in range(1, len(keys)) if keys[i] != keys[i - 1]), len(keys)]
    return [slice(*pair) for pair in pairwise(ends)]


class StackedOptimizer:
    """Steps the optimizers of all runs, whose own states become views of the joint ones.

    `parameters` are the stacked parameters [R, ...] by name; those of the runs are views of them.
    """

    def __init__(self, states: Sequence[RunState], parameters: dict[str, Tensor]) -> None:
        self.states, self.parameters = states, parameters
        names = {parameter: name for name, parameter in states[0].model.named_parameters()}
        self.slices: list[slice] = []
        self.optimizers: list[Optimizer] = []
        self.fused: list[FusedUpdate] = []
        self.names = [[names[p] for p in group["params"]] for group in states[0].optimizer.param_groups]
        self._join()

    def step(self) -> None:
        """Step all runs with the gradients of the stacked parameters."""
        if self._rates() != self.rates:
            self._follow()
        if self.fused:
            self._step_fused()
            return
        for span, optimizer in zip(self.slices, self.optimizers, strict=True):
            for group, names in zip(optimizer.param_groups, self.names, strict=True):
                for parameter, name in zip(group["params"], names, strict=True):
                    gradient = self.parameters[name].grad
                    if gradient is not None:
                        parameter.grad = gradient[span.start] if _alone(span) else gradient[span]
            optimizer.step()
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
        if not self.shared:
            self._share()

    def _step_fused(self) -> None:
        torch._foreach_add_([count for group in self.counts for count in group], 1)
        gradients = [  # each gradient [R, ...], and its rows
            [(gradient, gradient.unbind()) for name in names if (gradient := self.parameters[name].grad) is not None]
            for names in self.names
        ]
        for span, fused in zip(self.slices, self.fused, strict=True):
            alone = _alone(span)
            fused.step([[rows[span.start] if alone else whole[span] for whole, rows in group] for group in gradients])

    def _rates(self) -> list[Any]:
        return [group["lr"] for state in self.states for group in state.optimizer.param_groups]

    def _follow(self) -> None:
        """Copy the learning rates that a schedule has changed; form new slices if other runs are equal now."""
        keys = [hyperparameters(state.optimizer) for state in self.states]
        if runs_of_equal(keys) != self.slices:
            self._join()
            return
        self.rates = self._rates()
        for span, optimizer in zip(self.slices, self.optimizers, strict=True):
            own = self.states[span.start].optimizer
            for group, source in zip(optimizer.param_groups, own.param_groups, strict=True):
                group.update({key: value for key, value in source.items() if key != "params"})
        for fused in self.fused:
            fused.follow()

    def _join(self) -> None:
        """Create an optimizer for each slice, with the states of the runs' own optimizers."""
        self.rates = self._rates()
        self.slices = runs_of_equal([hyperparameters(state.optimizer) for state in self.states])
        self.optimizers = [self._joined(span) for span in self.slices]
        self.fused, self.shared = [], False
        if all(state.optimizer.state for state in self.states):
            self._share()

    def _share(self) -> None:
        """Make the runs' own states views of the joint ones; from now on fused kernels are called where possible."""
        self.shared = True
        for state in self.states:
            state.optimizer.__dict__["_opt_called"] = True  # schedulers check it, and not every path below sets it
        if all(FusedUpdate.fits(optimizer) for optimizer in self.optimizers):
            first = self.optimizers[0]
            steps = [
                [first.state[p].get("step", torch.zeros(())) for p in group["params"]] for group in first.param_groups
            ]
            self.counts = [[step.clone() for step in group] for group in steps]
            self.fused = [FusedUpdate(optimizer, self.counts) for optimizer in self.optimizers]
        for span, optimizer in zip(self.slices, self.optimizers, strict=True):
            if not _alone(span):
                self._share_slice(span, optimizer)

    def _joined(self, span: slice) -> Optimizer:
        runs = [state.optimizer for state in self.states[span]]
        for run in runs:
            run._opt_called = True  # type: ignore[attr-defined]  # otherwise schedulers warn that nothing was stepped
        if len(runs) == 1:
            return runs[0]
        groups: list[dict[str, Any]] = []
        joint: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, names in enumerate(self.names):
            parameters = [self.parameters[name].detach()[span] for name in names]
            groups.append({**runs[0].param_groups[number], "params": parameters})
            for index, parameter in enumerate(parameters):
                states = [run.state.get(run.param_groups[number]["params"][index]) for run in runs]
                if states[0]:
                    joint[parameter] = {key: _together([s[key] for s in states if s]) for key in states[0]}
        # The constructor accepts neither states nor a scheduler's keys in groups. This does, in 4 us instead of 11.
        joined = type(runs[0]).__new__(type(runs[0]))
        joined.__setstate__({"defaults": runs[0].defaults, "state": joint, "param_groups": groups})
        return joined

    def _share_slice(self, span: slice, optimizer: Optimizer) -> None:
        for number, group in enumerate(optimizer.param_groups):
            for index, parameter in enumerate(group["params"]):
                state = optimizer.state[parameter]
                for run, member in enumerate(self.states[span]):
                    own = member.optimizer.param_groups[number]["params"][index]
                    member.optimizer.state[own] = {key: _of_one(value, run) for key, value in state.items()}


def _alone(span: slice) -> bool:
    return span.stop - span.start == 1


def _together(values: Sequence[Any]) -> Any:
    """Return one value for several runs: averages are stacked, step counts are the same for all."""
    first = values[0]
    if not isinstance(first, Tensor):
        return first
    return torch.stack(list(values)) if first.ndim else first.clone()


def _of_one(value: Any, run: int) -> Any:
    return value[run] if isinstance(value, Tensor) and value.ndim else value


def _adam(group: Settings) -> Settings:
    beta1, beta2 = group["betas"]
    return {"beta1": beta1, "beta2": beta2, **{name: group[name] for name in ("eps", "amsgrad")}}


# For each optimizer: its kernel, its state of each parameter in the order of the kernel, and its own settings.
KERNELS: dict[type[Optimizer], tuple[Callable[..., None], tuple[str, ...], Callable[[Settings], Settings]]] = {
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
    """The steps of an optimizer after its first one, by a fused kernel of torch without the optimizer's own overhead.

    Args:
        optimizer: an optimizer that `fits`.
        counts: the step count of each parameter of each group, which replaces the optimizer's own. The caller of
            `step` increments it before.
    """

    def __init__(self, optimizer: Optimizer, counts: Sequence[Sequence[Tensor]]) -> None:
        self.optimizer = optimizer
        self.kernel, names, self.settings = KERNELS[type(optimizer)]
        self.lists: list[list[list[Tensor]]] = []
        for group, group_counts in zip(optimizer.param_groups, counts, strict=True):
            states = [optimizer.state[parameter] for parameter in group["params"]]
            for state, count in zip(states, group_counts, strict=True):
                if "step" in state:
                    state["step"] = count
            buffers = [[state[name] for state in states if isinstance(state.get(name), Tensor)] for name in names]
            self.lists.append(buffers)
        self.follow()

    @staticmethod
    def fits(optimizer: Optimizer) -> bool:
        """Return whether a kernel computes the next step of this optimizer."""
        if type(optimizer) not in KERNELS:
            return False
        return all(
            group["fused"]
            and not isinstance(group["lr"], Tensor)
            and all(p in optimizer.state for p in group["params"])
            for group in optimizer.param_groups
        )

    def follow(self) -> None:
        """Read the hyperparameters again."""
        self.arguments = [
            {**{name: group[name] for name in COMMON}, **self.settings(group)} for group in self.optimizer.param_groups
        ]

    def step(self, gradients: Sequence[list[Tensor]]) -> None:
        """Make one step with the gradients of each parameter group."""
        groups = zip(self.optimizer.param_groups, gradients, self.lists, self.arguments, strict=True)
        for group, group_gradients, lists, arguments in groups:
            self.kernel(group["params"], group_gradients, *lists, **arguments)
