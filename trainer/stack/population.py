"""Several runs trained as one: their tensors stacked, one forward and one backward pass for all.

Each run keeps its own state. Its model's parameters and buffers are views of the stack, and so is its optimizer's
state, so that saving, early stopping and scheduling work as for a single run.

Shape letters: R runs, B samples, C outputs, D data sets.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from trainer.components.loss import Criterion
from trainer.data.batches import Batch
from trainer.data.tasks import Classification
from trainer.stack.layers import stackable
from trainer.stack.optimizers import StackedOptimizer, runs_of_equal
from trainer.training.forward import HALF_PRECISION, autocast
from trainer.training.population import SingleRun
from trainer.training.state import RunState
from trainer.training.sums import RunningSums


class StackedRuns:
    """A population of several runs whose tensors have the same shapes. See Population for the methods.

    Args:
        members: the single runs, all at the same step.
        rows: for each run, its row in batches [D, B, ...]; None if all runs share their samples [B, ...].

    Raises:
        ValueError: the models have auxiliary heads, or BatchNorm in half precision.
    """

    def __init__(self, members: Sequence[SingleRun], rows: Sequence[int] | None = None) -> None:
        self.members = list(members)
        first = members[0]
        if hasattr(first.state.model, "auxiliary_weight"):
            raise ValueError("auxiliary heads give several outputs")
        norms = [m for m in first.state.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms and first.precision in HALF_PRECISION:
            raise ValueError(f"vmap does not support BatchNorm in {first.precision}")
        self.device, self.precision = first.device, first.precision
        self.rows = list(rows) if rows is not None else None
        self.batch_axis = 0 if rows is None else 1
        self.structure = copy.deepcopy(first.state.model).requires_grad_(False)
        self.layers = stackable(self.structure)
        self.averaged = False
        self._stack()

    def _stack(self) -> None:
        """Stack the tensors of all runs; the runs' own tensors become views of the stack."""
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
        self.criteria = [(runs, criteria[runs.start]) for runs in runs_of_equal([_key(c) for c in criteria])]
        self.marker_R = torch.empty(len(self.members), device=self.device)
        if self.rows is not None:
            self.index_R = torch.tensor(self.rows, device=self.device)

    def train(self) -> None:
        self.averaged = False
        self.structure.train()

    def eval(self) -> None:
        self.averaged = bool(self.average)
        self.structure.eval()

    def weight(self, targets: Tensor) -> Tensor | int:
        """Return the denominator of a batch's mean loss, [R] if any loss has class weights."""
        if all(criterion.weights is None for _, criterion in self.criteria):
            return targets.shape[self.batch_axis]
        shared, targets = self.rows is None, self.select_per_run(targets)
        weights = [
            criterion.denominator(targets if shared else targets[run])
            for runs, criterion in self.criteria
            for run in range(runs.start, runs.stop)
        ]
        return torch.stack([torch.as_tensor(weight, device=self.device).to(self.sums.weight_R) for weight in weights])

    def select_per_run(self, batch: Tensor) -> Tensor:
        """Return each run's samples [R, B, ...] of a batch [D, B, ...]; unchanged if all runs share it."""
        return batch if self.rows is None else batch.index_select(0, self.index_R)

    def objective(self, batch: Batch, weight: Tensor | int, share: Tensor | float | None, micro: int) -> Tensor:
        """Return the sum of the runs' losses of a batch, and add the batch to `sums`."""
        inputs, targets = batch
        position = (self.states[0].step, micro)
        for member in self.members:
            for dropout in member.dropouts:
                dropout.position = position
        outputs_RBC = self._call(inputs)
        loss_R = self._losses(outputs_RBC, targets)
        self.sums.add(loss_R.detach(), outputs_RBC.detach(), self.select_per_run(targets), weight)
        # The gradient of the sum with respect to the tensors of one run is that of its own loss.
        return (loss_R if share is None else loss_R * share).sum()

    def outputs(self, inputs: Tensor) -> Tensor:
        return self._call(inputs)

    def metrics(self, outputs: Tensor, targets: Tensor) -> list[dict[str, float | None]]:
        with torch.no_grad():
            losses = self._losses(outputs, targets).tolist()
        return [
            {"loss": loss, **other} for loss, other in zip(losses, self._other_metrics(outputs, targets), strict=True)
        ]

    def _other_metrics(self, outputs: Tensor, targets: Tensor) -> list[dict[str, float | None]]:
        targets, task = self.select_per_run(targets), self.sums.task
        if isinstance(task, Classification) and not (task.monitored or task.extra):  # all runs at once
            return [{"accuracy": n / outputs.shape[-2]} for n in task.correct(outputs, targets).tolist()]
        shared = self.rows is None
        return [
            state.sums.task.metrics(outputs[run], targets if shared else targets[run])
            for run, state in enumerate(self.states)
        ]

    def update(self) -> None:
        """Clip the gradients of each run, step all optimizers, and reset the gradients."""
        if not self.states:
            return
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if self.values_R is not None:
            for gradient in gradients:
                limits = _broadcastable(self.values_R, gradient)
                gradient.clamp_(-limits, limits)
        if self.norms_R is not None:
            norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
            shares_R = (self.norms_R / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(_broadcastable(shares_R, gradient))
        self.optimizer.step()
        for parameter in self.parameters.values():
            parameter.grad = None

    def remove(self, leaving: Collection[RunState]) -> None:
        """Remove these runs, which get tensors of their own, and compact the stack; the others keep their gradients."""
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
        """Return limits as a tensor [R], infinite for runs without one; None if no run has one."""
        if not any(value is not None for value in values):
            return None
        numbers = [torch.inf if value is None else value for value in values]
        return torch.tensor(numbers, dtype=next(iter(self.parameters.values())).dtype, device=self.device)

    def _losses(self, outputs_RBC: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss [R] of each run; runs with equal losses are computed together."""
        targets, shared = self.select_per_run(targets), self.rows is None
        losses = [
            vmap(criterion, in_dims=(0, None if shared else 0))(outputs_RBC[runs], targets if shared else targets[runs])
            for runs, criterion in self.criteria
        ]
        return losses[0] if len(losses) == 1 else torch.cat(losses)

    def _call(self, inputs: Tensor) -> Tensor:
        """Return outputs [R, B, C] in full precision."""
        tensors = self.average if self.averaged else {**self.parameters, **self.buffers}
        with autocast(self.device, self.precision):
            call = vmap(self._forward_one, in_dims=(0, None if self.rows is None else 0, 0), randomness="error")
            outputs = call(tensors, self.select_per_run(inputs), self.marker_R)
        return outputs.float() if self.precision in HALF_PRECISION else outputs

    def _forward_one(self, tensors: dict[str, Tensor], inputs: Tensor, marker: Tensor) -> Tensor:
        for layer in self.layers:
            layer.marker = marker
        return functional_call(self.structure, tensors, (inputs,))


def _stacked(runs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the stacked tensor [R, ...] of each name; the runs' own tensors become views of it."""
    stacked = {}
    for name in runs[0] if runs else ():
        stacked[name] = torch.stack([run[name].detach() for run in runs])
        for row, run in zip(stacked[name], runs, strict=True):
            run[name].data = row
    return stacked


def detach(state: RunState) -> None:
    """Replace the views that a run holds by tensors of its own."""
    modules: Iterable[nn.Module] = [state.model, *([state.average] if state.average is not None else [])]
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone()
            tensor.grad = None
    for values in state.optimizer.state.values():
        values.update({key: value.clone() for key, value in values.items() if isinstance(value, Tensor)})
    for name in RunningSums.NAMES:
        setattr(state.sums, name, getattr(state.sums, name).clone())


def _broadcastable(values_R: Tensor, other: Tensor) -> Tensor:
    """Return values [R] as [R, 1, ...], to broadcast with `other` [R, ...]."""
    return values_R.view(-1, *[1] * (other.ndim - 1))


def _key(criterion: Criterion) -> tuple[Any, ...]:
    """Return a key that is equal for criteria that compute the same loss."""
    loss = criterion.loss
    arguments = {name: value for name, value in vars(loss).items() if isinstance(value, (int, float, str, bool))}
    buffers = {name: value.tolist() for name, value in loss.state_dict().items()}
    weights = None if criterion.weights is None else criterion.weights.tolist()
    return (type(loss), arguments, buffers, weights, criterion.single, criterion.to_log, criterion.scale)
