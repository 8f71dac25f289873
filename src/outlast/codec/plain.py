"""Plain JSON: which values are it, and their text.

The one rule: a value is plain only if its text reads back as an equal value of the same types, all
the way down. So a tuple, a subclass, a key that is no str, NaN and a lone surrogate are not plain.
"""

import itertools
import math
import reprlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import pydantic_core

from outlast.errors import CodecError, Corrupt

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

LEVELS: Final = 200
"""How deep a value may be nested: a scalar lies at level 0, what is in a list at level 1."""

INTEGER_DIGITS: Final = 4200
"""How long an integer may be: Python and pydantic refuse to read one of more than about 4300."""

_INTEGER_END: Final = 10**INTEGER_DIGITS
_COLLECTIONS: Final = frozenset({dict, list})
_DICTS: tuple[type[Any], ...] = (dict,)
_PATH_SHOWN: Final = 200
_VALUE_SHOWN: Final = 80

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _VALUE_SHOWN


def is_plain(value: object, levels: int = LEVELS) -> bool:
    """Tell whether the value is plain JSON, nested no deeper than `levels`."""
    check = _CHECKS.get(type(value))
    return check is not None and check(value, levels)


def is_unicode(text: str) -> bool:
    """Tell whether UTF-8 can carry the text: a lone surrogate is no character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_short(number: int) -> bool:
    """Tell whether the integer has few enough digits to be read back."""
    return -_INTEGER_END < number < _INTEGER_END


def _is_plain_dict(value: dict[Any, Any], levels: int) -> bool:
    # One loop, which most values pass without another call: every payload comes through here.
    if levels <= 0:
        return False
    for key, item in value.items():
        if not _is_plain_key(key):
            return False
        if not (type(item) is str and item.isascii()) and not is_plain(item, levels - 1):
            return False
    return True


def _is_plain_key(key: Any) -> bool:
    return type(key) is str and (key.isascii() or is_unicode(key))


def _is_plain_list(value: list[Any], levels: int) -> bool:
    return levels > 0 and all(map(is_plain, value, itertools.repeat(levels - 1)))


_CHECKS: Final[dict[type, Callable[[Any, int], bool]]] = {
    dict: _is_plain_dict,
    list: _is_plain_list,
    str: lambda value, _: value.isascii() or is_unicode(value),  # one call for most text
    int: lambda value, _: is_short(value),
    float: lambda value, _: math.isfinite(value),
    bool: lambda _, __: True,
    type(None): lambda _, __: True,
}

PLAIN_TYPES: Final = frozenset(_CHECKS)


def copied(value: Json) -> Json:
    """Return a copy of the plain value, so that who changes one does not change the other."""
    if type(value) is dict:
        return {
            key: copied(item) if type(item) in _COLLECTIONS else item for key, item in value.items()
        }
    if type(value) is list:
        return [copied(item) for item in value]
    return value


def is_same(one: Json, other: Json) -> bool:
    """Tell whether two plain values are equal and of the same types; the order of dicts is free."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, float):
        return repr(one) == repr(other)  # NaN is as NaN, and zero has a sign.
    return one == other


def refusal(value: Any, path: str, levels: int = LEVELS) -> CodecError | None:
    """Return the error that names the first part of the value that is not plain, if any."""
    if is_plain(value, levels):
        return None
    if type(value) not in _COLLECTIONS:
        return not_writable(value, path)
    if not levels:
        return too_deep(path)
    is_dict = isinstance(value, _DICTS)
    for name, part in value.items() if is_dict else enumerate(value):
        if is_dict and not _is_plain_key(name):
            return not_a_key(name, path)
        found = refusal(part, f"{path}[{name!r}]", levels - 1)
        if found:
            return found
    return None


def not_a_key(key: object, path: str) -> CodecError:
    """Return the error for a key of the dict at `path` that would not come back as it is."""
    why = "annotate the type that the keys have, or convert them"
    if type(key) is str:
        why = "UTF-8 cannot carry its lone surrogate"
    return CodecError(f"{shown_path(path)} has the key {shown(key)}: {why}", path)


def not_writable(value: object, path: str) -> CodecError:
    """Return the error for a scalar, or what has no form in JSON, at `path`."""
    where = shown_path(path)
    if type(value) is str:
        why = "has a lone surrogate, which UTF-8 cannot carry; store such text as bytes"
        return CodecError(f"{where} is {shown(value)}: it {why}", path)
    if type(value) is int:
        why = f"is an integer of more than {INTEGER_DIGITS} digits; store it as text, say hex(n)"
        return CodecError(f"{where} {why}", path)
    if type(value) is float:
        why = "NaN and infinities pass only where the annotation says float"
        return CodecError(f"{where} is {value!r}: {why}", path)
    why = (
        "without an annotation only dict (with str keys), list, str, int, float, bool and None "
        "come back as they were; annotate its type, or convert it"
    )
    return CodecError(f"{where} is {shown(value)}: {why}", path)


def too_deep(path: str) -> CodecError:
    """Return the error for what lies at `path`, below the last level."""
    why = f"more than {LEVELS} levels deep, or contains itself; flatten it, or store it in parts"
    return CodecError(f"{shown_path(path)} is {why}", path)


def shown(value: object) -> str:
    """Return a short text of the value, with its type, for an error message."""
    kind = type(value).__qualname__
    try:
        return f"{_repr.repr(value)} ({kind})"
    except Exception:  # noqa: BLE001  # an integer may be too long to show, a `__repr__` may fail
        return f"a value ({kind})"


def shown_path(path: str) -> str:
    """Return the path, cut where it is long."""
    return path if len(path) <= _PATH_SHOWN else f"{path[:_PATH_SHOWN]}..."


def to_text(data: Json) -> str:
    """Return compact JSON; NaN and the infinities as the constants `NaN`, `Infinity`, `-Infinity`.

    Raises:
        CodecError: the data is not plain JSON.
    """
    return to_bytes(data).decode()


def to_bytes(data: Json) -> bytes:
    """Return what `to_text` does, in UTF-8.

    Raises:
        CodecError: the data is not plain JSON.
    """
    try:
        return pydantic_core.to_json(data, inf_nan_mode="constants")
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not plain JSON: {error}") from error


def from_text(text: str | bytes) -> Json:
    """Return what `to_text` was given.

    Raises:
        Corrupt: the text is not JSON.
    """
    try:
        data: Json = pydantic_core.from_json(text)
    except ValueError as error:
        # What wraps a value of all its levels may lie deeper than this reader goes.
        if str(error).startswith("recursion limit"):
            return _from_deep_text(text)
        raise Corrupt(f"not JSON: {error}") from error
    return data


def _from_deep_text(text: str | bytes) -> Json:
    import json  # noqa: PLC0415  # it is hardly ever needed, and costs a millisecond

    try:
        data: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"not JSON: {error}") from error
    return data
