"""Objects of the calling program, which stand for the `_target_` of a group: a model, a data set, arrays.

A configuration cannot hold them. It holds a name that begins with `python:`, and whoever builds the run again must
give the object again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

from trainer.errors import Problem, UserError

PREFIX = "python:"
Factories = Mapping[str, Callable[..., Any]]
_factories: ContextVar[Factories] = ContextVar("factories", default={})  # noqa: B039 - nobody mutates it


@contextmanager
def calling_objects(factories: Factories) -> Iterator[None]:
    """Let `python:...` stand for these factories, by group, while entered."""
    token = _factories.set(factories)
    try:
        yield
    finally:
        _factories.reset(token)


def is_object(name: object) -> bool:
    """Return whether the name of a target stands for an object of the calling program."""
    return isinstance(name, str) and name.startswith(PREFIX)


def object_of(group: str, name: str) -> Callable[..., Any]:
    """Return the factory of a group's object.

    Raises:
        UserError: the calling program has not given it.
    """
    factories = _factories.get()
    if group in factories:
        return factories[group]
    reason = f"the run was trained on a {'model' if group == 'model' else 'data set'} of a Python program"
    more = ", or trainer.load(RUN, model=...)" if group == "model" else ""
    advice = f"Pass it again in Python: trainer.train(resume=RUN, {group}=...){more}."
    raise UserError(Problem(f"{group}._target_", reason, given=name, advice=advice))


class Copies:
    """A factory of deep copies of a model, which itself stays as it is."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self) -> nn.Module:
        try:
            return copy.deepcopy(self.model)
        except (RuntimeError, TypeError) as error:  # a tensor with a gradient graph, a lock, an open file
            reason = f"{type(self.model).__name__} cannot be copied: {' '.join(str(error).split())[:300]}"
            raise UserError(Problem("model", reason.rstrip("."))) from error
