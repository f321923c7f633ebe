"""Freezing and unfreezing of parameters; frozen modules stay in evaluation mode."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from trainer.errors import Problem, UserError, suggestions
from trainer.models.heads import last_layer

BACKBONE = "backbone"


def head_path(model: nn.Module) -> str:
    """Return the path of the module that fine-tuning replaces: the model's `head_path`, or its last layer."""
    return str(getattr(model, "head_path", "") or last_layer(model))


def within(name: str, path: str) -> bool:
    """Return whether a parameter or module is at `path` or inside it."""
    return name == path or name.startswith(f"{path}.")


@dataclass
class FrozenParameters:
    """The parameters of a model without gradients, and its modules that stay in evaluation mode."""

    parameters: list[nn.Parameter] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)

    def unfreeze(self) -> None:
        """Make all parameters trainable again; the next `train()` reaches the modules too."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.parameters, self.modules = [], []


def freeze(model: nn.Module, patterns: list[str]) -> FrozenParameters:
    """Freeze the parameters of `model` whose names match.

    Modules without a trainable parameter stay in evaluation mode, so that batch statistics and dropout are frozen too.
    With the pattern `backbone` these are all modules outside the head.

    Args:
        model: the model, mutated: matching parameters no longer require gradients.
        patterns: names of parameters, with the wildcards `*` and `?`, or `backbone`.

    Raises:
        UserError: a pattern matches nothing, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    head = head_path(model) if BACKBONE in patterns else ""
    matched = {name for name in names if head and not within(name, head)}
    for pattern in patterns:
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches and pattern != BACKBONE:
            advice = suggestions(pattern, [*names, BACKBONE], most=12)
            raise UserError(Problem("freeze", "no parameter has such a name", given=pattern, advice=advice))
        matched.update(matches)
    frozen = [p for name, p in model.named_parameters() if name in matched and p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(Problem("freeze", "nothing is left to train", given=",".join(patterns)))
    return FrozenParameters(
        frozen, [module for path, module in model.named_modules() if _is_frozen(path, module, head)]
    )


def _is_frozen(path: str, module: nn.Module, head: str) -> bool:
    """Return whether a module stays in evaluation mode; `head` is empty unless the backbone is frozen."""
    if head and path and not within(path, head) and not within(head, path):
        return True
    parameters = list(module.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)
