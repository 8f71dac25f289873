"""Laws of the codec, for types and values that nobody thought of."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from collections.abc import Callable
from types import GenericAlias
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel

from outlast.codec import ErrorRecord, codec_for, digest, from_text, is_same, to_text
from outlast.errors import CodecError

pytestmark = pytest.mark.slow


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Part(BaseModel):
    number: int
    ratio: float
    data: bytes = b""
    when: dt.datetime | None = None
    rest: Any = None


class Whole(BaseModel):
    parts: list[Part]
    named: dict[str, Part] = {}


class Larger(Part):
    more: str = ""


@dataclasses.dataclass(frozen=True)
class Span:
    start: float
    end: dt.timedelta | None
    tags: frozenset[str] = frozenset()


class Row(NamedTuple):
    key: uuid.UUID
    price: decimal.Decimal


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
zones = st.none() | st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(
    lambda offset: dt.timezone(dt.timedelta(minutes=offset // dt.timedelta(minutes=1)))
)
moments = st.datetimes(timezones=zones, allow_imaginary=False).map(lambda at: at.replace(fold=0))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(text, inside, max_size=4),
    max_leaves=12,
)
parts = st.builds(
    Part,
    number=st.integers(),
    ratio=st.floats(),
    data=st.binary(max_size=8),
    when=st.none() | moments,
    rest=plain,
)
larger = st.builds(Larger, number=st.integers(), ratio=st.floats(), more=text)
spans = st.builds(
    Span,
    start=st.floats() | st.integers(),
    end=st.none() | st.timedeltas(),
    tags=st.frozensets(text, max_size=3),
)
decimals = st.decimals(allow_nan=False, allow_infinity=False)

SCALARS: list[tuple[Any, SearchStrategy[Any]]] = [
    (bool, st.booleans()),
    (bytes, st.binary(max_size=20)),
    (Color, st.sampled_from(Color)),
    (dt.date, st.dates()),
    (dt.datetime, moments),
    (dt.time, st.times().map(lambda at: at.replace(fold=0))),
    (dt.timedelta, st.timedeltas()),
    (decimal.Decimal, decimals),
    (float, st.floats() | st.integers()),
    (int, st.integers()),
    (Level, st.sampled_from(Level)),
    (str, text),
    (uuid.UUID, st.uuids()),
]
TYPES: list[tuple[Any, SearchStrategy[Any]]] = [
    *SCALARS,
    (Any, plain),
    (None, st.none()),
    (Part, parts),
    (Whole, st.builds(Whole, parts=st.lists(parts, max_size=2))),
    (Span, spans),
    (Row, st.builds(Row, st.uuids(), decimals)),
]
KEYS = [row for row in SCALARS if row[0] not in (float, Color)]


def within(inside: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Return a strategy for types that hold a type, each with a strategy for its values."""
    many: dict[str, Any] = {"max_size": 4}
    one_type: list[Callable[[Any, SearchStrategy[Any]], tuple[Any, SearchStrategy[Any]]]] = [
        lambda kind, values: (GenericAlias(list, kind), st.lists(values, **many)),
        lambda kind, values: (
            GenericAlias(tuple, (kind, ...)),
            st.lists(values, **many).map(tuple),
        ),
        lambda kind, values: (GenericAlias(tuple, (kind, int)), st.tuples(values, st.integers())),
        lambda kind, values: (
            GenericAlias(dict, (str, kind)),
            st.dictionaries(text, values, **many),
        ),
        lambda kind, values: (
            GenericAlias(collections.deque, kind),
            st.lists(values, **many).map(collections.deque),
        ),
        lambda kind, values: (kind | None, values | st.none()) if kind else (kind, values),
    ]
    keyed = st.tuples(st.sampled_from(KEYS), inside).map(
        lambda rows: (
            GenericAlias(dict, (rows[0][0], rows[1][0])),
            st.dictionaries(rows[0][1], rows[1][1], **many),
        )
    )
    sets = st.sampled_from(SCALARS).map(
        lambda row: (GenericAlias(set, row[0]), st.sets(row[1], **many))
    )
    return st.one_of(
        st.tuples(st.sampled_from(one_type), inside).map(lambda pair: pair[0](*pair[1])),
        keyed,
        sets,
    )


types = st.recursive(st.sampled_from(TYPES), within, max_leaves=3)


def described(value: Any) -> Any:
    """Return what is equal only for values that are the same: types, texts and parts."""
    kind = type(value).__qualname__
    if isinstance(value, BaseModel):
        return kind, [(name, described(part)) for name, part in value]
    if dataclasses.is_dataclass(value):
        return kind, [described(getattr(value, one.name)) for one in dataclasses.fields(value)]
    if isinstance(value, dict):
        items = [(described(key), described(item)) for key, item in value.items()]
        return kind, sorted(items, key=repr)
    if isinstance(value, set | frozenset):
        return kind, sorted(map(described, value), key=repr)
    if isinstance(value, list | tuple | collections.deque):
        return kind, [described(item) for item in value]
    return kind, repr(value)


@given(st.data())
def test_every_value_of_a_type_comes_back_as_it_was(data: st.DataObject) -> None:
    annotation, values = data.draw(types)
    value = data.draw(values)
    codec = codec_for(annotation, where="a law")
    before = described(value)

    again = codec.load(from_text(to_text(codec.dump(value))))

    assert described(again) == before
    assert described(value) == before


@given(st.data())
def test_a_value_of_another_type_comes_back_as_it_was_or_is_refused(data: st.DataObject) -> None:
    annotation, _ = data.draw(types)
    _, values = data.draw(types)
    value = data.draw(values | larger)
    codec = codec_for(annotation, where="a law")

    try:
        again = codec.load(from_text(to_text(codec.dump(value))))
    except CodecError as error:
        assert error.path.startswith("result")  # noqa: PT017  # or it may pass
    else:
        assert described(again) == described(value)


@given(st.data())
def test_a_value_of_a_union_comes_back_as_it_was_or_is_refused(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from([*TYPES, (Larger, larger)]), min_size=2, max_size=4))
    annotation: Any = rows[0][0]
    for other, _ in rows[1:]:
        annotation = annotation | other if annotation is not other else annotation
    value = data.draw(st.one_of(*(values for _, values in rows)))
    codec = codec_for(annotation, where="a law")

    try:
        again = codec.load(from_text(to_text(codec.dump(value))))
    except CodecError as error:
        assert error.path.startswith("result")  # noqa: PT017  # or it may pass
    else:
        assert described(again) == described(value)


bad = st.sampled_from([(), {1}, b"", math.nan, -math.inf, "\ud800", object(), Color.RED, 10**5000])


def put_in(outer: Any, place: int, part: Any) -> str:
    """Put the part somewhere into the plain value, and return the path to where it is."""
    path = "result"
    while True:
        names = list(outer) if isinstance(outer, dict) else list(range(len(outer)))
        if not names:
            name: Any = "bad" if isinstance(outer, dict) else 0
            outer.update(bad=part) if isinstance(outer, dict) else outer.append(part)
            return f"{path}[{name!r}]"
        name = names[place % len(names)]
        path = f"{path}[{name!r}]"
        if not isinstance(outer[name], dict | list):
            outer[name] = part
            return path
        outer = outer[name]


@given(st.lists(plain) | st.dictionaries(text, plain), st.integers(0, 100), bad)
def test_the_path_of_a_refused_part_leads_to_it(value: Any, place: int, part: Any) -> None:
    path = put_in(value, place, part)

    for annotation in (Any, list[Any] if isinstance(value, list) else dict[str, Any]):
        try:
            codec_for(annotation, where="a law").dump(value)
        except CodecError as error:
            assert error.path == path  # noqa: PT017  # the message of `raises` lacks the part
        else:
            raise AssertionError(part)


@given(plain, plain)
def test_plain_values_are_the_same_if_their_texts_are(one: Any, other: Any) -> None:
    assert is_same(one, from_text(to_text(one)))
    assert is_same(one, other) == (described(one) == described(other))


@given(st.lists(plain | parts | spans | st.sets(text), max_size=3), st.dictionaries(text, plain))
def test_equal_arguments_have_one_digest(args: list[Any], kwargs: dict[str, Any]) -> None:
    turned = dict(reversed(kwargs.items()))
    again = [one.copy() if isinstance(one, set) else one for one in args]

    assert digest(args, kwargs) == digest(tuple(again), turned)
    assert digest(args, kwargs) != digest([*args, "more"], kwargs)


@given(st.text(), st.lists(st.text() | st.binary() | st.floats()))
def test_every_error_can_be_recorded_and_read(message: str, more: list[Any]) -> None:
    record = ErrorRecord.from_exception(ValueError(message, *more))

    assert ErrorRecord.load(from_text(to_text(record.dump()))).dump() == record.dump()
    assert type(record.to_exception()) is ValueError
