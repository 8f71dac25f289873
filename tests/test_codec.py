"""What comes back after a crash is what was there before it, or was refused."""

import collections
import dataclasses
import datetime as dt
import enum
import math
import re
import typing
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    SecretStr,
    field_serializer,
    model_validator,
)
from pydantic import dataclasses as pydantic_dataclasses
from typing_extensions import TypedDict

from tests.codec_values import (
    ALIASED,
    SUMMER,
    Aliased,
    Computed,
    Deep,
    Derived,
    Hex,
    Hidden,
    Item,
    Slotted,
    Special,
    Tree,
    Unset,
    cases,
    refusal,
    there_and_back,
)

UTC = dt.UTC
T = TypeVar("T")


def turned(value: collections.OrderedDict[str, int]) -> collections.OrderedDict[str, int]:
    return collections.OrderedDict(reversed(value.items()))


class Color(enum.Enum):
    RED = "red"
    MIX = ("red", 1)


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int


class Excluded(BaseModel):
    shown: int
    kept: int = Field(default=0, exclude=True)


class Box(BaseModel, Generic[T]):
    content: T


class Numbers(RootModel[list[float]]):
    pass


class Opened(BaseModel):
    secret: SecretStr

    @field_serializer("secret", when_used="json")
    def _open(self, secret: SecretStr) -> str:
        return secret.get_secret_value()


class Restless(BaseModel):
    count: int

    @model_validator(mode="after")
    def _count(self) -> "Restless":
        self.__dict__["count"] += 1
        return self


@dataclasses.dataclass
class Point:
    x: float
    others: list["Point"] = dataclasses.field(default_factory=list)


@pydantic_dataclasses.dataclass
class Checked:
    when: dt.datetime
    data: bytes = b""


class Row(NamedTuple):
    number: float
    when: dt.datetime | None = None


class Movie(TypedDict):
    title: str
    year: NotRequired[float]


Names = NewType("Names", list[str])
TWO = collections.OrderedDict(a=1, b=2)
NAIVE = dt.datetime.fromisoformat("2026-01-01")
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
OPEN = Open.model_validate({"known": 1, "other": {"a": 1}})

GOOD: list[tuple[Any, Any]] = [
    (Any, {"a": [1, -1.5, True, None, "é\U0001f600", {"": []}]}),
    (object, [1, 2]),
    (None, None),
    (str, "\x00 \u2028"),
    (int, 2**70),
    (int | None, None),
    (float, 1),
    (float, -0.0),
    (float, math.nan),
    (float | None, -math.inf),
    (list[float], [1, 1.0, -0.0, math.nan, math.inf, 1e22, 5e-324, 2**70]),
    (list[float], [0.5] * 20 + [-0.0]),
    (dict[str, float], {"a": 0, "b": math.nan}),
    (Annotated[float, Field(gt=0)], 3),
    (bool | int | float | str | None, True),
    (bool | int | float | str | None, 1),
    (int | float, 1.0),
    (bytes, bytes(range(256))),
    (list[bytes], [b"\xff", b""]),
    (Decimal, Decimal("1.00")),
    (Decimal, Decimal("-0E-10")),
    (Decimal, Decimal("1E+30")),
    (Fraction, Fraction(1, 3)),
    (complex, complex(0.5, 1)),
    (UUID, UUID(int=7)),
    (Path, Path("a/b")),
    (re.Pattern[str], re.compile("a+")),
    (zoneinfo.ZoneInfo, zoneinfo.ZoneInfo("UTC")),
    (dt.datetime, MOMENT),
    (dt.datetime, MOMENT.astimezone(SUMMER)),
    (dt.datetime, dt.datetime.fromisoformat("9999-12-31T23:59:59.999999")),
    (dt.datetime, dt.datetime.fromisoformat("0001-01-01")),
    (dt.date | dt.datetime, dt.date(2026, 1, 1)),
    (dt.date | dt.datetime, NAIVE),
    (dt.time, dt.time(1, 2, 3, 4)),
    (dt.time, dt.time(1, tzinfo=SUMMER)),
    (dt.timedelta, dt.timedelta(days=-1, microseconds=1)),
    (dt.timedelta, dt.timedelta.max),
    (Color, Color.RED),
    (Level, Level.LOW),
    (Word, Word.YES),
    (Access, Access.READ | Access.WRITE),
    (Literal["a", 1], 1),
    (Names, ["a"]),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a", "b"})),
    (tuple[int, ...], (1, 2)),
    (tuple[float, str], (1, "a")),
    (collections.deque[int], collections.deque([1])),
    (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2)),
    (
        collections.defaultdict[str, list[int]],
        collections.defaultdict(list, {"a": [1]}),
    ),
    (typing.Sequence[int], [1]),
    (typing.Mapping[str, int], {"a": 1}),
    (dict[int, str], {1: "a"}),
    (dict[bool, str], {True: "a"}),
    (dict[float, str], {1.0: "a", 2.5: "b"}),
    (dict[bytes, str], {b"\xff": "a"}),
    (dict[UUID, str], {UUID(int=1): "a"}),
    (dict[Level, str], {Level.LOW: "a"}),
    (dict[Color, str], {Color.RED: "a"}),
    (dict[dt.datetime, str], {MOMENT: "a"}),
    (dict[Decimal, str], {Decimal("1.20"): "a"}),
    (dict[Any, int], {"a": 1}),
    (JsonValue, {"a": [1, None]}),
    (Deep, [[1], 2]),
    (typing.Hashable, "a"),
    (Row, Row(1, MOMENT)),
    (Movie, {"title": "a", "year": 1}),
    (Movie, {"year": 1.5, "title": "a"}),
    (Point, Point(1, [Point(2.5)])),
    (Slotted, Slotted(UUID(int=1))),
    (Derived, Derived(3)),
    (Checked, Checked(MOMENT, b"\xff")),
    (list[Point | None], [Point(1), None]),
    (Item, Item(data=b"\xff\x00", score=math.nan, when=MOMENT, extra={"a": [1]})),
    (Item | Special, Special(more=2)),
    (Item | Special, Item()),
    (Tree, Tree(children=[Tree(when=MOMENT)])),
    (Aliased, ALIASED),
    (list[Aliased], [ALIASED]),
    (Open, OPEN),
    (Hidden, Hidden(known=1)),
    (Excluded, Excluded(shown=1)),
    (Computed, Computed(side=2)),
    (Hex, Hex(data=b"\xff", score=math.inf)),
    (list[Hex], [Hex(data=b"\xff", score=math.nan)]),
    (Box[dt.datetime], Box[dt.datetime](content=MOMENT)),
    (Numbers, Numbers([1.0, math.inf])),
    (Opened, Opened(secret=SecretStr("s"))),
    (dict[str, Any] | None, {"a": 1}),
]

BAD: list[tuple[Any, Any, str]] = [
    (Any, (1, 2), "result"),
    (Any, {"a": [{1, 2}]}, "result['a'][0]"),
    (Any, {1: "a"}, "result"),
    (Any, (10**5000,), "result"),
    (Any, [math.nan], "result[0]"),
    (Any, ["\ud800"], "result[0]"),
    (Any, {"a": {"\ud800": 1}}, "result['a']"),
    (Any, Word.YES, "result"),
    (Any, {"a": Level.LOW}, "result['a']"),
    (Any, [10**4300], "result[0]"),
    (object, object(), "result"),
    (None, 1, "result"),
    (int, True, "result"),
    (int, 1.0, "result"),
    (int, "1", "result"),
    (int, Level.LOW, "result"),
    (int, 10**4300, "result"),
    (bool, 1, "result"),
    (float, True, "result"),
    (float, Decimal(1), "result"),
    (str, Word.YES, "result"),
    (str, "\ud800", "result"),
    (str, Path("a"), "result"),
    (list[str], ["a", "\ud800"], "result[1]"),
    (list[int], [1, -(10**4400)], "result[1]"),
    (list[int], (1,), "result"),
    (list[int], [*range(20), True], "result[20]"),
    (tuple[int, ...], [1], "result"),
    (typing.Sequence[int], (1,), "result"),
    (tuple, Row(1), "result"),
    (Row, (1, None), "result"),
    (set[int], frozenset({1}), "result"),
    (set[int], {True}, "result"),
    (dict[str, int], {1: 1}, "result"),
    (dict[str, int], {Word.YES: 1}, "result"),
    (dict[int, int], {True: 1}, "result"),
    (dict[float, int], {1: 1}, "result"),
    (dict[int | str, int], {1: 1, "1": 2}, "result[1]"),
    (dict[str, Any], {"a": [1, (2,)]}, "result['a'][1]"),
    (dict[str, Any], {"a": math.inf}, "result['a']"),
    (dict, {"a": b""}, "result['a']"),
    (JsonValue, {"a": [math.nan]}, "result['a'][0]"),
    (Decimal, Decimal("NaN"), "result"),
    (Decimal, 1, "result"),
    (complex, complex(-0.0, 1), "result"),
    (dt.datetime, dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Zurich")), "result"),
    (dt.datetime, dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "Z")), "result"),
    (dt.datetime, NAIVE.replace(fold=1), "result"),
    (dt.datetime, dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=1))), "result"),
    (dt.datetime, dt.date(2026, 1, 1), "result"),
    (dt.date, MOMENT, "result"),
    (str | dt.datetime, MOMENT, "result"),
    (re.Pattern[str], re.compile("a", re.IGNORECASE), "result"),
    (int | Level, Level.LOW, "result"),
    (Color, Color.MIX, "result"),
    (Literal["a"], "b", "result"),
    (Annotated[int, Field(gt=0)], -1, "result"),
    (collections.deque[int], collections.deque([1], maxlen=2), "result"),
    (
        collections.defaultdict[str, list[int]],
        collections.defaultdict(None, {"a": [1]}),
        "result",
    ),
    (Annotated[collections.OrderedDict[str, int], AfterValidator(turned)], TWO, "result"),
    (Annotated[dict[str, int], AfterValidator(lambda it: it | {"b": 1})], {}, "result['b']"),
    (Movie, {"title": "a", "other": 1}, "result['other']"),
    (Movie, {"year": 1}, "result"),
    (Item, None, "result"),
    (Item, {"name": "a"}, "result"),
    (Item, Special(), "result"),
    (list[Item], [Item(), Special()], "result[1]"),
    (Special | Item, Item(), "result"),
    (Item, Item(extra=MOMENT), "result.extra"),
    (Item, Item(extra={"a": (1,)}), "result.extra['a']"),
    (Item, Item(extra=[math.nan]), "result.extra[0]"),
    (Item, Item(extra=print), "result.extra"),
    (Item, Item.model_construct(name=1), "result.name"),
    (dict[str, list[Item]], {"a": [Item(), Item(extra=object())]}, "result['a'][1].extra"),
    (Tree, Tree(children=[Tree.model_construct(when=3)]), "result.children[0].when"),
    (Open, OPEN.model_copy(update={"other": (1,)}), "result.other"),
    (Excluded, Excluded(shown=1, kept=1), "result.kept"),
    (Restless, Restless(count=1), "result.count"),
    (Box, Box(content=b""), "result.content"),
    (Point, Point(1, [Point("a")]), "result.others[0].x"),  # type: ignore[arg-type]
    (Unset, Unset(), "result"),
]


@pytest.mark.parametrize(("annotation", "value"), cases(GOOD))
def test_a_value_comes_back_as_it_was(annotation: Any, value: Any) -> None:
    again = there_and_back(annotation, value)

    assert described(again) == described(value)


@pytest.mark.parametrize(("annotation", "value", "path"), cases(BAD))
def test_a_value_that_would_not_is_refused_with_its_path(
    annotation: Any, value: Any, path: str
) -> None:
    error = refusal(annotation, value)

    assert error.path == path
    assert str(error).startswith(path)


def described(value: Any) -> Any:
    """Return what is equal only for values that are the same: types, texts and parts."""
    kind = type(value).__qualname__
    if isinstance(value, BaseModel):
        inside = {**value.__dict__, **(value.model_extra or {})}
        return kind, [(name, described(part)) for name, part in sorted(inside.items())]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return kind, [described(getattr(value, name, None)) for name in names]
    if isinstance(value, dict):
        return kind, sorted([(described(key), described(item)) for key, item in value.items()])
    if isinstance(value, set | frozenset):
        return kind, sorted(described(item) for item in value)
    if isinstance(value, list | tuple | collections.deque):
        return kind, [described(item) for item in value]
    return kind, repr(value)
