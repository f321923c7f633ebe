"""`trainer.train(model=net, data=(X, y))`: objects among the keyword arguments, which no configuration can hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import Problem, UserError


@dataclass(frozen=True)
class Objects:
    """Objects that the caller passed for groups of the configuration.

    Attributes:
        names: `_target_` of each group.
        factories: of those that are not importable under their name.
        shown: short names for the run folder and the header.
    """

    names: dict[str, str] = field(default_factory=dict)
    factories: dict[str, Callable[..., Any]] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Let the program build and read these objects while entered."""
        if not self.factories:
            yield
            return
        from trainer.components.objects import calling_objects

        with calling_objects(self.factories):
            yield

    def keywords(self, *, resumed: bool) -> Mapping[str, Any]:
        """Return keyword arguments that choose the objects; a resumed run keeps the other keys of their groups."""
        options = {} if resumed or "data" not in self.names else {"data": "custom"}
        return options | {f"{group}._target_": name for group, name in self.names.items()}


def split_objects(keywords: Mapping[str, Any]) -> tuple[Objects, Mapping[str, Any]]:
    """Return the objects among keyword arguments, and the other arguments. Imports torch if there are objects.

    Raises:
        UserError: an object is neither a model nor data.
    """
    objects, others = Objects(), dict(keywords)
    if "model" in others and not isinstance(others["model"], (str, Mapping, type(None))):
        _add_model(objects, others.pop("model"))
    if "data" in others and not isinstance(others["data"], (str, type(None))):
        from trainer.components.objects import PREFIX
        from trainer.data.objects import factory_of, is_data

        if is_data(others["data"]):
            name, objects.factories["data"] = factory_of(others.pop("data"))
            objects.names["data"] = PREFIX + name
            objects.shown["data"] = name.rpartition(".")[2]
    return objects, others


def _add_model(objects: Objects, model: Any) -> None:
    from torch import nn

    from trainer.components.objects import PREFIX, Copies
    from trainer.data.objects import name_of

    cls = model if isinstance(model, type) else type(model)
    if not issubclass(cls, nn.Module):
        reason = f"a {cls.__name__}; expected a torch.nn.Module, its class, or the name of a model"
        raise UserError(Problem("model", reason))
    name = name_of(cls)
    objects.shown["model"] = cls.__name__
    if cls is model and _is_importable(cls):
        objects.names["model"] = name
    else:
        objects.names["model"] = PREFIX + name
        objects.factories["model"] = cls if cls is model else Copies(model)


def _is_importable(cls: type) -> bool:
    """Return whether another process would find the class under its name."""
    module = sys.modules.get(cls.__module__)
    return cls.__module__ != "__main__" and getattr(module, cls.__qualname__, None) is cls
