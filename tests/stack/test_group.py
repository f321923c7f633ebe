"""Jobs trained in one pass give the same results as one by one, and leave the same files."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.faulty_models import write_patient
from helpers.fork_server import ForkServer
from helpers.runs import CompletedCommand
from helpers.stacks import DOUBLE, STACK, close, end_of, ends, last, lines, owned, same_sweeps, stacks
from helpers.sweeps import ledger, places, results, states, table
from trainer.records.metrics import read_metrics
from trainer.run.command import Command
from trainer.run.execute import SweepContext
from trainer.run.run import Run
from trainer.signals import Signals
from trainer.stack import group
from trainer.training import checkpoint

pytestmark = pytest.mark.slow

IRIS = (*DOUBLE, "data=iris", "model=mlp", "model.hidden=[8]", "test=false")
# Stopped early at different times, at the end of their epochs, and some that diverge from the middle of the stack.
MANY = (
    *IRIS,
    "optim=sgd",
    "optim.lr=1e-2,2.0,1e30,1e200",
    "patience=2,3",
    "min_delta=0.05",
    "epochs=9",
    "seed=3",
    "init=xavier_normal",
)


@pytest.fixture(scope="module")
def many(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[CompletedCommand, CompletedCommand]:
    """A sweep without and with stacks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("many"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        found = [server.start("-m", *MANY, *more).end() for more in ((), (STACK,))]
        for done in found:
            assert done.folder is not None, done.err
            done.folder = done.folder.resolve()
        return found[0], found[1]


def test_a_stack_comes_to_what_its_jobs_come_to_one_by_one(many) -> None:
    alone, stacked = many
    assert stacks(stacked.folder) == [list(range(8))]
    assert stacks(alone.folder) == []
    assert same_sweeps(alone.folder, stacked.folder)
    found = [(results(place)["status"], results(place)["epochs"]) for place in places(stacked.folder)]
    assert {status for status, _ in found} == {"completed", "early_stopped", "diverged"}
    assert len({epochs for status, epochs in found if status == "early_stopped"}) > 1
    assert (alone.code, sorted(alone.err.splitlines())) == (stacked.code, sorted(stacked.err.splitlines()))


def test_what_diverges_is_told_and_changes_no_other(many, sweep) -> None:
    _, stacked = many
    diverged = [number for number, state in states(stacked.folder).items() if state == "diverged"]
    assert diverged == [4, 5, 6, 7]
    without = sweep("-m", *[word.replace(",1e30,1e200", "") for word in MANY], STACK)
    assert without.code == 0, without.err
    assert close(ends(without.folder), ends(stacked.folder)[:4], 1e-10)


def test_a_member_has_the_files_of_a_single_run(many) -> None:
    for alone, stacked in zip(*(places(done.folder) for done in many), strict=True):
        files = [{path.relative_to(place).as_posix() for path in place.rglob("*")} for place in (alone, stacked)]
        assert files[0] >= files[1] >= files[0] - {f"checkpoints/{name}.pt" for name in ("previous", "last", "best")}
        assert _settings(alone) == _settings(stacked)
        assert list(results(alone)) == list(results(stacked))
        heads = [(place / "metrics.csv").read_text().splitlines()[0] for place in (alone, stacked)]
        assert heads[0] == heads[1]
        assert _log(alone) == _log(stacked)


def _settings(place: Path) -> list[str]:
    return [line for line in (place / "config.yaml").read_text().splitlines() if "stack" not in line]


def _log(place: Path) -> list[str]:
    """The first word of each line: what a run tells of, timings left out."""
    lines = [line.split() for line in (place / "train.log").read_text().splitlines()]
    return [words[0] if words else "" for words in lines]


def test_a_members_checkpoints_are_those_of_a_single_run(many) -> None:
    for alone, stacked in zip(*(places(done.folder) for done in many), strict=True):
        if results(alone)["status"] == "diverged":
            continue
        for name in ("best.pt", "last.pt"):
            contents = [checkpoint.load(place / "checkpoints" / name) for place in (alone, stacked)]
            assert _shapes(contents[0]) == _shapes(contents[1])
            assert all(map(owned, contents))


def _shapes(content: Any) -> Any:
    """Keys, and of each tensor its shape and its type."""
    if isinstance(content, torch.Tensor):
        return content.shape, content.dtype
    if isinstance(content, dict):
        return {key: _shapes(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_shapes(value) for value in content]
    return type(content)


@pytest.mark.parametrize(
    "words",
    [
        "data=wine optim.lr=1e-2,1e-1 data.folds=4 data.fold=0,3 data.test_fraction=0.21 loss.weight=null,balanced",
        pytest.param(
            "data=iris clip_norm=null,0.05 loss=cross_entropy loss.label_smoothing=0,0.2 batch_size=16 test=true",
            marks=pytest.mark.exhaustive,
        ),
        "data=iris model.dropout=0,0.1,0.6 ema.decay=0.9 accumulate=2 batch_size=16 baseline=true seed=0,1",
        "data=wine optim=sgd model.norm=batch,layer model.dropout=0.2 validate_every=2ep epochs=3,5 data.seed=1"
        " seed=0,1",
        pytest.param(
            "data=diabetes optim.lr=1e-2,1e-1 seed=0,1,2 optim=rmsprop test=true", marks=pytest.mark.exhaustive
        ),
        pytest.param(
            "data=breast_cancer monitor=valid_f1 schedule=cosine schedule.warmup_epochs=0,1 optim.weight_decay=0,0.1"
            " max_steps=9 clip_value=null,1e-3",
            marks=pytest.mark.exhaustive,
        ),
        "data=digits model=mlp,lenet5 ~model.hidden debug.batches=2 batch_size=16 optim.lr=1e-3,1e-2",
    ],
)
def test_whatever_differs_in_a_stack(words: str, sweep) -> None:
    common = [*DOUBLE, "model=mlp", "model.hidden=[8]", "epochs=4", "test=false"]
    given = words.split()
    if "~model.hidden" in given:
        common.remove("model.hidden=[8]")
        given.remove("~model.hidden")
    keys = {word.partition("=")[0] for word in given}
    common = [word for word in common if word.partition("=")[0] not in keys]
    alone, stacked = sweep("-m", *common, *given), sweep("-m", *common, *given, STACK)
    assert (alone.code, alone.err) == (stacked.code, stacked.err) == (0, "")
    number = len(places(alone.folder))
    assert sum(map(len, stacks(stacked.folder))) == number > 3
    assert len(stacks(stacked.folder)) == (2 if "model=mlp,lenet5" in words or "batch,layer" in words else 1)
    assert same_sweeps(alone.folder, stacked.folder)


def test_bfloat16_is_as_near_as_its_digits_let_it(sweep) -> None:
    words = [word for word in IRIS if not word.startswith("precision")]
    words += ["precision=bfloat16", "epochs=5", "seed=0,1", "optim.lr=1e-3,1e-2", "batch_size=16", "model.norm=layer"]
    alone, stacked = sweep("-m", *words), sweep("-m", *words, STACK)
    assert stacks(stacked.folder) == [[0, 1, 2, 3]]
    for one, other in zip(ends(alone.folder), ends(stacked.folder), strict=True):
        assert close(
            [row["valid_loss"] for row in one["metrics"]], [row["valid_loss"] for row in other["metrics"]], 0.02
        )


def test_a_members_checkpoint_goes_on_alone_to_where_the_stack_would_have_come(sweep) -> None:
    words = (*IRIS, "model.dropout=0.1,0.3", "model.norm=batch", "optim.lr=1e-2,1e-1", "patience=null", "optim=sgd")
    short, long = (sweep("-m", *words, f"epochs={epochs}", STACK).folder for epochs in (3, 7))
    for one, other in zip(places(short), places(long), strict=True):
        assert sweep(f"resume={one}", "epochs=7").code == 0
        assert close(end_of(one), end_of(other), 1e-10)


def test_stacks_of_at_most_three(sweep) -> None:
    done = sweep("-m", *IRIS, "seed=range(7)", "epochs=1", "sweep.stack=3")
    assert stacks(done.folder) == [[0, 1, 2], [3, 4], [5, 6]]
    assert lines(done.out) == ["stack      7 jobs from job 0 on are trained 3 at a time: as configured"]


def test_auto_measures_once_and_tells_why(sweep) -> None:
    done = sweep("-m", *IRIS, "seed=range(6)", "data.seed=0", "epochs=1", "optim.lr=1e-2,1e30", "sweep.stack=auto")
    [line] = lines(done.out)
    assert line.startswith("stack      12 jobs from job 0 on are trained ")
    assert line.endswith(" of the time of single runs")
    [noted] = [line["why"] for line in ledger(done.folder) if "why" in line]
    assert noted == [line]
    ratio = float(line.split()[-7])
    assert (len(stacks(done.folder)) > 0) == (ratio <= 0.9)
    assert math.isfinite(ratio)


@pytest.mark.parametrize("fault", ["none", "assigns"])
def test_what_was_decided_holds_when_a_sweep_goes_on(fault: str, server: ForkServer) -> None:
    running = server.start("-m", *write_patient(), f"model.fault={fault}", "model.at=1", "seed=0,1", "sweep.stack=auto")
    running.until(lambda folder: [line for line in ledger(folder) if "why" in line])
    running.kill()
    [before] = [line for line in ledger(running.folder) if "why" in line]
    done = server.start(f"resume={running.folder}", "trust=true").end()
    assert done.code == 0, done.err
    assert lines(done.out) == []
    assert [line for line in ledger(running.folder) if "why" in line] == [before]


def test_light_jobs_are_told_that_they_could_be_stacked(sweep) -> None:
    done = sweep("-m", *IRIS, "seed=range(8)", "epochs=1")
    assert lines(done.out) == ["hint       sweep.stack=auto may train 8 of these jobs in one pass"]
    assert lines(sweep("-m", *IRIS, "seed=range(8)", "epochs=1", "max_minutes=5").out) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("draws", "random operation"),
        ("looks", "data-dependent control flow"),
        ("assigns", "the model computes other results than alone"),
        ("ends", "exit code 3"),
    ],
)
def test_a_model_that_cannot_be_stacked_is_trained_one_by_one(fault: str, reason: str, sweep) -> None:
    words = ("-m", *write_patient(), f"model.fault={fault}", "model.at=1", "seed=0,1", "epochs=2", "test=false")
    alone, stacked = sweep(*words), sweep(*words, STACK)
    [line] = lines(stacked.out)
    assert line.startswith("stack      2 jobs from job 0 on are trained one by one: ")
    assert reason in line
    assert stacks(stacked.folder) == []
    assert (alone.code, alone.err) == (stacked.code, stacked.err)
    assert fault == "ends" or same_sweeps(alone.folder, stacked.folder, 0)


# What these compute with is no parameter and no buffer, and another for each run.
KEEPING = """
import torch
from torch import nn


class Number(nn.Sequential):
    def __init__(self, in_features, num_outputs, dropout=0.0):
        super().__init__(nn.Flatten(), nn.Linear(in_features, 8), nn.ReLU(), nn.Linear(8, num_outputs))
        self.p = dropout

    def forward(self, x):
        return super().forward(x) * (1 - self.p)


class Layer(nn.Sequential):
    def __init__(self, in_features, num_outputs, dropout=0.0):
        layers = nn.Linear(in_features, 8), nn.SELU(), nn.AlphaDropout(dropout), nn.Linear(8, num_outputs)
        super().__init__(nn.Flatten(), *layers)


class Projection(nn.Module):
    def __init__(self, in_features, num_outputs, dropout=0.0):
        super().__init__()
        self.projection, self.last = torch.randn(in_features, 8), nn.Linear(8, num_outputs)

    def forward(self, x):
        return self.last(torch.tanh(x.flatten(1) @ self.projection.to(x.dtype)))
"""


def own(model: str) -> None:
    Path("conf/model").mkdir(parents=True)
    Path("conf/model/own.yaml").write_text(f"# Ours\n_target_: keeping.{model}\ndropout: 0.0\n")


@pytest.mark.parametrize("model", ["Number", "Layer", "Projection"])
def test_what_a_module_keeps_for_itself_stays_each_runs_own(model: str, sweep) -> None:
    Path("keeping.py").write_text(KEEPING)
    words = ["-m", *DOUBLE, "data=iris", "model=own", "model.dropout=0,0.5", "seed=0,1", "data.seed=0", "epochs=3"]
    own(model)
    alone, stacked = sweep(*words, "test=false"), sweep(*words, "test=false", STACK)
    assert (alone.code, alone.err) == (stacked.code, stacked.err) == (0, "")
    assert same_sweeps(alone.folder, stacked.folder)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("precision=bfloat16 model.norm=batch", "vmap does not support BatchNorm in bfloat16"),
        ("max_minutes=5", "max_minutes=5.0"),
        ("freeze=[1.*]", "freeze=['1.*']"),
        ("debug.gradients=true", "debug.gradients=true"),
    ],
)
def test_settings_that_cannot_be_stacked_are_named(words: str, reason: str, sweep) -> None:
    given = [word for word in IRIS if not words.startswith("precision") or "precision" not in word]
    done = sweep("-m", *given, *words.split(), "seed=0,1", "epochs=1", STACK)
    assert done.code == 0, done.err
    assert lines(done.out) == [f"stack      2 jobs from job 0 on are trained one by one: {reason}"]
    assert stacks(done.folder) == []


def test_seconds_are_each_runs_share(sweep) -> None:
    done = sweep("-m", *IRIS, "epochs=3,4,5,6", "validate_every=4ep", "patience=null", STACK)
    assert done.code == 0, done.err
    for place in places(done.folder):
        seconds = sum(row["seconds"] for row in read_metrics(place / "metrics.csv"))
        assert seconds <= results(place)["seconds"]["training"] * 1.001


def test_a_tracker_is_told_every_row(sweep) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = sweep("-m", *IRIS, "seed=0,1", "epochs=3", "logger=tensorboard", STACK)
    assert done.code == 0, done.err
    for place in places(done.folder):
        events = EventAccumulator(str(next(place.rglob("events.*")).parent)).Reload()
        assert len(events.Scalars("loss/valid")) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("sweep.stack=some", "sweep.stack=some: expected true, false, auto or a number from 1."),
        ("sweep.stack=0", "sweep.stack=0: expected true, false, auto or a number from 1."),
        ("sweep.stack=true hydra/launcher=joblib", "hydra/launcher: halving, samplers and stacks need"),
        (
            "sweep.stack=2 sweep.sampler=tpe sweep.trials=2 optim.lr=${loguniform:1e-4,1e-2}",
            "sweep.stack: a sampler chooses one job at a time",
        ),
    ],
)
def test_nonsense_is_refused_in_a_sentence(words: str, sentence: str, sweep) -> None:
    done = sweep("-m", *IRIS, *words.split())
    assert (done.code, done.folder) == (2, None)
    [line] = done.err.splitlines()
    assert line.startswith(f"train: error: {sentence}")


def test_a_dry_run_trains_nothing(sweep) -> None:
    done = sweep("-m", *IRIS, "seed=0,1", STACK, "sweep.dry_run=true")
    assert (done.code, done.folder, done.err) == (0, None, "")
    assert "2 jobs, 1 worker on cpu" in done.out


def test_many_jobs_with_few_open_files() -> None:
    server = ForkServer(open_files=160)
    words = ("-m", *IRIS, "seed=range(24)", "data.seed=0", "epochs=1", STACK)
    try:
        done = server.start(*words).end()
    finally:
        server.close()
    assert (done.code, done.err) == (0, "")
    assert lines(done.out) == [
        "stack      24 jobs from job 0 on are trained 12 at a time: as many as the limit of open files allows"
    ]
    assert [row["state"] for row in table(done.folder)] == ["done"] * 24
    assert all(last(place)["run"]["step"] == 2 for place in places(done.folder))


def test_setup_ends_before_the_first_group_trains(job, monkeypatch: pytest.MonkeyPatch) -> None:
    now, setups = [12.0], []

    def train(runs: list[Run], sweep: SweepContext, signals: Signals, setup: float) -> None:
        setups.append([setup] * len(runs))
        now[0] += 100

    monkeypatch.setattr(group, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(group, "_train", train)
    jobs = []
    for number, width in enumerate((4, 8, 4)):
        place = Path(f"job-{number}")
        place.mkdir()
        jobs.append((job("data=iris", "model=mlp", f"model.hidden=[{width}]", "threads=1"), place))
    assert group.execute(jobs, SweepContext(Path("stack"), trusted=True), Command([], started=0.0)) == 0
    assert setups == [[4.0, 4.0], [4.0]]
