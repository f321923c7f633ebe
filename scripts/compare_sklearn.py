"""scikit-learn's multilayer perceptrons on the bundled tables: same test split, five seeds, for comparison.

They train on the training and validation splits together; this program keeps the latter for validation.
"""

from __future__ import annotations

import statistics
import warnings

import numpy as np
import torch
from sklearn.metrics import root_mean_squared_error
from sklearn.neural_network import MLPClassifier, MLPRegressor

from trainer.data.dataset import load
from trainer.data.tables.table import bundled_table

TARGETS = {"iris": "species", "wine": "cultivar", "breast_cancer": "diagnosis", "diabetes": "progression"}


def main() -> None:
    warnings.filterwarnings("ignore", message="Stochastic Optimizer")
    for name, target in TARGETS.items():
        data = load(bundled_table(name, target), valid_fraction=0.2, test_fraction=0.2, seed=0)
        inputs = {
            name: data.prepare(split.samples.take(split.indices), torch.float64).numpy()
            for name, split in data.splits.items()
        }
        targets = {name: split.targets.numpy() for name, split in data.splits.items()}
        fit_x, fit_y = (np.concatenate([each["train"], each["valid"]]) for each in (inputs, targets))
        scores = []
        for seed in range(5):
            if name == "diabetes":
                model = MLPRegressor(hidden_layer_sizes=(16,), random_state=seed, max_iter=500)
                model.fit(fit_x, (fit_y - fit_y.mean()) / fit_y.std())
                predicted = model.predict(inputs["test"]) * fit_y.std() + fit_y.mean()
                scores.append(root_mean_squared_error(targets["test"], predicted))
            else:
                model = MLPClassifier(hidden_layer_sizes=(16,), random_state=seed, max_iter=500).fit(fit_x, fit_y)
                scores.append(model.score(inputs["test"], targets["test"]))
        print(f"{name:<14} {'RMSE' if name == 'diabetes' else 'accuracy'} {statistics.mean(scores):.4f}")


if __name__ == "__main__":
    main()
