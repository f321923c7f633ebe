"""One training loop, many models: `train model=lenet5 optim=adamw`, or `trainer.train("model=lenet5")`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.api.run import TrainedRun
    from trainer.api.sweep import TrainedSweep
    from trainer.api.sweeping import sweep
    from trainer.api.training import train
    from trainer.errors import Problem, RunFailed, UserError
    from trainer.inference.predictor import Predictor, load

__version__ = "0.1.0"
_HOMES = {  # imported on first access: they need torch, and `import trainer` does not
    "Predictor": "trainer.inference.predictor",
    "Problem": "trainer.errors",
    "RunFailed": "trainer.errors",
    "TrainedRun": "trainer.api.run",
    "TrainedSweep": "trainer.api.sweep",
    "UserError": "trainer.errors",
    "load": "trainer.inference.predictor",
    "sweep": "trainer.api.sweeping",
    "train": "trainer.api.training",
}
__all__ = [
    "Predictor",
    "Problem",
    "RunFailed",
    "TrainedRun",
    "TrainedSweep",
    "UserError",
    "__version__",
    "load",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
