"""One training loop, many models: `train model=lenet5 optim=adamw`."""

__version__ = "0.1.0"
