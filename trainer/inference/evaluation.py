"""`trainer evaluate`: the test of a finished run once more, on its own data or on other data of the same kind."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b

import torch
from omegaconf import OmegaConf
from torch import Tensor

from trainer import device
from trainer.components.data import DataReader, split
from trainer.components.feed import evaluation_batches
from trainer.components.loss import build_criterion, class_weights_of
from trainer.components.metadata import has_interpolation
from trainer.components.target import Target
from trainer.components.targets import find_targets
from trainer.config.compose import Composer, finish
from trainer.config.overrides import set_value
from trainer.config.schema import Config
from trainer.data.dataset import Data, Split
from trainer.data.fetch import targets_on
from trainer.data.images.pool import Progress
from trainer.data.labels import relabel
from trainer.data.loader import LoaderConfig
from trainer.data.source import Source
from trainer.data.tables.prepare import TablePrepare
from trainer.data.tables.table import TableSchema
from trainer.errors import Problem, UserError, did_you_mean
from trainer.inference.checkpoint import LoadedCheckpoint, advised
from trainer.inference.model import InferenceModel
from trainer.inference.result import EvaluationResult
from trainer.signals import Signals
from trainer.training.evaluate import evaluate_and_report

# What of a stored configuration an evaluation follows; the rest of it is never looked at.
KEYS = ("model", "data", "loss", "precision", "batch_size", "threads", "deterministic", "compile", "debug", "seed",
        "monitor", "device")  # fmt: skip
MAY_CHANGE = ("device", "threads")
DIVIDE = ("data.seed", "data.valid_fraction", "data.test_fraction", "data.folds", "data.fold", "data.per_class")
ALL = "all"  # of data that is not in parts
NEVER_USED = ("data.balance",)
OF_TRAINING = ("data.features", "data.drop", "data.task")  # of a table, whose columns the model knows
OWN_CACHE = (True, False, "auto", "true", "false")


class Evaluation:
    """A finished run and data, brought together.

    Args:
        words: key=value, of what may be another than in training: data=..., data.*, device, threads.
        progress: is told how far reading the data is; may raise to end it.

    Raises:
        UserError: the run may not be followed, the data cannot be had, or it is of another kind.
    """

    def __init__(self, opened: LoadedCheckpoint, words: Sequence[str] = (), progress: Progress | None = None) -> None:
        self.opened, self.about = opened, opened.about
        self.config, typed = configuration(opened, words)
        self.loss, self.data = self._resolve(typed)
        device.set_up(self.config.threads, self.config.deterministic)
        self.device = device.choose(self.config.device)
        self.source = self._source(progress)
        self.fingerprint = self.source.fingerprint
        self.own = self.fingerprint == self.about.fingerprint
        self.classes, self.parts = relabel(self.source, self.config.data.relabel)
        self._check_classes()

    def part(self, name: str | None, signals: Signals) -> EvaluationResult:
        """Evaluates a part; None is the test part, or the only one that other data has.

        Raises:
            UserError: there is no such part, or its samples are of another shape.
            Interrupted: within a batch of a signal.
        """
        name = name or self._usual_part()
        split = self._split(name)
        data = Data(self.about.task, {name: split}, self.about.prepare, self.fingerprint)
        self._check_shape(split)
        dtype = device.dtype_of(self.config.precision, self.device)
        examples, output = targets_on(split.loss_targets[:2], self.device), self.config.model.output
        criterion = build_criterion(self.loss, self.about.task, output, self._class_weights(), examples, dtype)
        workers = device.loader_workers(self.config.data.workers)
        loading = LoaderConfig(self.device, dtype, device.free_memory(self.device), self.config.data.resident, workers)
        batches = evaluation_batches(self.config.batch_size, data, name, loading)
        evaluation = evaluate_and_report(self._model, criterion, self.about.task, batches, signals)
        if not self.own and len(self.parts) == 1:
            name = ALL
        targets_N = evaluation.targets_N.cpu()
        targets_N = targets_N.argmax(1) if targets_N.ndim == 2 else targets_N
        return EvaluationResult(
            self.opened.name,
            self.about.task,
            name,
            self.own,
            self._identity(split),
            evaluation.outputs_NC.cpu(),
            targets_N,
            evaluation.report,
        )

    def samples(self, count: int) -> Tensor:
        """Raw samples [N, ...] of the part that is usually evaluated, at most so many, spread over it.

        Raises:
            UserError: there is no such part, or its samples are of another shape.
        """
        split = self._split(self._usual_part())
        self._check_shape(split)
        spread = torch.linspace(0, len(split) - 1, min(count, len(split))).long()
        return split.samples.take(split.indices[spread])

    @cached_property
    def _model(self) -> InferenceModel:
        return InferenceModel(self.opened, self.config.device, self.config.precision, compiled=self.config.compile)

    def _resolve(self, typed: set[str]) -> tuple[Target | None, Target]:
        """Return the targets of the loss and of the data; what a user typed is trusted, what a file says is not."""
        opened = self.opened
        targets, problems = find_targets(self.config, ("model", "loss"), trusted=opened.trusted)
        trusted = opened.trusted or bool(typed & {"data", "data._target_"})
        if trusted and not opened.trusted:
            sys.path.append(os.getcwd())  # where a data set of the user's own is
        data_targets, data_problems = find_targets(self.config, ["data"], trusted=trusted)
        if problems + data_problems:
            raise UserError(*(advised(problem, opened.path) for problem in problems + data_problems))
        data = data_targets.data
        self._check_used(typed, data)
        cache = data.arguments.get("cache", "auto")
        if not trusted and "data.cache" not in typed and cache not in OWN_CACHE:
            data = replace(data, arguments=data.arguments | {"cache": "auto"})  # no file says where to write
        return targets.loss, data

    def _check_used(self, typed: set[str], target: Target) -> None:
        """What is typed and would change nothing is a mistake: another test than this one is what was asked for."""
        data = self.config.data
        problems: list[Problem] = []
        takes = target.parameters
        for key in sorted(typed):
            if key == "data.root" and "root" not in takes:
                more = "data=NAME, or data.path=FILE" if "path" in takes else "data=NAME"
                reason = f"{data.target} reads no folder"
                problems.append(Problem("data.root", reason, given=data.root, advice="Name other data", command=more))
            elif key in NEVER_USED:
                reason = "an evaluation does not use it; its loss has the weights of the training"
                problems.append(Problem(key, reason))
            elif key in OF_TRAINING and isinstance(self.about.prepare, TablePrepare):
                reason = "an evaluation does not use it: columns and task are those of the training"
                problems.append(Problem(key, reason))
        if problems:
            raise UserError(*problems)

    def _source(self, progress: Progress | None) -> Source:
        data = self.config.data
        downloads = str(data.target).endswith(".torchvision_dataset")
        if downloads and not os.path.isdir(data.root):  # a stored path of another machine is not filled by downloads
            raise UserError(f"data.root={data.root}: there is no such folder. Say where the data is: data.root=DIR")
        schema = None
        if isinstance(self.about.prepare, TablePrepare):
            schema = TableSchema(self.about.prepare.columns, None if data.relabel else self.about.classes)
        return DataReader(data, self.data, self.about.wanted, progress=progress).source(schema)

    def _check_classes(self) -> None:
        known, where = self.about.classes, _where(self.config)
        if (not self.about.task.classes) != (self.source.task == "regression"):
            has = "numbers" if self.source.task == "regression" else "classes"
            raise UserError(f"{where}: its targets are {has}, and the model's task is {self.about.task.name}.")
        if odd := sorted(set(known) ^ set(self.classes)):
            more = f" and {len(odd) - 10} more" if len(odd) > 10 else ""
            raise UserError(f"{where}: its classes are not the model's: {', '.join(odd[:10])}{more} differ.")
        if self.classes == known:
            return
        place = torch.tensor([known.index(name) for name in self.classes])  # the same names in another order
        for samples in self.parts.values():
            samples.targets = place[samples.targets]
        self.own = False

    def _usual_part(self) -> str:
        if self.own or "test" in self.parts:
            return "test"
        if len(self.parts) > 1:
            raise UserError(f"{_where(self.config)}: it has {', '.join(self.parts)}; choose one of these: --part")
        return next(iter(self.parts))

    def _split(self, name: str) -> Split:
        if self.own:
            return self._own_data.splits[name]
        if name not in self.parts:
            raise UserError(
                f"--part {name}: this data is not what the run was trained on, and it has no such part of its own; "
                f"it has {', '.join(self.parts)}."
            )
        return Split(self.parts[name], torch.arange(len(self.parts[name])))

    @cached_property
    def _own_data(self) -> Data:
        """Divided as in training."""
        config = self.config
        seed = config.data_seed
        data = split(config.data, lambda: self.source, seed)
        if config.debug.batches:
            data.truncate(config.debug.batches * config.batch_size, overfit=config.debug.overfit, seed=seed)
        return data

    def _check_shape(self, split: Split) -> None:
        raw = split.samples.take(split.indices[:1])
        found, known = tuple(raw.shape[1:]), self.about.prepare.shape
        if found != known:
            raise UserError(f"{_where(self.config)}: samples of {list(found)}; the model was trained on {list(known)}.")
        if (raw.dtype == torch.uint8) != (self.about.dtype == torch.uint8):
            raise UserError(
                f"{_where(self.config)}: samples are {raw.dtype}; the model was trained on {self.about.dtype}."
            )

    def _class_weights(self) -> Tensor | None:
        if self.about.whole:
            return self.about.class_weights
        asked = self.config.loss.weight is not None or self.config.data.balance == "loss"
        if asked and not self.own:
            raise UserError(f"{self.opened.path}: it is too old to hold the class weights of its loss.")
        config = self.config
        return class_weights_of(config.loss, config.data.balance, self._own_data) if asked else None

    def _identity(self, split: Split) -> str:
        digest = blake2b(str(self.config.data.target).encode(), digest_size=16)
        for samples in self.parts.values():
            digest.update(samples.targets.numpy().data)
        digest.update(split.indices.numpy().data)
        return digest.hexdigest()


def configuration(opened: LoadedCheckpoint, words: Sequence[str]) -> tuple[Config, set[str]]:
    """The run's configuration as far as an evaluation follows it, with what was typed; and the keys that were typed.

    Raises:
        UserError: a word that is wrong or may not be another, or a stored value that is.
    """
    stored = {name: opened.about.tree[name] for name in KEYS if name in opened.about.tree}
    if has_interpolation(stored) and not opened.trusted:
        raise UserError(f"{opened.path}: it reads environment variables (${{...}}). If you trust it, add --trust.")
    tree = OmegaConf.create(stored)
    typed: set[str] = set()
    problems: list[Problem] = []
    if words:
        composer = Composer()
        overrides, problems = composer.read(words, sweep=False)
        typed = {override.key_or_group for override in overrides}
        for key in sorted(typed):
            if key in DIVIDE:
                reason = "the run's data stays divided as in training: a test on what it knows is none"
                problems.append(Problem(key, reason))
            elif key != "data" and not key.startswith("data.") and key not in MAY_CHANGE:
                advice = did_you_mean(key, ["data.root", "data.path", *MAY_CHANGE])
                reason = "an evaluation changes only data=, data.*, device and threads"
                problems.append(Problem(key, reason, advice=advice))
        if problems:
            raise UserError(*problems)
        groups = [override for override in overrides if override.key_or_group == "data"]
        if groups:
            chosen = composer.job(groups).stored["data"]
            kept = {key.partition(".")[2]: OmegaConf.select(tree, key) for key in DIVIDE}
            OmegaConf.update(tree, "data", chosen | kept, merge=False)
        for override in overrides:
            if override.key_or_group != "data":
                set_value(tree, override, composer.groups, problems)
    if problems:
        raise UserError(*problems)
    job = finish(tree, {}, [])
    if job.problems:
        raise UserError(*(problem.within(opened.path) for problem in job.problems))
    return job.config, typed


def _where(config: Config) -> str:
    path = config.data.arguments.get("path")
    return f"data.path={path}" if path else f"data.root={config.data.root}"
