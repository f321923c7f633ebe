"""The effects of keys, which are declared with them, and the lists that are derived from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainer.config.effects import effects_of, keys_where, reasons_to_train_alone, switched_off
from trainer.config.keys import AugmentConfig, EmaConfig, ScheduleConfig
from trainer.config.parse import parse
from trainer.config.schema import Config, documented_keys

LOGGER = {f"logger.{name}" for name in ("name", "project", "uri", "online")}
SWEEP = {name for name, _ in documented_keys() if name.startswith("sweep.")}
FREE = {
    *(
        "device",
        "data.root",
        "data.workers",
        "data.resident",
        "name",
        "output",
        "plots",
        "checkpoint.every",
        "debug.gradients",
    ),
    *("max_steps", "max_minutes", "trust", "resume", "resume_force", *LOGGER, *SWEEP),
    *("data.split_file", "checkpoint.keep", "output"),
}
INIT = {"init.name", "init.activation", "init.bound"}
OPTIM = {"optim.backbone_lr", "optim.layer_decay", "optim.decay_all"}
SCHEDULE = {"schedule.interval", "schedule.warmup_epochs"}
AUGMENT = {"augment.mixup", "augment.cutmix"}
SAME_BUILD = {
    *("seed", "trial", "data.seed", "patience", "min_delta", "clip_norm", "clip_value", "ema.decay"),
    *OPTIM,
    *SCHEDULE,
}


def test_keys_that_may_change_on_resume() -> None:
    assert set(keys_where(free_on_resume=True)) == FREE
    assert effects_of("data.cache").free_on_resume
    assert effects_of("data.path").free_on_resume


def test_jobs_differ_in_what_a_resume_keeps_and_in_the_file_of_a_table() -> None:
    assert set(keys_where(tells_jobs_apart=False)) == FREE - {"data.split_file"}
    assert effects_of("data.path").tells_jobs_apart
    assert not effects_of("data.cache").tells_jobs_apart


def test_what_another_number_changes() -> None:
    assert set(keys_where(changes="result")) == SAME_BUILD
    assert set(keys_where(changes="build")) == {"epochs", "data.fold", "loss.weight", *AUGMENT, *INIT}
    assert [effects_of(key).changes for key in ("optim.lr", "schedule.gamma", "model.dropout", "model.hidden")] == [
        *("result", "result", "build", "cost")
    ]


def test_what_runs_of_a_stack_may_differ_in() -> None:
    own = {"seed", "trial", "data.seed", "data.fold", "patience", "min_delta", "epochs", "clip_norm", "clip_value"}
    agree = {"checkpoint.every", "checkpoint.keep", "data.root", "data.split_file"}
    assert set(keys_where(stackable=True)) == (own | FREE | INIT | {"loss.weight", "schedule.warmup_epochs"}) - agree
    for key in ("optim.lr", "optim.weight_decay", "schedule.gamma", "model.dropout", "loss.label_smoothing"):
        assert effects_of(key).stackable, key
    for key in ("optim._target_", "schedule._target_", "model.hidden", "data.path", "augment.size"):
        assert not effects_of(key).stackable, key


def test_what_an_evaluation_follows() -> None:
    splitting = {f"data.{name}" for name in ("seed", "valid_fraction", "test_fraction", "folds", "fold", "per_class")}
    assert {key for key in keys_where(evaluation="followed") if key.startswith("data.")} == splitting
    assert {key for key in keys_where(evaluation="typed") if "." not in key} == {"device", "threads"}
    assert effects_of("data.balance").evaluation == "ignored"
    assert all(effects_of(f"data.{name}").evaluation == "columns" for name in ("features", "drop", "task"))
    followed = {"model", "data", "loss", "precision", "batch_size", "threads", "deterministic", "compile", "debug"}
    top = {key.partition(".")[0] for key, _ in documented_keys()}
    assert {key for key in top if effects_of(key).evaluation != "ignored"} == followed | {"seed", "monitor", "device"}


def test_keys_that_repeat_a_setting() -> None:
    assert set(keys_where(repeats=True)) == {"seed", "data.seed", "data.fold", "trial"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("compile", True),
        ("precision", "float16"),
        ("freeze", ["conv1.*"]),
        ("unfreeze_at", 2),
        ("max_minutes", 1.0),
        ("debug.gradients", True),
        ("debug.profile", True),
        ("debug.overfit", True),
    ],
)
def test_what_is_not_stacked(key: str, value: object) -> None:
    assert not reasons_to_train_alone(Config())
    group, _, leaf = key.rpartition(".")
    config, problems = parse({group: {leaf: value}} if group else {leaf: value})
    assert not problems
    assert list(reasons_to_train_alone(config)) == [key]


def test_a_bare_configuration() -> None:
    config = Config(patience=3, unfreeze_at=4, baseline=True, compile=True, max_steps=9, epochs=7)
    config = replace(config, augment=AugmentConfig(mixup=0.5), ema=EmaConfig(decay=0.9))
    bare = switched_off(replace(config, schedule=ScheduleConfig("a.B", {"gamma": 1}, warmup_epochs=2.0)))
    model = replace(Config().model, cache_features=False)
    assert bare == Config(epochs=7, patience=None, model=model)


def test_switches_are_values_inside_and_words_outside() -> None:
    for word, value in (("auto", None), ("true", True), (True, True), (False, False)):
        assert parse({"test": word})[0].test is value
    assert parse({"threads": "4"})[0].threads == 4
    assert parse({"threads": "auto"})[0].threads is None
    assert [parse({"sweep": {"stack": word}})[0].sweep.stack for word in ("auto", True, 8)] == [None, True, 8]
    (problem,) = parse({"model": {"cache_features": True}})[1]
    assert str(problem) == "model.cache_features=true: expected auto or false."
