"""One training loop, many models: `train model=lenet5 optim=adamw`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.inference.predictor import Predictor, load

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` and `Predictor` on first access: they need torch, and `import trainer` does not."""
    if name in ("load", "Predictor"):
        from trainer.inference import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
