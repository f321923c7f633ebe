"""On a CUDA device: the same run as on the CPU up to rounding, resumed, and stopped when a loss is not finite."""

from __future__ import annotations

import json

import pytest
import torch

from helpers.components import assemble
from trainer.records.metrics import read_metrics
from trainer.run import gradients
from trainer.training import checkpoint
from trainer.training.step import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
WORDS = ["model=lenet5", "augment=flip_crop", "epochs=2", "checkpoint.every=1ep"]


def test_a_run_is_that_of_the_cpu_up_to_rounding(train) -> None:
    words = ["model=ann", "model.dropout=0", "epochs=2", "precision=float64"]
    rows = [read_metrics(train(*words, f"device={device}").folder / "metrics.csv")[-1] for device in ("cpu", "cuda")]
    assert rows[1]["valid_loss"] == pytest.approx(rows[0]["valid_loss"], rel=1e-9)


@pytest.mark.parametrize("resident", ["true", "false"])
def test_training_resumes_where_it_stopped(resident: str, train) -> None:
    words = [*WORDS, f"data.resident={resident}", "deterministic=true", "test=false"]
    stopped = train(*words, "device=cuda", "max_steps=18").folder
    assert train(f"resume={stopped}", "max_steps=null").code == 0
    whole = train(*words, "device=cuda").folder
    a, b = (checkpoint.load(f / "checkpoints" / "last.pt")["run"]["model"] for f in (stopped, whole))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name])


def test_a_loss_that_is_not_finite_stops_the_run_and_is_never_saved(train) -> None:
    done = train("device=cuda", "optim=sgd", "optim.lr=1e30", "model=ann", "epochs=2")
    assert done.code == 1
    assert done.results["status"] == "diverged"
    assert not list((done.folder / "checkpoints").glob("*.pt"))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns(precision: str, train) -> None:
    done = train("device=cuda", f"precision={precision}", "epochs=5")
    assert done.code == 0, done.err
    assert done.results["valid"]["accuracy"] > 0.8


def test_watched_gradients_are_those_of_the_cpu(train) -> None:
    words = ["model=lenet5", "epochs=1", "debug=gradients", "precision=float64", "test=false"]
    cpu, cuda = (gradients.read(train(*words, f"device={d}").folder / "gradients.csv") for d in ("cpu", "cuda"))
    for one, other in zip(cpu, cuda, strict=True):
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-6)
        assert other["dead_share"] == one["dead_share"]


def test_watching_never_waits_for_the_device(job) -> None:
    parts = assemble(job("model=lenet5", "device=cuda", "debug.gradients=true").config)
    batches = [batch for batch, _ in zip(parts.train.epoch(0), range(4), strict=False)]
    parts.population.train()
    train_step(parts.population, batches[:1])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:]:
            train_step(parts.population, [batch])
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_profile_divides_the_time_of_the_device(train) -> None:
    done = train("debug=profile", "device=cuda")
    assert done.code == 0, done.err
    summary = json.loads((done.folder / "profile.json").read_text())
    assert sum(summary["shares"].values()) == pytest.approx(1)
    assert sum(summary["device_shares"].values()) == pytest.approx(1)
    assert all(summary["device_shares"][name] > 0 for name in ("forward", "backward", "optimizer"))
    assert summary["operators_by"] == "self device time"
