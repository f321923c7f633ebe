"""Dataclasses as JSON files. Files are not trusted: values of another type are refused.

Metadata of a field: `{"json": name}` is its key in the file if that differs from its name; a field with
`{"json": "*"}` holds all keys that no other field has; `{"optional": True}` leaves the key out if the value is None
or an empty list.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import Problem, UserError, printable
from trainer.files import read_text

LARGEST_NUMBER = 1e300  # sums of two must be finite too

Value = TypeVar("Value")


class SchemaError(ValueError):
    """A value that is not of its type; the message names its key."""


def read_json(path: Path, limit: int, kind: type[Value]) -> Value:
    """Return the content of a JSON file as an instance of the dataclass `kind`.

    Raises:
        UserError: the file cannot be read, is larger than `limit` bytes, or does not fit `kind`.
    """
    return parse_json(read_text(path, limit), path, kind)


def parse_json(text: str, path: Path, kind: type[Value]) -> Value:
    """Return a JSON text as an instance of the dataclass `kind`; `path` names it in messages.

    Raises:
        UserError: it does not fit `kind`.
    """
    try:
        content = json.loads(text, parse_constant=lambda word: None)
    except (ValueError, RecursionError) as error:
        reason = f"not readable as JSON ({str(error) or type(error).__name__})"
        raise UserError(Problem(str(path), reason)) from error
    try:
        return convert(content, kind)
    except SchemaError as error:
        raise UserError(Problem(str(path), f"unexpected content: {error}")) from error


def dump(value: Any, *, indent: int | None = 2) -> str:
    """Return a dataclass as JSON text.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    content: dict[str, object] = {}
    for f in dataclasses.fields(value):
        item, key = getattr(value, f.name), f.metadata.get("json", f.name)
        if key == "*":
            content |= _plain(item)
        elif not f.metadata.get("optional") or (item is not None and item != []):
            content[key] = _plain(item)
    return content


def convert(value: Any, hint: Any, where: str = "") -> Any:
    """Return a value of a JSON file as the annotated type: a dataclass, list, dict, number, string or None.

    Strings are made printable. Keys that a dataclass does not have are ignored.

    Args:
        value: as `json.loads` returned it.
        hint: type annotation.
        where: dotted key, for error messages.

    Raises:
        SchemaError: the value is of another type, or a number is out of range.
    """
    if typing.get_origin(hint) is types.UnionType or typing.get_origin(hint) is typing.Union:
        kinds = typing.get_args(hint)
        if value is None and types.NoneType in kinds:
            return None
        *others, hint = [kind for kind in kinds if kind is not types.NoneType]
        for kind in others:
            with contextlib.suppress(SchemaError):
                return convert(value, kind, where)
    if dataclasses.is_dataclass(hint):
        return _dataclass(value, typing.cast(type, hint), where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        if not isinstance(value, list):
            raise SchemaError(f"{where} is not a list")
        return [convert(item, arguments[0], where) for item in value]
    if origin is dict:
        entries = _mapping(value, where).items()
        return {name: convert(item, arguments[1], f"{where}.{name}".lstrip(".")) for name, item in entries}
    return _scalar(value, hint, where)


def _mapping(value: Any, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise SchemaError(f"{where or 'it'} is not a mapping")
    return {printable(str(name)): item for name, item in value.items()}


def _dataclass(value: Any, kind: type, where: str) -> Any:
    values = _mapping(value, where)
    arguments = {}
    for name, key, hint, is_required in _fields(kind):
        if key == "*":
            keys = {other for _, other, _, _ in _fields(kind)}
            arguments[name] = convert({k: v for k, v in values.items() if k not in keys}, hint, where)
        elif key in values or is_required:
            arguments[name] = convert(values.get(key), hint, f"{where}.{key}".lstrip("."))
    return kind(**arguments)


@functools.cache
def _fields(kind: type) -> list[tuple[str, str, Any, bool]]:
    """Return (name, key, type, is required) of each field; cached because evaluating annotations is slow."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return [
        (f.name, f.metadata.get("json", f.name), hints[f.name], f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(kind)
    ]


def _scalar(value: Any, kind: type, where: str) -> Any:
    kinds = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kinds):
        raise SchemaError(f"{where} is {'missing' if value is None else f'of type {type(value).__name__}'}")
    if isinstance(value, (int, float)):
        if not abs(value) < LARGEST_NUMBER:
            raise SchemaError(f"{where} is out of range")
        return float(value) if kind is float else value
    return printable(value) if isinstance(value, str) else value
