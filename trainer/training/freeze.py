"""Which parameters are held, which modules stay in eval mode with them, and when they are let go."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from trainer.errors import UserError, did_you_mean
from trainer.models.heads import last_layer

BACKBONE = "backbone"


def head_path(model: nn.Module) -> str:
    """The path of what is new where a model is fine-tuned: as the model says, else its last layer."""
    return str(getattr(model, "head_path", "") or last_layer(model))


def within(name: str, path: str) -> bool:
    """Whether a parameter or module is the one at `path` or inside it."""
    return name == path or name.startswith(f"{path}.")


@dataclass
class FrozenParameters:
    """What is held: parameters without gradient, and modules in eval mode."""

    parameters: list[nn.Parameter] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)

    def unfreeze(self) -> None:
        """Lets everything go."""
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.parameters, self.modules = [], []


def freeze(model: nn.Module, patterns: list[str]) -> FrozenParameters:
    """Holds the parameters whose names match.

    Modules all of whose parameters are held stay in eval mode, so that their statistics and dropout hold too; with
    `backbone`, all modules outside the head do.

    Raises:
        UserError: a pattern that matches nothing, or nothing left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    head = head_path(model) if BACKBONE in patterns else ""
    matched = {name for name in names if head and not within(name, head)}
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found and pattern != BACKBONE:
            near = did_you_mean(pattern, [*names, BACKBONE])
            raise UserError(f"freeze={pattern}: no parameter has such a name.{near} There is: {', '.join(names[:12])}.")
        matched.update(found)
    held = [p for name, p in model.named_parameters() if name in matched and p.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"freeze={','.join(patterns)}: nothing is left to train.")
    return FrozenParameters(held, [module for path, module in model.named_modules() if _is_held(path, module, head)])


def _is_held(path: str, module: nn.Module, head: str) -> bool:
    if head and path and not within(path, head) and not within(head, path):
        return True
    held = list(module.parameters())
    return bool(held) and not any(p.requires_grad for p in held)
