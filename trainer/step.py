"""One optimizer step, and one evaluation step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.data.batches import Batch
from trainer.population import Solo
from trainer.state import RunState


class NonFinite(Exception):
    """Something is NaN or infinite; the text says what, with its verb."""


def train_step(
    population: Solo, batches: Sequence[Batch], clip_norm: float | None = None, clip_value: float | None = None
) -> None:
    """One update of each run by the mean gradient over `batches`, however they are cut; mutates states and sums.

    Raises:
        NonFinite: before any update. On a GPU, where a look at every loss would wait for the device, the loop looks
            now and then and before anything is saved.
    """
    total = sum(len(targets) for _, targets in batches)
    for micro, (inputs, targets) in enumerate(batches):
        outputs_RBC, loss_R = population.forward(inputs, targets, micro)
        share = loss_R if len(batches) == 1 else loss_R * (len(targets) / total)
        population.scaled(share).backward()
        population.sums.add(loss_R.detach(), outputs_RBC.detach(), targets)
    if population.device.type == "cpu" and not population.sums.finite():
        raise NonFinite("the training loss is")
    for state in population.states:
        _update(state, clip_norm, clip_value)


def _update(state: RunState, clip_norm: float | None, clip_value: float | None) -> None:
    if clip_norm is not None or clip_value is not None:
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        state.scaler.unscale_(state.optimizer)
        if clip_value is not None:
            nn.utils.clip_grad_value_(parameters, clip_value)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, clip_norm)
    state.lr = state.optimizer.param_groups[0]["lr"]
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    if state.average is not None:
        state.average.update_parameters(state.model)
    state.step += 1
    state.schedule.after_step(state.step)


@torch.inference_mode()
def eval_step(population: Solo, batch: Batch) -> tuple[Tensor, Tensor]:
    """Outputs [R, B, C] and targets [B] of one batch; [B, C] where one run trains alone."""
    inputs, targets = batch
    return population.outputs(inputs), targets
