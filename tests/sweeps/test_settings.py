"""The keys of `sweep`: in any order of overrides, mistakes are reported before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.faulty_models import write
from helpers.sweeps import TINY, contents, ledger, places, states

SMALL = (*TINY, "epochs=2", "test=false", "sweep.workers=1")


@pytest.fixture(scope="module")
def halved(server, tmp_path_factory) -> Path:
    """A finished sweep of three jobs, the weaker ones pruned at its first rung; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("halved"))
        halving = ("sweep.halving.factor=2", "sweep.halving.min_epochs=2")
        done = server.start("-m", *SMALL, "epochs=3", "seed=0,1,2", *halving).end()
        assert done.code == 0, done.err
        return done.folder.resolve()


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("validate_every=5ep", "sweep.halving.factor=2", "seed=0,1"), "sweep.halving.min_epochs=1: no job is validat"),
        (
            ("validate_every=1000st", "sweep.halving.factor=2", "seed=0,1"),
            "at least 500 because validate_every=1000st",
        ),
        (("monitor=valid_loss,valid_accuracy", "sweep.halving.factor=2"), "sweep.halving compares jobs by one column"),
        (
            ("seed=0,1", "sweep.workers=1,2"),
            "sweep.workers=1,2: it belongs to the whole sweep and cannot differ",
        ),
    ],
)
def test_a_dry_run_is_refused_like_the_sweep(words: tuple[str, ...], fragment: str, sweep) -> None:
    for more in ([], ["sweep.dry_run=true"]):
        done = sweep("-m", *TINY, *words, *more)
        assert done.code == 2
        assert fragment in done.err
    assert not Path("outputs").exists()


def test_keys_that_only_a_sweep_understands_are_refused_for_a_single_run(sweep, trained) -> None:
    done = sweep(*SMALL, "sweep.dry_run=true", "sweep.sampler=tpe", "sweep.trials=3")
    assert done.code == 2
    assert "sweep.dry_run=true: it lists the jobs of a sweep" in done.err
    assert "sweep.sampler=tpe: it chooses the jobs of a sweep" in done.err
    assert not Path("outputs").exists()
    run = trained("data=iris", "model=mlp", "epochs=1")
    before = contents(run)
    assert sweep(f"resume={run}", "sweep.dry_run=true").code == 2
    assert contents(run) == before


def test_a_dry_run_of_a_resume_shows_added_jobs_without_training_them(halved: Path, sweep) -> None:
    before = contents(halved)
    done = sweep(f"resume={halved}", "optim.lr=0.3,0.4", "sweep.dry_run=true")
    assert done.code == 0, done.err
    assert "6 jobs, 1 worker on cpu" in done.out
    assert contents(halved) == before


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("sweep.workers=1,2", "optim.lr=0.7"), "sweep.workers=1,2: it belongs to the whole sweep and cannot differ"),
        (("sweep.workers=none",), "sweep.workers=none: expected auto or a number from 1"),
        (("sweep.wokers=1",), "sweep.wokers: no such key"),
        (("max_steps=5",), "max_steps=null,5: cannot differ from job to job"),
        (("seed=1,3", "checkpoint.every=1ep"), "checkpoint.every=auto,1ep: cannot differ"),
        (("sweep.sampler=tpe",), "sweep.sampler=tpe: a sampler chooses all jobs of a sweep"),
        (("sweep.stack=true", "hydra/launcher=basic"), "hydra/launcher: halving, samplers and stacks need"),
    ],
)
def test_keys_that_cannot_change_on_resume_are_refused(
    words: tuple[str, ...], fragment: str, halved: Path, sweep
) -> None:
    before = contents(halved)
    for more in ([], ["sweep.dry_run=true"]):
        done = sweep(f"resume={halved}", *words, *more)
        assert done.code == 2
        assert fragment in done.err
        assert "Traceback" not in done.err
    assert contents(halved) == before


def test_only_typed_keys_change_on_resume(sweep) -> None:
    halving = ("sweep.halving.factor=3", "sweep.halving.min_epochs=2")
    folder = sweep("-m", *SMALL, "epochs=3", "seed=0,1", *halving).folder
    done = sweep(f"resume={folder}", "optim.lr=0.01", "sweep.halving.factor=2", "+sweep.workers=2")
    assert done.code == 0, done.err
    assert "2 workers on cpu" in done.out
    pruned = [line["reason"] for line in ledger(folder) if line.get("state") == "pruned"]
    assert set(pruned) == {"not among the best after epoch 2"}  # one of 1 would be after epoch 1


def test_an_estimate_counts_the_epochs_that_halving_leaves(sweep) -> None:
    words = ("-m", *SMALL, "epochs=4", "seed=0,1,2,3", "sweep.dry_run=true")
    assert "all epochs" not in sweep(*words).out
    done = sweep(*words, "sweep.halving.factor=2", "sweep.stack=true")
    assert "50% of all epochs because of halving; each job by itself" in done.out  # 4, 2, 1 and 1 of 4 each
    assert not Path("outputs").exists()


def test_an_estimate_of_frozen_layers_and_of_diverging_jobs(sweep) -> None:
    words = ("freeze=null,backbone", "optim=sgd", "optim.lr=1e10,0.1")
    done = sweep("-m", *SMALL, *words, "sweep.dry_run=true")
    assert done.code == 0, done.err
    assert "4 jobs" in done.out


def test_a_sampler_may_be_set_in_an_experiment_or_in_quotes(sweep) -> None:
    pytest.importorskip("optuna")
    text = "# @package _global_\nsweep:\n  sampler: tpe\n  trials: 2\noptim:\n  lr: ${loguniform:1e-3,1e-1}\n"
    write("conf/experiment/ours.yaml", text)
    done = sweep("-m", *SMALL, "experiment=ours")
    assert done.code == 0, done.err
    assert len(places(done.folder)) == 2
    assert (done.folder / "optuna.log").exists()
    done = sweep(f"resume={done.folder}", "sweep.trials=3")
    assert list(states(done.folder).values()) == ["done"] * 3
    done = sweep("-m", *SMALL, 'sweep.sampler="tpe"', "sweep.trials=1", "optim.lr=${loguniform:1e-3,1e-1}")
    assert (done.folder / "optuna.log").exists()


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("patience=${integer:-3,4}",), "patience=-3: expected a whole number from 1"),
        (("patience=${integer:1,4}", "optim.lr=${uniform:-1,2}"), "optim.lr=-1"),
        (("model.activation=${choice:relu,tanh,foo}",), "activation=foo: expected one of"),
    ],
)
def test_both_ends_of_a_range_are_validated_first(words: tuple[str, ...], fragment: str, sweep) -> None:
    pytest.importorskip("optuna")
    done = sweep("-m", *SMALL, "sweep.sampler=tpe", "sweep.trials=2", *words)
    assert done.code == 2
    assert fragment in done.err
    assert not Path("outputs").exists()


def test_a_draw_that_cannot_be_run_is_no_job(sweep) -> None:
    """The ends and the middle are whole numbers, what lies between is not."""
    pytest.importorskip("optuna")
    done = sweep("-m", *SMALL, "sweep.sampler=tpe", "sweep.trials=2", "patience=${uniform:2,6}")
    assert done.code == 1
    assert "none of 100 draws in a row can be run" in done.err
    assert "Traceback" not in done.err
    assert places(done.folder) == []
