"""Whether a value that came back is the one that was there before.

The one rule: equal is not enough. `1 == 1.0 == True`, and two times of different zones are equal;
what differs in type, zone, fold, exponent or sign of zero, at any depth, is not the same. (Only the
order of a dict and the set of a model's fields that were given are no part of their value.)
"""

import collections
import datetime as dt
import decimal
import enum
import functools
import itertools
import math
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import TzInfo

from outlast.codec.paths import field_names, is_dataclass
from outlast.codec.plain import LEVELS, not_a_key, shown, shown_path, too_deep
from outlast.errors import CodecError

# These are the same when they are of one type and equal.
_PLAINLY_EQUAL: Final = frozenset(
    {str, int, bool, type(None), bytes, uuid.UUID, dt.date, dt.timedelta}
)
_BARE: Final = frozenset({list, tuple, dict})
_MANY: Final = 16


class _Absent:
    """Stands for a part that is there on one side only."""

    def __repr__(self) -> str:
        return "nothing"


_ABSENT: Final = _Absent()


class Difference:
    """Two parts that are not the same, and the way to them."""

    __slots__ = ("_is_key", "_is_too_deep", "_steps", "after", "before")

    before: object
    after: object

    def __init__(
        self, before: object, after: object, *, is_too_deep: bool = False, is_key: bool = False
    ) -> None:
        self.before, self.after = before, after
        self._is_too_deep, self._is_key = is_too_deep, is_key
        self._steps: list[str] = []

    def within(self, step: str) -> "Difference":
        """Return this difference, seen from one level further out."""
        self._steps.append(step)
        return self

    def error(self, root: str) -> CodecError:
        """Return the error that names the path from `root`, both parts and the remedy."""
        path = root + "".join(reversed(self._steps))
        if self._is_too_deep:
            return too_deep(path)
        if self._is_key:
            return not_a_key(self.before, path)
        where, before, after = shown_path(path), shown(self.before), shown(self.after)
        if isinstance(self.after, _Absent):
            return CodecError(f"{where} is {before}, and would be lost; {self._remedy()}", path)
        said = f"{where} is {before}, but would come back as {after}; {self._remedy()}"
        return CodecError(said, path)

    def _remedy(self) -> str:
        before, after = type(self.before), type(self.after)
        if isinstance(self.before, dt.datetime | dt.time) and self.before.tzinfo:
            return "JSON keeps the offset only: use value.astimezone(datetime.UTC)"
        if before is after or after is _Absent:
            return "keep what must come back in fields that are written and read alike"
        if all(is_dataclass(kind) or issubclass(kind, BaseModel) for kind in (before, after)):
            return "annotate its class; members of a union need a field that tells them apart"
        return "annotate the type that it has, or convert it"


_Found = Difference | None
_Comparison = Callable[[Any, Any, int], _Found]


def difference(before: object, after: object, levels: int = LEVELS) -> _Found:
    """Return the first part of the two values that is not the same, or None."""
    kind = type(before)
    if kind is not type(after):
        return Difference(before, after)
    if kind in _PLAINLY_EQUAL:
        return None if before == after else Difference(before, after)
    has_parts, compare = _comparison(kind)
    if has_parts and not levels:
        return Difference(before, after, is_too_deep=True)
    return compare(before, after, levels - 1)


def _choose_comparison(kind: type) -> tuple[bool, _Comparison]:
    """Return whether values of the type have parts, and how two of them are compared."""
    if is_dataclass(kind):
        names = field_names(kind)
        return True, functools.partial(_compare_dataclasses, names, _derived_names(kind))
    if issubclass(kind, BaseModel):
        return True, functools.partial(_compare_models, tuple(kind.model_fields))
    for family, compare in _COLLECTIONS:
        if issubclass(kind, family):
            return True, compare
    for family, is_same in _SCALARS:
        if issubclass(kind, family):
            return False, functools.partial(_compare_scalars, is_same)
    return False, functools.partial(_compare_scalars, _are_equal)


_comparison: Callable[[type], tuple[bool, _Comparison]]
_comparison = functools.lru_cache(maxsize=4096)(_choose_comparison)


def _derived_names(kind: type) -> frozenset[str]:
    """Return the names that an instance may hold although they are no part of its value."""
    return frozenset(
        name
        for owner in kind.__mro__
        for name, member in vars(owner).items()
        if isinstance(member, functools.cached_property)
    )


def _compare_dataclasses(
    names: tuple[str, ...], derived: frozenset[str], before: Any, after: Any, levels: int
) -> _Found:
    others = {*getattr(before, "__dict__", ()), *getattr(after, "__dict__", ())}
    others.difference_update(names, derived)
    for name in (*names, *sorted(others)):
        left, right = getattr(before, name, _ABSENT), getattr(after, name, _ABSENT)
        found = None if left is right else difference(left, right, levels)
        if found:
            return found.within(f".{name}")
    return None


def _compare_models(names: tuple[str, ...], before: Any, after: Any, levels: int) -> _Found:
    # Not `getattr`: a deprecated field warns whoever reads it.
    found = _compare_members(names, before.__dict__, after.__dict__, levels)
    if found:
        return found
    for rest in ("__pydantic_extra__", "__pydantic_private__"):
        left: dict[str, Any] = getattr(before, rest, None) or {}
        right: dict[str, Any] = getattr(after, rest, None) or {}
        found = _compare_members(dict.fromkeys((*left, *right)), left, right, levels)
        if found:
            return found
    return None


def _compare_members(
    names: Iterable[str], before: dict[str, Any], after: dict[str, Any], levels: int
) -> _Found:
    for name in names:
        left, right = before.get(name, _ABSENT), after.get(name, _ABSENT)
        found = None if left is right else difference(left, right, levels)
        if found:
            return found.within(f".{name}")
    return None


def _compare_sequences(before: Any, after: Any, levels: int) -> _Found:
    if len(before) != len(after) or _settings(before) != _settings(after):
        return Difference(before, after)
    if len(before) >= _MANY and _are_equal_scalars(before, after):
        return None
    for index, (left, right) in enumerate(zip(before, after, strict=True)):
        found = None if left is right else difference(left, right, levels)
        if found:
            return found.within(f"[{index}]")
    return None


def _are_equal_scalars(before: Any, after: Any) -> bool:
    """Tell, many times as fast as one by one, whether they hold the same scalars of one type."""
    kinds = set(map(type, before))
    if len(kinds) != 1 or kinds != set(map(type, after)) or before != after:
        return False
    return kinds <= _PLAINLY_EQUAL or (kinds == {float} and _signs(before) == _signs(after))


def _signs(numbers: Iterable[float]) -> list[float]:
    return list(map(math.copysign, itertools.repeat(1.0), numbers))


def _settings(value: Any) -> object:
    """Return what a collection has besides its items."""
    if type(value) in _BARE:
        return None
    return getattr(value, "maxlen", None) or getattr(value, "default_factory", None)


def _compare_dicts(before: Any, after: Any, levels: int) -> _Found:
    if _settings(before) != _settings(after):
        return Difference(before, after)
    rest = {key: (key, item) for key, item in after.items()}
    for key, left in before.items():
        again, right = rest.pop(key, (_ABSENT, _ABSENT))
        found = _compare_items(key, left, again, right, levels)
        if found and again is _ABSENT and len(before) > len(after):
            found = Difference(left, _ABSENT).within(f"[{key!r}]")
        if found:
            return found
    for key, item in rest.values():
        return Difference(_ABSENT, item).within(f"[{key!r}]")
    return None


def _compare_items(key: Any, left: Any, again: Any, right: Any, levels: int) -> _Found:
    if key is not again and difference(key, again, levels):
        return Difference(key, again, is_key=True)
    found = None if left is right else difference(left, right, levels)
    return found and found.within(f"[{key!r}]")


def _compare_ordered(before: Any, after: Any, levels: int) -> _Found:
    if list(before) != list(after):
        return Difference(before, after)
    return _compare_dicts(before, after, levels)


def _compare_sets(before: Any, after: Any, levels: int) -> _Found:
    items = {item: item for item in after}
    is_same = len(before) == len(after) and not any(
        difference(item, items.get(item, _ABSENT), levels) for item in before
    )
    return None if is_same else Difference(before, after)


def _compare_scalars(
    is_same: Callable[[Any, Any], bool], before: Any, after: Any, levels: int
) -> _Found:
    del levels
    return None if is_same(before, after) else Difference(before, after)


def _are_same_moments(before: Any, after: Any) -> bool:
    return (
        bool(before == after)
        and before.fold == after.fold
        and _are_same_zones(before.tzinfo, after.tzinfo)
    )


def _are_same_zones(before: dt.tzinfo | None, after: dt.tzinfo | None) -> bool:
    if before is after:
        return True
    if isinstance(before, TzInfo) and after is not None:
        # What pydantic parsed has a fixed offset too, and equals that of the standard library.
        return before.utcoffset(None) == after.utcoffset(None)
    return type(before) is type(after) and repr(before) == repr(after)


def _are_same_floats(before: float, after: float) -> bool:
    if before == after:
        return math.copysign(1.0, before) == math.copysign(1.0, after)
    return math.isnan(before) and math.isnan(after)


def _are_same_texts(before: object, after: object) -> bool:
    """Tell it of numbers whose text says more than their value: exponent, sign of zero, NaN."""
    return str(before) == str(after)


def _are_equal(before: object, after: object) -> bool:
    try:
        return bool(before == after)
    except Exception:  # noqa: BLE001  # what cannot be compared is not known to be the same
        return False


_COLLECTIONS: Final[tuple[tuple[Any, _Comparison], ...]] = (
    (collections.OrderedDict, _compare_ordered),
    (dict, _compare_dicts),
    ((list, tuple, collections.deque), _compare_sequences),
    ((set, frozenset), _compare_sets),
)
_SCALARS: Final[tuple[tuple[Any, Callable[[Any, Any], bool]], ...]] = (
    (enum.Enum, _are_equal),
    (float, _are_same_floats),
    ((decimal.Decimal, complex), _are_same_texts),
    ((dt.datetime, dt.time), _are_same_moments),
)
