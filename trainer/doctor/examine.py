"""The doctor's rounds: machine, configuration, data, training; each goes as far as what came before lets it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from trainer import device
from trainer.components import pretrained
from trainer.components.assemble import Components, assemble, read_data
from trainer.components.targets import check
from trainer.config.compose import Composer, Job
from trainer.config.schema import GROUPS, Config
from trainer.data.dataset import Data
from trainer.data.images.pool import Progress
from trainer.data.loader import DataCache
from trainer.doctor import folders, machine, rates, samples, tables, training
from trainer.errors import UserError
from trainer.report.findings import Report
from trainer.run.job import new_job
from trainer.signals import Signals

# Which check a sentence of the loader or the builder belongs to.
SENTENCES = {
    "label range": r"^data: a label of|targets are|no \(input, target\)|target of item",
    "shapes": r"cannot take inputs|gives \(|takes images|inputs differ in shape|pixels, where the first image",
    "last batch": r"BatchNorm needs",
    "missing values": r"missing values|have no \w+, the target",
    "unreadable images": r"cannot be used|not a readable image",
}


def examine(
    words: Sequence[str],
    signals: Signals,
    progress: Progress,
    *,
    config_dir: str | None = None,
    lr: bool = False,
    train: bool = True,
) -> tuple[Report, rates.RangeTest | None]:
    """All that can be found without a run; writes nothing but decoded images, to their cache.

    Args:
        words: as for `train`.
        progress: is told how far reading is.
        lr: make the learning-rate range test too.
        train: try what takes training steps.
    """
    report = Report()
    machine.look(report)
    job = _configuration(report, words, config_dir)
    if job is None:
        return report, None
    device.set_up(job.config.threads, job.config.deterministic)
    config, shared = job.config, DataCache()
    data = _data(report, config, shared, progress)
    if data is None:
        for name in ("shapes", "one batch", "seconds per epoch", *(("learning rate",) * lr)):
            report.skipped[name] = "the data cannot be loaded"
        return report, None
    parts = _parts(report, _without_bad_images(config), shared, progress)
    if parts is None:
        for name in ("one batch", "seconds per epoch", *(("learning rate",) * lr)):
            report.skipped[name] = "the run cannot be built"
        return report, None
    training.last_batch(report, parts)
    settled = _without_bad_images(config)
    if train:
        training.cost(report, parts)
        del parts
        signals.check()
        training.overfit(report, settled, shared, signals)
    if not lr:
        return report, None
    found = rates.test(settled, shared, signals)
    rates.look(report, config, found)
    return report, found


def _configuration(report: Report, words: Sequence[str], config_dir: str | None) -> Job | None:
    """The job of these words; None where there is none."""
    report.done += ["composes", "targets", "device"]
    try:
        job = new_job(Composer(config_dir), words)
    except UserError as error:
        report.errors("composes", error.problems)
        return None
    report.errors("targets", check(job.config, GROUPS))
    try:
        report.fact("machine", chosen_device=device.describe(device.choose(job.config.device)))
    except UserError as error:
        report.errors("device", error.problems)
    report.fact("configuration", **{k: v for k, v in job.choices.items() if v != "None"})
    return None if report.failed else job


def _data(report: Report, config: Config, shared: DataCache, progress: Progress) -> Data | None:
    """The data, split; None where it cannot be loaded."""
    known = len(report.findings)
    if config.data.target == folders.TARGET and not folders.look(report, config.data, progress):
        return None
    identifiers: frozenset[str] = frozenset()
    if config.data.target in tables.TARGETS:
        identifiers = tables.look(report, config.data)
    settled = _without_bad_images(config)
    report.done.append("label range")
    try:
        seed = config.seed if config.data.seed is None else config.data.seed
        data = read_data(settled, pretrained.preprocessing(settled), seed, shared, progress)
    except UserError as error:
        if not any(finding.severity == "error" for finding in report.findings[known:]):  # else it is told already
            _place(report, error, "data")
        return None
    if data.skipped:
        total = sum(map(len, data.splits.values())) + len(data.skipped)
        asked = config.data.arguments.get("on_bad_image") == "skip"
        folders.unreadable(report, data.skipped, total, skipped=asked)
    balanced = config.loss.weight is not None or config.data.balance != "none"
    samples.look(report, data, identifiers, balanced=balanced)
    return data


def _without_bad_images(config: Config) -> Config:
    """The configuration as it would be without the files that cannot be used: they are told, and the rest goes on."""
    if config.data.target != folders.TARGET:
        return config
    return replace(config, data=replace(config.data, arguments={**config.data.arguments, "on_bad_image": "skip"}))


def _parts(report: Report, config: Config, shared: DataCache, progress: Progress) -> Components | None:
    """The run's parts, their shapes tried by one forward pass; None where they cannot be built."""
    report.done.append("shapes")
    plain = replace(config, model=replace(config.model, cache_features="false"))
    try:
        parts = assemble(plain, shared=shared, progress=progress)
    except UserError as error:
        _place(report, error, "shapes")
        return None
    counts = sum(parameter.numel() for parameter in parts.state.model.parameters())
    report.fact("configuration", parameters=counts, inputs=list(parts.data.prepare.output_shape))
    return parts


def _place(report: Report, error: UserError, otherwise: str) -> None:
    for problem in error.problems:
        found = next((name for name, pattern in SENTENCES.items() if re.search(pattern, str(problem))), otherwise)
        report.errors(found, [problem])
