"""One optimizer step."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.data.batches import Batch
from trainer.device import traits
from trainer.training.phases import phase
from trainer.training.population import Population
from trainer.training.state import RunState


def train_step(population: Population, batches: Sequence[Batch], *, drop_nonfinite: bool = True) -> list[RunState]:
    """Update each run once, by the gradient of the mean loss over all samples of `batches`.

    Mutates the states of the runs and the running sums. Runs whose loss is not finite leave the population before the
    update. This is checked on the CPU only: on a GPU each check would synchronise, so the loop checks every
    LOOK_EVERY steps and before anything is saved.

    Args:
        population: the runs that train together, in training mode.
        batches: the micro-batches of the step.
        drop_nonfinite: whether runs with a non-finite loss leave; False serves to measure the time of a step.

    Returns:
        The runs that were removed.
    """
    weights = [population.weight(targets) for _, targets in batches]
    total = sum(weights)
    for micro, (batch, weight) in enumerate(zip(batches, weights, strict=True)):
        objective = population.objective(batch, weight, None if len(batches) == 1 else weight / total, micro)
        with phase("backward"):
            objective.backward()
    with phase("optimizer"):
        lost: list[RunState] = []
        if drop_nonfinite and not traits(population.device).asynchronous and (lost := nonfinite_runs(population)):
            population.remove(lost)
        for state in population.states:
            state.lr = state.optimizer.param_groups[0]["lr"]
        population.update()
        for state in population.states:
            if state.average is not None:
                state.average.update_parameters(state.model)
            state.step += 1
            state.schedule.after_step(state.step)
    return lost


def nonfinite_runs(population: Population) -> list[RunState]:
    """Return the runs with a non-finite training loss since their last validation. Synchronises with the device."""
    return [population.states[run] for run in population.sums.nonfinite_runs()] if population.states else []
