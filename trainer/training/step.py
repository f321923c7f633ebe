"""One optimizer step."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.data.batches import Batch
from trainer.training.population import Population


class NonFinite(Exception):
    """Something is NaN or infinite; the text says what, with its verb.

    Attributes:
        runs: whose, by their places in the population.
    """

    def __init__(self, what: str, runs: Sequence[int] = (0,)) -> None:
        super().__init__(what)
        self.runs = list(runs)


def train_step(population: Population, batches: Sequence[Batch]) -> None:
    """One update of each run by the mean gradient over `batches`, however they are cut; mutates states and sums.

    Raises:
        NonFinite: before any update; the gradients are there, and `update` makes those of the runs that stay. On a
            GPU, where a look at every loss would wait for the device, the loop looks now and then and before anything
            is saved.
    """
    weights = [population.weight(targets) for _, targets in batches]
    total = sum(weights)
    for micro, (inputs, targets) in enumerate(batches):
        outputs_RBC, loss_R = population.forward(inputs, targets, micro)
        share = loss_R if len(batches) == 1 else loss_R * (weights[micro] / total)
        population.objective(share).backward()
        population.sums.add(loss_R.detach(), outputs_RBC.detach(), population.select_per_run(targets), weights[micro])
    if population.device.type == "cpu" and (lost := population.sums.nonfinite_runs()):
        raise NonFinite("the training loss is", lost)
    update(population)


def update(population: Population) -> None:
    """Each run's step along its gradient."""
    for state in population.states:
        state.lr = state.optimizer.param_groups[0]["lr"]
    population.update()
    for state in population.states:
        if state.average is not None:
            state.average.update_parameters(state.model)
        state.step += 1
        state.schedule.after_step(state.step)
