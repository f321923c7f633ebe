"""Optuna chooses trials in a study that a resumed sweep continues; other launchers run the same jobs."""

from __future__ import annotations

import pytest

from helpers.sweeps import TINY, places, states, table

WORDS = ("data=iris", "model=mlp", "threads=1", "plots=false", "epochs=2")
SEARCH = (*WORDS, "sweep.sampler=tpe", "optim.lr=${loguniform:1e-3,1e-1}", "model.hidden=[${integer:4,16}]")


def test_a_study_continues_after_a_resume(sweep) -> None:
    optuna = pytest.importorskip("optuna")
    done = sweep("-m", *SEARCH, "sweep.trials=4", "sweep.workers=1", "test=false")
    assert done.code == 0, done.err
    first = table(done.folder)
    assert sweep(f"resume={done.folder}", "sweep.trials=6").code == 0
    rows = table(done.folder)
    assert set(states(done.folder).values()) == {"done"}
    assert len(rows) == 6
    assert {row["job"]: row["valid_loss"] for row in first}.items() <= {r["job"]: r["valid_loss"] for r in rows}.items()
    assert all(1e-3 <= float(row["optim.lr"]) <= 1e-1 and 4 <= int(row["model.hidden[0]"]) <= 16 for row in rows)
    assert len({row["optim.lr"] for row in rows}) == 6  # a sampler that began anew drew nothing again
    backend = optuna.storages.journal.JournalFileBackend(str(done.folder / "optuna.log"))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    values = sorted(trial.value for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    assert values == pytest.approx(sorted(float(row["valid_loss"]) for row in rows))


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ((*SEARCH, "seed=0,1", "sweep.trials=3"), "seed=0,1: sweep.sampler=tpe chooses values itself"),
        ((*SEARCH,), "sweep.trials is not set: sweep.trials=50"),
        ((*WORDS, "sweep.sampler=tpe", "sweep.trials=3"), "nothing to search"),
        ((*SEARCH, "sweep.trials=3", "sweep.halving.factor=2"), "a sampler has no rungs"),
    ],
)
def test_invalid_searches_are_refused(words: tuple[str, ...], fragment: str, sweep) -> None:
    pytest.importorskip("optuna")
    done = sweep("-m", *words)
    assert done.code == 2
    assert fragment in done.err


@pytest.mark.parametrize("name", ["joblib", pytest.param("submitit_local", marks=pytest.mark.exhaustive)])
def test_another_launcher_runs_the_same_jobs(name: str, sweep) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{name.partition('_')[0]}_launcher")
    words = (*TINY, "epochs=1", "seed=0,1", "test=false")
    own, other = sweep("-m", *words), sweep("-m", f"hydra/launcher={name}", *words)
    assert other.code == 0, other.err
    assert table(other.folder) == table(own.folder)
    assert [place.name for place in places(other.folder)] == [place.name for place in places(own.folder)]


def test_a_launcher_that_is_not_installed_is_refused(sweep) -> None:
    done = sweep("-m", *WORDS, "hydra/launcher=slurm", "seed=0,1")
    assert done.code == 2
    assert "hydra/launcher=slurm: not installed; available: basic" in done.err
