"""A short name for the arguments of a call.

The one rule: equal arguments give one digest in every process, so nothing here may depend on the
order of a set or dict, on an address or on the name of a module.
"""

import datetime as dt
import decimal
import enum
import hashlib
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from outlast.codec import paths
from outlast.codec.plain import Json, is_short, to_bytes, to_text

_LEVELS: Final = 100
_LENGTH: Final = 16


def digest(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a digest of the arguments; what has no value of its own (a client, say) is left out.

    It tells overlapping steps of one name apart, no more: unequal arguments may share a digest.
    """
    form: Json = [_form(list(args), _LEVELS), _form(dict(kwargs), _LEVELS)]
    return hashlib.blake2b(to_bytes(form), digest_size=_LENGTH).hexdigest()


def _form(value: Any, levels: int) -> Json:
    """Return plain JSON that is equal for equal values, and seldom for others."""
    kind = _kind_of(value)
    if kind is str:
        return _escaped(value)
    if kind in (bool, float, type(None)) or (kind is int and is_short(value)):
        form: Json = value
        return form
    if not levels:
        return {}
    if kind is list:
        return [_form(item, levels - 1) for item in value]
    if kind is dict and all(type(key) is str for key in value):
        return {_escaped(key): _form(value[key], levels - 1) for key in sorted(value)}
    return {"": [kind.__qualname__, *_parts(value, levels - 1)]}


def _kind_of(value: object) -> type:
    return type(value)


def _parts(value: Any, levels: int) -> list[Json]:
    """Return the forms of what a value consists of; none where it has no value of its own."""
    for family, text_of in _TEXTS:
        if isinstance(value, family):
            return [_escaped(text_of(value))]
    if isinstance(value, _SETS):
        return sorted((_form(item, levels) for item in value), key=to_text)
    if isinstance(value, _DICTS):
        return sorted((_form(list(pair), levels) for pair in value.items()), key=to_text)
    return [[step, _form(part, levels)] for step, part in paths.parts(value)]


def _escaped(text: str) -> str:
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


_SETS: tuple[type[Any], ...] = (set, frozenset)
_DICTS: tuple[type[Any], ...] = (dict,)
_TEXTS: Final[tuple[tuple[Any, Callable[[Any], str]], ...]] = (
    (enum.Enum, lambda value: str(value.name)),
    ((bytes, bytearray), lambda value: str(value.hex())),
    (int, hex),
    ((str, float, complex, decimal.Decimal), str),
    ((dt.date, dt.time, dt.timedelta, pathlib.PurePath, uuid.UUID), str),
)
