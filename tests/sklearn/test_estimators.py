"""The estimators in scikit-learn's own checks and tools."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import trainer
from trainer.sklearn import EXPECTED_FAILED_CHECKS, TrainerClassifier, TrainerRegressor

X, Y = load_iris(return_X_y=True)
NAMES = load_iris().target_names[Y]
QUICK: dict[str, Any] = {"epochs": 5, "random_state": 0, "overrides": ("threads=1",)}
SAMPLED = (
    "check_fit2d_1sample",
    "check_methods_subset_invariance",
    "check_estimators_unfitted",
    "check_dict_unchanged",
)


@pytest.mark.exhaustive
@parametrize_with_checks(
    [TrainerClassifier(), TrainerRegressor()], expected_failed_checks=lambda estimator: EXPECTED_FAILED_CHECKS
)
def test_the_checks_of_scikit_learn_pass(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("estimator", [TrainerClassifier(epochs=3), TrainerRegressor(epochs=3)])
def test_some_of_the_checks_pass(estimator: Any) -> None:
    checks = [(e, check) for e, check in estimator_checks_generator(estimator) if check.func.__name__ in SAMPLED]
    assert len(checks) == len(SAMPLED)
    for each, check in checks:
        check(each)


def test_a_fit_is_the_run_of_the_same_data(tmp_path: Path) -> None:
    fitted = TrainerClassifier(**QUICK, lr=0.01, folder=tmp_path / "runs").fit(X, NAMES)
    data = {"train": (X, NAMES), "test": (X[:1], NAMES[:1])}
    run = trainer.train(
        "threads=1", model="mlp", data=data, epochs=5, batch_size=32, optim={"lr": 0.01}, plots=False, quiet=True
    )
    assert fitted.metrics_ == [{**row, "seconds": got["seconds"], "samples_per_second": got["samples_per_second"]}
                               for row, got in zip(run.metrics, fitted.metrics_, strict=True)]  # fmt: skip
    probabilities = fitted.predict_proba(X)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, run.predict(X).numpy(), atol=1e-5)
    assert fitted.predict(X).tolist() == run.labels(X)
    assert fitted.score(X, NAMES) > 0.8
    assert Path(fitted.folder_, "results.json").is_file()
    assert Path(fitted.folder_).is_relative_to(tmp_path / "runs")


def test_nothing_is_left_or_printed(capfd: pytest.CaptureFixture[str]) -> None:
    here, path = os.getcwd(), list(sys.path)
    np.random.seed(3)
    torch.manual_seed(3)
    TrainerRegressor(**QUICK).fit(X[:, :3], X[:, 3])
    drawn = np.random.rand(), torch.rand(1).item()
    np.random.seed(3)
    torch.manual_seed(3)
    assert drawn == (np.random.rand(), torch.rand(1).item())
    assert (os.getcwd(), sys.path) == (here, path)
    assert not os.listdir()
    assert capfd.readouterr() == ("", "")


def test_it_is_cloned_pickled_searched_and_part_of_a_pipeline() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    pipeline = make_pipeline(MinMaxScaler(), TrainerClassifier(net, **QUICK))
    grid = {"trainerclassifier__lr": [1e-5, 3e-2]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, NAMES)
    assert search.best_params_ == {"trainerclassifier__lr": 3e-2}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    best = search.best_estimator_
    restored = pickle.loads(pickle.dumps(best))
    assert np.array_equal(restored.predict_proba(X), best.predict_proba(X))
    again = clone(best).fit(X, NAMES)
    assert np.array_equal(again.predict_proba(X), best.predict_proba(X))


def test_a_regressor_learns() -> None:
    inputs, targets = load_diabetes(return_X_y=True)
    assert TrainerRegressor(random_state=0).fit(inputs[:300], targets[:300]).score(inputs[300:], targets[300:]) > 0.4


def test_it_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trainer.sklearn")
    monkeypatch.setitem(sys.modules, "sklearn", None)  # what Python does where it is not installed
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'trainer-cli\[sklearn\]'"):
        importlib.import_module("trainer.sklearn")


@pytest.mark.exhaustive
def test_processes_find_what_one_finds() -> None:
    estimator = TrainerClassifier(**QUICK)
    one, two = (cross_val_score(estimator, X, NAMES, cv=3, n_jobs=jobs) for jobs in (1, 2))
    assert one.tolist() == two.tolist()


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"model": "mpl"}, "mlp"),
        ({"lr": -1}, "lr"),
        ({"epochs": 0}, "epochs=0"),
        ({"overrides": ("seed=5",)}, "seed"),
        ({"model": "lenet5"}, "it takes images"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainerClassifier(**QUICK | parameters).fit(X, Y)
