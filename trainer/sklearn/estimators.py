"""Estimators that `trainer.train` fits to rows of numbers.

Shape letters: N samples, F features, C classes.
"""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from trainer.api.run import TrainedRun
from trainer.api.training import train
from trainer.data.tasks import Classification
from trainer.training.calibration import log_probabilities

ROWS = 8192  # predicted at a time


class Estimator(BaseEstimator):
    """The parameters of both estimators, and their training.

    Args:
        model: name of a model, such as `mlp`, a torch.nn.Module, which is copied, or its class.
        epochs: largest number of epochs.
        lr: learning rate of the optimizer.
        batch_size: samples of a training batch.
        valid_fraction: share of the samples that is held out; the weights of the epoch with the lowest loss on them
            are used, and training stops after ten epochs without a better one. If no sample would be held out, the
            training samples take their place.
        random_state: seed of split, weights and order; None draws one from NumPy's global stream.
        overrides: further words of the command line, such as `("optim=sgd", "model.hidden=[32]")`.
        folder: where the run folder is made, as `output=` of the command; None deletes it after fitting.
        verbose: print what the command prints.
    """

    def __init__(
        self,
        model: Any = "mlp",
        epochs: int = 100,
        lr: float = 3e-3,
        batch_size: int = 32,
        valid_fraction: float = 0.2,
        random_state: int | np.random.RandomState | None = None,
        overrides: Sequence[str] = (),
        folder: str | os.PathLike[str] | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.valid_fraction = valid_fraction
        self.random_state = random_state
        self.overrides = overrides
        self.folder = folder
        self.verbose = verbose

    def _fit(self, inputs_NF: np.ndarray, targets_N: np.ndarray, task: str) -> None:
        """Train on all samples; set the fitted attributes."""
        data = {"train": (inputs_NF, targets_N), "test": (inputs_NF[:1], targets_N[:1])}  # which is not tested
        if round(len(targets_N) * self.valid_fraction) == 0:
            data["valid"] = data["train"]
        state = self.random_state
        seed = state if isinstance(state, (int, np.integer)) else check_random_state(state).randint(2**31 - 1)
        keys: dict[str, Any] = {"data.task": task, "optim.lr": self.lr, "data.valid_fraction": self.valid_fraction}
        with _place(self.folder) as output:
            run = train(
                *self.overrides,
                quiet=not self.verbose,
                model=self.model,
                data=data,
                epochs=self.epochs,
                batch_size=self.batch_size,
                seed=int(seed),
                test=False,
                plots=False,
                output=output,
                **keys,
            )
            self._keep(run)

    def _keep(self, run: TrainedRun) -> None:
        """Keep what predicts, apart from the run's folder, which may be temporary."""
        predictor = run.predictor
        self.module_ = copy.deepcopy(predictor.model).cpu().double()
        self.prepare_, self.task_ = predictor.prepare, predictor.task
        self.metrics_ = list(run.metrics)
        self.n_epochs_ = int(run.results["epochs"])
        if self.folder is not None:
            self.folder_ = str(run.folder)

    def _outputs(self, X: Any) -> torch.Tensor:
        """Compute the outputs float64 [N, C] of rows [N, F].

        In float64 a prediction does not depend on the rows beside it.
        """
        check_is_fitted(self)
        inputs_NF = validate_data(self, X, reset=False, dtype=np.float64)
        chunks = torch.from_numpy(np.require(inputs_NF, requirements=["C", "W"])).split(ROWS)
        with torch.inference_mode():
            return torch.cat([self.module_(self.prepare_(chunk, torch.float64)) for chunk in chunks])


@contextlib.contextmanager
def _place(folder: str | os.PathLike[str] | None) -> Iterator[str]:
    """Yield the folder of the run folders: a temporary one by default."""
    if folder is not None:
        yield os.fspath(folder)
        return
    with tempfile.TemporaryDirectory(prefix="trainer-") as temporary:
        yield temporary


class TrainerClassifier(ClassifierMixin, Estimator):
    """A classifier for scikit-learn: rows of numbers, and classes of any type.

    Columns are scaled to mean 0 and standard deviation 1. For the parameters, see `Estimator`.

    Attributes:
        classes_: the classes, sorted, in the order of the probabilities.
        module_: the trained torch.nn.Module, in float64; its inputs are scaled rows.
        metrics_: the rows of the run's metrics.csv.
        n_epochs_: epochs that were trained.
        folder_: the run's folder, if `folder` was given.
    """

    def fit(self, X: Any, y: Any) -> TrainerClassifier:
        """Train on rows [N, F] and classes [N].

        Raises:
            ValueError: the data or a parameter cannot be used.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels_N = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("the classifier needs two classes or more, and y holds one class")
        self._fit(X, labels_N, "multiclass")
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities float64 [N, C]."""
        outputs_NC = self._outputs(X)
        assert isinstance(self.task_, Classification)
        return log_probabilities(self.task_, outputs_NC).exp().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most likely class of each row [N]."""
        probabilities_NC = self.predict_proba(X)
        return self.classes_[probabilities_NC.argmax(1)]


class TrainerRegressor(RegressorMixin, Estimator):
    """A regressor for scikit-learn: rows of numbers, and a number for each.

    Columns and targets are scaled to mean 0 and standard deviation 1. For the parameters, see `Estimator`.

    Attributes:
        module_: the trained torch.nn.Module, in float64; its inputs are scaled rows, its outputs scaled targets.
        metrics_: the rows of the run's metrics.csv.
        n_epochs_: epochs that were trained.
        folder_: the run's folder, if `folder` was given.
    """

    def fit(self, X: Any, y: Any) -> TrainerRegressor:
        """Train on rows [N, F] and numbers [N].

        Raises:
            ValueError: the data or a parameter cannot be used.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self._fit(X, y.astype(np.float64), "regression")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict numbers float64 [N] in the unit of the targets."""
        outputs_NC = self._outputs(X)
        return self.task_.estimates(outputs_NC)[:, 0].numpy()
