"""The sequence of checks: machine, configuration, data and training. A failed check ends those that depend on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainer import device
from trainer.components.assemble import Components, assemble
from trainer.components.data import DataReader, monitored
from trainer.components.metrics import with_metrics
from trainer.components.preprocessing import preprocessing_of
from trainer.components.targets import find_targets, resolve_targets
from trainer.config.compose import Composer
from trainer.config.job import Job
from trainer.config.keys import DataConfig
from trainer.config.schema import GROUPS, Config
from trainer.data.dataset import Data
from trainer.data.images.options import FOLDER, TABLE
from trainer.data.images.pool import Progress
from trainer.data.loader import DataCache
from trainer.doctor import folders, rates, tables, training
from trainer.doctor.image_tables import check_image_table
from trainer.doctor.machine import check_machine
from trainer.doctor.samples import check_samples
from trainer.errors import UserError
from trainer.report.findings import Report
from trainer.run.job import new_job
from trainer.signals import Signals


def examine(
    words: Sequence[str],
    signals: Signals,
    progress: Progress,
    *,
    config_dir: str | None = None,
    lr: bool = False,
    train: bool = True,
) -> tuple[Report, rates.RangeTest | None]:
    """Run all checks and return the findings and the range test; only decoded images are written, to their cache.

    Args:
        words: overrides, as for `train`.
        lr: run the learning-rate range test too.
        train: run the checks that take training steps.

    Raises:
        Interrupted: a signal arrived.
    """
    report = Report()
    check_machine(report)
    job = _compose(report, words, config_dir)
    if job is None:
        return report, None
    device.set_up(job.config.threads, job.config.deterministic)
    # Unreadable images are reported, and the rest is checked without them.
    config, cache = replace(job.config, data=_without_bad_images(job.config.data)), DataCache()
    later = ["one batch", "seconds per epoch", *(["learning rate"] if lr else [])]
    if not _check_data(report, config, job.config.data, cache, progress):
        report.skipped |= dict.fromkeys(["shapes", *later], "the data cannot be loaded")
        return report, None
    components = _check_shapes(report, config, cache, progress)
    if components is None:
        report.skipped |= dict.fromkeys(later, "the run cannot be built")
        return report, None
    training.check_last_batch(report, components)
    if train:
        training.measure_cost(report, components)
        del components
        signals.check()
        training.check_overfit(report, config, cache, signals)
    if not lr:
        return report, None
    test = rates.range_test(config, cache, signals)
    rates.check_rate(report, config.optim.arguments.get("lr"), test)
    return report, test


def _compose(report: Report, words: Sequence[str], config_dir: str | None) -> Job | None:
    """Return the job of these overrides; None if there is an error."""
    report.checks += ["composes", "targets", "device"]
    try:
        job = new_job(Composer(config_dir), words)
    except UserError as error:
        report.add_problems(error.problems, "composes")
        return None
    report.add_problems(find_targets(job.config, GROUPS, trusted=True)[1], "targets")
    try:
        report.fact("machine", chosen_device=device.describe(device.choose(job.config.device)))
    except UserError as error:
        report.add_problems(error.problems, "device")
    report.fact("configuration", **{group: name for group, name in job.choices.items() if name != "None"})
    return None if report.failed else job


def _without_bad_images(config: DataConfig) -> DataConfig:
    if config.target not in (FOLDER, TABLE):
        return config
    return replace(config, arguments={**config.arguments, "on_bad_image": "skip"})


def _check_data(report: Report, config: Config, original: DataConfig, cache: DataCache, progress: Progress) -> bool:
    """Return whether the data can be loaded; `original` is its configuration as the user wrote it."""
    earlier = len(report.findings)
    if original.target == FOLDER and not folders.check_folder(report, original, progress):
        return False
    if original.target == TABLE and not check_image_table(report, original):
        return False
    if original.target == TABLE and not check_image_table(report, original):
        return False
    identifiers = tables.check_table(report, original) if original.target in tables.TARGETS else frozenset()
    report.checks.append("label range")
    try:
        data = _read(config, cache, progress)
    except UserError as error:
        if not any(finding.severity == "error" for finding in report.findings[earlier:]):  # else it is reported already
            report.add_problems(error.problems, "data")
        return False
    if data.skipped:
        total = sum(map(len, data.splits.values())) + len(data.skipped)
        skipped = original.arguments.get("on_bad_image") == "skip"
        folders.report_unreadable(report, data.skipped, total, skipped=skipped)
    balanced = config.loss.weight is not None or config.data.balance is not None
    check_samples(report, data, identifiers, balanced=balanced)
    return True


def _read(config: Config, cache: DataCache, progress: Progress) -> Data:
    targets = resolve_targets(config, ("model", "data", "metric"), trusted=True)
    preprocessing = preprocessing_of(config.model.weights, targets.model, config.data.arguments.get("size"))
    data = DataReader(config.data, targets.data, preprocessing, cache, progress).read(config.data_seed)
    data.task = monitored(with_metrics(data.task, config.metric, targets), config.monitor, config.model.output)
    return data


def _check_shapes(report: Report, config: Config, cache: DataCache, progress: Progress) -> Components | None:
    """Build the run, which makes one forward pass; return None if that is not possible."""
    report.checks.append("shapes")
    try:
        model = replace(config.model, cache_features=False)
        components = assemble(replace(config, model=model), trusted=True, cache=cache, progress=progress)
    except UserError as error:
        report.add_problems(error.problems, "shapes")
        return None
    count = sum(parameter.numel() for parameter in components.state.model.parameters())
    report.fact("configuration", parameters=count, inputs=list(components.data.prepare.output_shape))
    return components
