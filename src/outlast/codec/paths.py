"""The ways into a value: `result['items'][3].when`, for whoever has to find that part of it."""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from outlast.codec.plain import LEVELS

_DICTS: tuple[type[Any], ...] = (dict,)
_SEQUENCES: tuple[type[Any], ...] = (list, tuple, collections.deque)
_SETS: tuple[type[Any], ...] = (set, frozenset)


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a collection, model or dataclass, each with the step that leads to it."""
    if isinstance(value, _DICTS):
        for key, item in value.items():
            yield f" key {key!r}", key
            yield f"[{key!r}]", item
    elif isinstance(value, _SEQUENCES + _SETS):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    else:
        for name, item in _fields(value):
            yield f".{name}", item


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        yield from value
    elif is_dataclass(type(value)):
        for name in field_names(type(value)):
            if hasattr(value, name):
                yield name, getattr(value, name)


def is_dataclass(kind: Any) -> bool:
    """Tell whether it is a dataclass (its instances are none here)."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def field_names(kind: Any) -> tuple[str, ...]:
    """Return the names of a dataclass's fields."""
    return tuple(field.name for field in dataclasses.fields(kind))


def find(
    value: Any, is_it: Callable[[Any], bool], root: str, levels: int = LEVELS
) -> tuple[str, Any] | None:
    """Return the path to the first part for which `is_it` is true, and the part; or None."""
    if is_it(value):
        return root, value
    if levels:
        for step, part in parts(value):
            found = find(part, is_it, root + step, levels - 1)
            if found:
                return found
    return None


def follow(value: Any, location: tuple[str | int, ...], root: str) -> tuple[str, Any]:
    """Return the path along a location as pydantic gives it, and the part that lies there.

    A location also names members of unions and functions; these are no steps, and are left out.
    """
    path = root
    for name in location:
        if isinstance(value, _DICTS) and name in value:
            path, value = f"{path}[{name!r}]", value[name]
        elif isinstance(value, _SEQUENCES) and name in range(len(value)):
            path, value = f"{path}[{name}]", value[name]
        else:
            fields = dict(_fields(value))
            if name in fields:
                path, value = f"{path}.{name}", fields[str(name)]
    return path, value
