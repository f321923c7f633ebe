"""Estimators for scikit-learn: `TrainerClassifier` and `TrainerRegressor`."""

from __future__ import annotations

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "trainer.sklearn needs scikit-learn, which is not installed: pip install 'trainer-cli[sklearn]'",
        name=error.name,
    ) from error

from trainer.sklearn.estimators import TrainerClassifier, TrainerRegressor

# The checks of scikit-learn's `check_estimator` that must fail, with the reason.
EXPECTED_FAILED_CHECKS: dict[str, str] = {}

__all__ = ["EXPECTED_FAILED_CHECKS", "TrainerClassifier", "TrainerRegressor"]
