"""A resolved target: a class or function with the arguments of its configuration."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import Problem, UserError, show


@dataclass(frozen=True)
class Target:
    """The class or function that a `_target_` names, with the arguments of its configuration.

    Attributes:
        group: the key above the `_target_`: a group, or `metric.NAME`.
    """

    group: str
    name: str
    factory: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the factory by name."""
        return inspect.signature(self.factory).parameters

    def build(self, *positional: Any, **defaults: Any) -> Any:
        """Call the factory with its arguments, and with those `defaults` that it takes and they do not set.

        Raises:
            UserError: the factory refuses its arguments.
        """
        parameters = self.parameters
        passed = {k: v for k, v in defaults.items() if k in parameters and self.arguments.get(k) is None}
        try:
            return self.factory(*positional, **{**self.arguments, **passed})
        except (UserError, NotImplementedError):
            raise
        except (ValueError, TypeError, RuntimeError, AssertionError) as error:  # torchvision asserts sizes
            typed = " ".join(f"{self.group}.{k}={show(v)}" for k, v in self.arguments.items())
            reason = f"{self.name} refuses {typed or 'its arguments'}: {str(error).rstrip('.')}"
            raise UserError(Problem(self.group, reason)) from error


def returned_classes(factory: Callable[..., Any]) -> tuple[type, ...]:
    """Return the class that a function is annotated to return, those of a tuple, or nothing."""
    if not inspect.isfunction(factory):
        return ()
    try:
        returned = typing.get_type_hints(factory).get("return")
    except NameError:
        return ()
    each = typing.get_args(returned) if typing.get_origin(returned) is tuple else (returned,)
    origins = [typing.get_origin(one) or one for one in each]
    return tuple(origins) if all(map(inspect.isclass, origins)) else ()


@dataclass(frozen=True)
class Targets:
    """The resolved targets of a configuration, by key; a group without a `_target_` is None.

    `model`, `data` and `optim` raise KeyError if they were not resolved.
    """

    by_group: Mapping[str, Target]

    @property
    def model(self) -> Target:
        return self.by_group["model"]

    @property
    def data(self) -> Target:
        return self.by_group["data"]

    @property
    def optim(self) -> Target:
        return self.by_group["optim"]

    @property
    def metrics(self) -> dict[str, Target]:
        """The metrics by name."""
        prefix = "metric."
        return {key.removeprefix(prefix): each for key, each in self.by_group.items() if key.startswith(prefix)}

    @property
    def loss(self) -> Target | None:
        return self.by_group.get("loss")

    @property
    def schedule(self) -> Target | None:
        return self.by_group.get("schedule")

    @property
    def augment(self) -> Target | None:
        return self.by_group.get("augment")
