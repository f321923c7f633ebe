"""Construction of the runs of a stack, with each data set read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.components.assemble import Components, Sharing, assemble
from trainer.config.job import Job
from trainer.config.schema import Config
from trainer.data.batches import StackedBatches
from trainer.data.loader import DataCache
from trainer.records.folder import RunFolder
from trainer.run.changes import refuse_other_configuration
from trainer.run.execute import restore
from trainer.stack.population import StackedRuns
from trainer.training.checkpoint import load_newest
from trainer.training.interfaces import TrainingData
from trainer.training.population import Population


def data_key(config: Config) -> tuple[Any, ...]:
    """Return a key that is equal for jobs of a stack that train on the same samples in the same order."""
    return config.data_seed, config.data.fold


class Builder:
    """Builds the components of `jobs`. Jobs with the same data share it; `shared` keeps it for later ones."""

    def __init__(self, jobs: Sequence[Job], *, trusted: bool, shared: DataCache | None) -> None:
        self.trusted, self.shared = trusted, shared
        self.sharing = len({data_key(job.config) for job in jobs})
        self.first: dict[tuple[Any, ...], Components] = {}  # the first run with each key

    def build(self, job: Job, folder: RunFolder | None = None) -> tuple[Components, bool]:
        """Return the components of a job, and whether they were restored from a checkpoint in its folder.

        Raises:
            UserError: the job cannot be built.
            RunFailed: all its checkpoints are damaged.
        """
        saved, _ = load_newest(folder.checkpoints) if folder else (None, [])
        key = data_key(job.config)
        components = assemble(
            job.config,
            trusted=self.trusted,
            saved=saved,
            cache=self.shared,
            sharing=Sharing(self.first.get(key), self.sharing),
        )
        self.first.setdefault(key, components)
        if saved and folder:
            refuse_other_configuration(folder.path, str(saved.metadata["config"]), job)
            restore(components, saved)
        return components, saved is not None


def stacked(runs: Sequence[Components]) -> tuple[Population, TrainingData]:
    """Return the population of runs that can be stacked, in their order, and its data.

    Neighbours with equal optimizers and losses are computed together, so similar runs should be adjacent.
    """
    first = runs[0]
    data = TrainingData(first.train, first.valid)
    if len(runs) == 1:
        return first.population, data
    sources = {data_key(run.config): run for run in reversed(runs)}
    members = [run.population for run in runs]
    if len(sources) == 1:
        return StackedRuns(members), data
    rows = {key: row for row, key in enumerate(sources)}
    train = StackedBatches([run.train for run in sources.values()])
    valid = StackedBatches([run.valid for run in sources.values()])
    return StackedRuns(members, [rows[data_key(run.config)] for run in runs]), TrainingData(train, valid)
