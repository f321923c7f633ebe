"""Several runs as one: their tensors stacked, one forward and one backward pass for all.

Each run keeps its own state: its model's parameters and buffers are views of the stack, and so is what its optimizer
holds. So saving, judging and scheduling are the code of a single run.

Shape letters: R runs, B samples, C outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from trainer.components.loss import Criterion
from trainer.data.tasks import Classification
from trainer.stack.layers import stackable
from trainer.stack.optimizers import StackedOptimizer, runs_of_equal
from trainer.training.forward import HALF_PRECISION, autocast
from trainer.training.population import SingleRun, weight_of
from trainer.training.state import RunState
from trainer.training.sums import RunningSums


class StackedRuns:
    """A population of several runs whose tensors have the same shapes.

    Args:
        members: each run on its own, at the same step as the others.
        rows: for each run, which of the samples of a batch [D, B, ...] are its own; None where all share them.

    Raises:
        ValueError: models with auxiliary heads, or with BatchNorm in half precision.
    """

    def __init__(self, members: Sequence[SingleRun], rows: Sequence[int] | None = None) -> None:
        self.members = list(members)
        first = members[0]
        if hasattr(first.state.model, "auxiliary_weight"):
            raise ValueError("auxiliary heads give several outputs")
        norms = [m for m in first.state.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms and first.precision in HALF_PRECISION:
            raise ValueError(f"vmap has no BatchNorm in {first.precision}")
        self.device, self.precision = first.device, first.precision
        self.rows = list(rows) if rows is not None else None
        self.batch_axis = 0 if rows is None else 1
        self.structure = copy.deepcopy(first.state.model).requires_grad_(False)
        self.layers = stackable(self.structure)
        self.averaged = False
        self._stack()

    def _stack(self) -> None:
        """Stacks what the runs hold, which becomes views of the stack."""
        self.states = [member.state for member in self.members]
        models = [state.model for state in self.states]
        self.parameters = _stacked([dict(model.named_parameters()) for model in models])
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(models[0].get_parameter(name).requires_grad)
        self.buffers = _stacked([dict(model.named_buffers()) for model in models])
        averages = [state.average.module for state in self.states if state.average is not None]
        self.average = _stacked([{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in averages])
        self.optimizer = StackedOptimizer(self.states, self.parameters)
        self.sums = RunningSums.joined([state.sums for state in self.states])
        dropouts = [{dropout.layer: dropout for dropout in member.dropouts} for member in self.members]
        for layer in self.layers:
            layer.runs = [run[layer.layer] for run in dropouts]
        self.norms_R = self._limits([state.config.clip_norm for state in self.states])
        self.values_R = self._limits([state.config.clip_value for state in self.states])
        criteria = [cast(Criterion, member.criterion) for member in self.members]
        self.judges = [(part, criteria[part.start]) for part in runs_of_equal([_key(c) for c in criteria])]
        self.marker_R = torch.empty(len(self.members), device=self.device)
        if self.rows is not None:
            self.index_R = torch.tensor(self.rows, device=self.device)

    def train(self) -> None:
        self.averaged = False
        self.structure.train()

    def eval(self) -> None:
        self.averaged = bool(self.average)
        self.structure.eval()

    def unfreeze(self) -> None:
        raise AssertionError("runs with frozen parts are not stacked")

    def samples(self, targets: Tensor) -> int:
        return targets.shape[self.batch_axis]

    def weight(self, targets: Tensor) -> Tensor | int:
        shared = self.rows is None
        if all(criterion.class_weights is None for _, criterion in self.judges):
            return self.samples(targets)
        targets = self.select_per_run(targets)
        found = [
            weight_of(criterion, targets if shared else targets[run])
            for part, criterion in self.judges
            for run in range(part.start, part.stop)
        ]
        return torch.stack([torch.as_tensor(weight, device=self.device).to(self.sums.weight_R) for weight in found])

    def select_per_run(self, batch: Tensor) -> Tensor:
        return batch if self.rows is None else batch.index_select(0, self.index_R)

    def forward(self, inputs: Tensor, targets: Tensor, micro: int = 0) -> tuple[Tensor, Tensor]:
        position = (self.states[0].step, micro)
        for member in self.members:
            for dropout in member.dropouts:
                dropout.position = position
        outputs_RBC = self._call(inputs)
        return outputs_RBC, self._losses(outputs_RBC, targets)

    def objective(self, loss: Tensor) -> Tensor:
        """The sum: the gradient of each run's loss is its own."""
        return loss.sum()

    def outputs(self, inputs: Tensor) -> Tensor:
        return self._call(inputs)

    def losses(self, outputs: Tensor, targets: Tensor) -> list[float]:
        with torch.no_grad():
            return self._losses(outputs, targets).tolist()

    def figures(self, outputs: Tensor, targets: Tensor) -> list[dict[str, float | None]]:
        targets, task = self.select_per_run(targets), self.sums.task
        if isinstance(task, Classification) and not task.extra:  # for all at once; the others are costlier anyway
            return [{"accuracy": n / outputs.shape[-2]} for n in task.correct(outputs, targets).tolist()]
        shared = self.rows is None
        return [
            state.sums.task.figures(outputs[run], targets if shared else targets[run])
            for run, state in enumerate(self.states)
        ]

    def update(self) -> None:
        if not self.states:
            return
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if self.values_R is not None:
            for gradient in gradients:
                limits = _beside(self.values_R, gradient)
                gradient.clamp_(-limits, limits)
        if self.norms_R is not None:
            norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
            shares_R = (self.norms_R / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(_beside(shares_R, gradient))
        self.optimizer.step()
        for parameter in self.parameters.values():
            parameter.grad = None

    def remove(self, leaving: Collection[RunState]) -> None:
        """The stack is compacted; gradients go with it."""
        kept = [run for run, state in enumerate(self.states) if state not in leaving]
        if len(kept) == len(self.states):
            return
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        for member in self.members:
            if member.state in leaving:
                detach(member.state)
        self.members = [self.members[run] for run in kept]
        self.rows = None if self.rows is None else [self.rows[run] for run in kept]
        if not kept:
            self.states = []
            return
        self._stack()
        for name, gradient in gradients.items():
            self.parameters[name].grad = gradient[kept]

    def _limits(self, values: Sequence[float | None]) -> Tensor | None:
        """[R], infinite where there is none; None where there is none at all."""
        if not any(value is not None for value in values):
            return None
        numbers = [torch.inf if value is None else value for value in values]
        return torch.tensor(numbers, dtype=next(iter(self.parameters.values())).dtype, device=self.device)

    def _losses(self, outputs_RBC: Tensor, targets: Tensor) -> Tensor:
        """[R]; runs with the same loss are judged together."""
        targets, shared = self.select_per_run(targets), self.rows is None
        found = [
            vmap(criterion, in_dims=(0, None if shared else 0))(outputs_RBC[part], targets if shared else targets[part])
            for part, criterion in self.judges
        ]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _call(self, inputs: Tensor) -> Tensor:
        """Outputs [R, B, C] in full precision."""
        tensors = self.average if self.averaged else {**self.parameters, **self.buffers}
        with autocast(self.device, self.precision):
            call = vmap(self._one, in_dims=(0, None if self.rows is None else 0, 0), randomness="error")
            outputs = call(tensors, self.select_per_run(inputs), self.marker_R)
        return outputs.float() if self.precision in HALF_PRECISION else outputs

    def _one(self, tensors: dict[str, Tensor], inputs: Tensor, marker: Tensor) -> Tensor:
        for layer in self.layers:
            layer.marker = marker
        return functional_call(self.structure, tensors, (inputs,))


def _stacked(runs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """[R, ...] for each name; the runs' own tensors become views of it."""
    found = {}
    for name in runs[0] if runs else ():
        whole = torch.stack([run[name].detach() for run in runs])
        for part, run in zip(whole, runs, strict=True):
            run[name].data = part
        found[name] = whole
    return found


def detach(state: RunState) -> None:
    """Gives a run tensors of its own in place of views; mutates it."""
    modules: Iterable[nn.Module] = [state.model, *([state.average] if state.average is not None else [])]
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone()
            tensor.grad = None
    for held in state.optimizer.state.values():
        held.update({key: value.clone() for key, value in held.items() if isinstance(value, Tensor)})
    for name in RunningSums.NAMES:
        setattr(state.sums, name, getattr(state.sums, name).clone())


def _beside(values_R: Tensor, other: Tensor) -> Tensor:
    """[R, 1, ...], to go with [R, ...]."""
    return values_R.view(-1, *[1] * (other.ndim - 1))


def _key(criterion: Criterion) -> tuple[Any, ...]:
    """Equal for losses that give the same number."""
    loss = criterion.loss
    plain = {name: value for name, value in vars(loss).items() if isinstance(value, (int, float, str, bool))}
    held = {name: value.tolist() for name, value in loss.state_dict().items()}
    return (type(loss), plain, held, criterion.single, criterion.to_log, criterion.mean, criterion.std)
