"""What comes back after a crash is what was there before it, or was refused."""

import collections
import dataclasses
import datetime as dt
import enum
import functools
import math
import re
import sys
import typing
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    ImportString,
    JsonValue,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretStr,
    TypeAdapter,
    computed_field,
    create_model,
    field_serializer,
    model_validator,
)
from pydantic import dataclasses as pydantic_dataclasses
from typing_extensions import TypeAliasType, TypedDict

from outlast.codec import LEVELS, Codec, codec_for, from_text, is_same, result_codec, to_text
from outlast.codec.schema import fitted
from outlast.errors import CodecError, Corrupt, UsageError

UTC = dt.UTC
SUMMER = dt.timezone(dt.timedelta(hours=2))
T = TypeVar("T")


def there_and_back(annotation: Any, value: Any) -> Any:
    codec = codec_for(annotation, where="a test")
    return codec.load(from_text(to_text(codec.dump(value))))


def refusal(annotation: Any, value: Any) -> CodecError:
    with pytest.raises(CodecError) as caught:
        codec_for(annotation, where="a test").dump(value)
    return caught.value


def declined(annotation: Any) -> str:
    with pytest.raises(UsageError) as caught:
        codec_for(annotation, where="the result of plan()")
    assert str(caught.value).startswith("the result of plan(): ")
    return str(caught.value)


def nested(levels: int, innermost: Any = 0) -> Any:
    for _ in range(levels):
        innermost = [innermost]
    return innermost


def turned(value: collections.OrderedDict[str, int]) -> collections.OrderedDict[str, int]:
    return collections.OrderedDict(reversed(value.items()))


def cases(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the rows numbered: some values have no short text."""
    return [pytest.param(*row, id=str(number)) for number, row in enumerate(rows)]


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


class Item(BaseModel):
    name: str = ""
    data: bytes = b""
    score: float = 0.5
    when: dt.datetime | None = None
    extra: Any = None


class Special(Item):
    more: int = 1


class Tree(BaseModel):
    children: list["Tree"] = []
    when: dt.datetime | None = None


class Aliased(BaseModel):
    plain: int = Field(alias="Plain")
    split: int = Field(validation_alias=AliasChoices("a", AliasPath("b", 0)), alias="q")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int


class Hidden(BaseModel):
    known: int
    _note: str = PrivateAttr(default="")


class Excluded(BaseModel):
    shown: int
    kept: int = Field(default=0, exclude=True)


class Computed(BaseModel):
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2

    @cached_property
    def half(self) -> float:
        return self.side / 2


class Hex(BaseModel):
    model_config = ConfigDict(
        ser_json_bytes="hex", val_json_bytes="hex", ser_json_inf_nan="null", defer_build=True
    )
    data: bytes
    score: float


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


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    key: UUID
    uses: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class Derived:
    side: int
    factor: dataclasses.InitVar[int] = 2
    area: int = dataclasses.field(init=False)

    def __post_init__(self, factor: int) -> None:
        self.area = self.side * factor
        self.note = "made"

    @cached_property
    def half(self) -> float:
        return self.side / 2


@dataclasses.dataclass
class Unset:
    late: int = dataclasses.field(init=False)


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
Deep = TypeAliasType("Deep", "list[Deep] | int")
TWO = collections.OrderedDict(a=1, b=2)
NAIVE = dt.datetime.fromisoformat("2026-01-01")
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

ALIASED = Aliased.model_validate({"Plain": 1, "a": 2})
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


def test_what_was_set_after_a_dataclass_was_made_comes_back_or_is_refused() -> None:
    slotted, derived = Slotted(UUID(int=1)), Derived(2)
    object.__setattr__(slotted, "uses", 7)
    derived.note = "changed"

    assert there_and_back(Slotted, slotted).uses == 7
    assert refusal(Derived, derived).path == "result.note"


def test_a_field_that_is_only_set_later_would_be_lost() -> None:
    late = Unset()
    late.late = 1

    error = refusal(Unset, late)

    assert error.path == "result.late"
    assert "would be lost" in str(error)


def test_a_private_attribute_that_is_not_as_made_is_refused() -> None:
    hidden = Hidden(known=1)
    hidden._note = "changed"

    assert refusal(Hidden, hidden).path == "result._note"


def test_what_is_cached_on_a_value_is_no_part_of_it() -> None:
    computed, derived = Computed(side=2), Derived(2)
    assert computed.half == derived.half == 1.0

    assert "half" not in there_and_back(Computed, computed).__dict__
    assert "half" not in there_and_back(Derived, derived).__dict__


def test_a_deprecated_field_is_written_without_a_warning() -> None:
    class Old(BaseModel):
        name: str = Field(deprecated=True)

    assert there_and_back(Old, Old(name="a")).model_dump() == {"name": "a"}


def test_an_offset_that_pydantic_parsed_comes_back_as_that_of_the_standard_library() -> None:
    parsed = Item.model_validate_json('{"when": "2026-01-01T00:00:00+02:00"}')

    again = there_and_back(Item, parsed)

    assert again == parsed
    assert again.when.tzinfo == SUMMER
    assert type(again.when.tzinfo) is dt.timezone


def test_what_is_written_does_not_depend_on_the_settings_of_a_model() -> None:
    codec = codec_for(Hex, where="a test")

    assert to_text(codec.dump(Hex(data=b"\xff", score=math.nan))) == '{"data":"_w==","score":NaN}'


def test_what_is_written_has_the_names_of_fields() -> None:
    codec = codec_for(Aliased, where="a test")

    assert codec.dump(ALIASED) == {"plain": 1, "split": 2}


def test_the_name_of_the_value_begins_the_path() -> None:
    codec = codec_for(list[int], where="a test")

    with pytest.raises(CodecError, match=r"^input\[0\] is 'a' \(str\)") as caught:
        codec.dump(["a"], root="input")

    assert caught.value.path == "input[0]"


def test_what_is_dumped_and_loaded_shares_nothing_with_what_was_given() -> None:
    codec = codec_for(dict[str, Any], where="a test")
    value = {"a": [1]}

    data = codec.dump(value)
    loaded = codec.load(data)
    value["a"].append(2)
    loaded["a"].append(3)

    assert data == {"a": [1]}


@pytest.mark.parametrize("annotation", [Any, list[Any], Deep, JsonValue])
def test_a_value_may_be_nested_to_the_last_level_and_no_deeper(annotation: Any) -> None:
    assert there_and_back(annotation, nested(LEVELS)) == nested(LEVELS)

    for levels in (LEVELS + 1, LEVELS + 2, 254, 255, 300, 100_000):
        assert f"more than {LEVELS} levels" in str(refusal(annotation, nested(levels)))


def test_a_tree_may_have_as_many_levels_as_its_text() -> None:
    tree = Tree()
    for _ in range(LEVELS // 2 - 1):
        tree = Tree(children=[tree])

    assert there_and_back(Tree, tree) == tree
    assert f"more than {LEVELS} levels" in str(refusal(list[Tree], [tree]))
    assert f"more than {LEVELS} levels" in str(refusal(Tree, Tree(children=[tree])))


@pytest.mark.parametrize("annotation", [Any, list[Any], Deep, Item])
def test_a_value_that_contains_itself_is_refused(annotation: Any) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    value = Item(extra=cycle) if annotation is Item else cycle

    assert "contains itself" in str(refusal(annotation, value))


def test_text_of_ten_megabytes_passes() -> None:
    text = "x" * 10_000_000
    accents = "é" * 5_000_000

    assert there_and_back(str, text) == text
    assert there_and_back(dict[str, Any], {"a": accents}) == {"a": accents}
    assert there_and_back(Item, Item(name=text)).name == text


def test_data_that_does_not_fit_a_changed_type_is_refused_with_its_path() -> None:
    codec = codec_for(dict[str, Item], where="a test")

    with pytest.raises(CodecError) as caught:
        codec.load({"a": {"name": 1}})

    assert caught.value.path == "result['a']['name']"


def test_what_a_validator_raises_is_a_codec_error() -> None:
    class Broken(BaseModel):
        name: str

        @model_validator(mode="after")
        def _break(self) -> "Broken":
            raise KeyError(self.name)

    with pytest.raises(CodecError, match="KeyError"):
        codec_for(Broken, where="a test").load({"name": "a"})


class Odd:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__


def test_what_cannot_be_compared_is_not_known_to_come_back() -> None:
    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        odd: Annotated[Any, PlainSerializer(lambda _: 1)] = None

        @model_validator(mode="after")
        def _fill(self) -> "Holder":
            self.odd = Odd()
            return self

    assert refusal(Holder, Holder()).path == "result.odd"


@dataclasses.dataclass
class Ranges:
    spans: list[range]


class Arbitrary(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    span: range


class Perhaps(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    span: range | None = None
    call: str | Callable[[], int] = ""


class Secretive(BaseModel):
    secret: SecretStr


class Required(BaseModel):
    shown: int
    kept: int = Field(exclude=True)


@dataclasses.dataclass
class Starting:
    side: int
    factor: dataclasses.InitVar[int]


class Linked(BaseModel):
    next: "Linked | None" = None
    spans: list[Arbitrary] = []


DECLINED: list[tuple[Any, str, str]] = [
    (range, "for range pydantic has no schema", "use a pydantic model"),
    (list[range], "list[range][...] is range", "use a pydantic model"),
    (Ranges, "Ranges.spans[...] is range", "use a pydantic model"),
    (dict[str, Ranges | None], "[...].spans[...] is range", "use a pydantic model"),
    (list[Annotated[range, "note"]], "[...] is range", "use a pydantic model"),
    (list[Arbitrary], "list[", "[...].span is a class that has no form in JSON (range)"),
    (Linked, "Linked.spans[...].span is", "use a pydantic model"),
    (Callable[[], int], "is a callable", "hand on its name"),
    (type[int], "is a class (int)", "hand on its name"),
    (typing.Iterable[int], "is an iterator", "use a list"),
    (SecretStr, "is a secret", "hand on where it is kept"),
    (Secretive, "Secretive.secret is a secret", "give its field a serializer"),
    (Required, "Required.kept is a field that is required", "give it a default"),
    (Starting, "Starting.factor is a field that is required", "give it a default"),
    (dict[tuple[int, int], str], "keys of kind tuple", "use str keys, or a list of pairs"),
    (dict[str, dict[frozenset[int], str]], "[...] is a dict with keys of kind frozenset", "pairs"),
    (ImportString, "which imports by name", "look it up in the code"),
    (list[ImportString[Any] | None], "which imports by name", "look it up in the code"),
]


@pytest.mark.parametrize(("annotation", "what", "remedy"), cases(DECLINED))
def test_a_type_that_cannot_come_back_is_refused_when_it_is_declared(
    annotation: Any, what: str, remedy: str
) -> None:
    message = declined(annotation)

    assert what in message
    assert remedy in message


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes typing.TypedDict there")
def test_the_remedy_for_a_typed_dict_of_typing_is_that_of_typing_extensions() -> None:
    class Film(typing.TypedDict):
        title: str

    assert "Film, for which" in declined(dict[str, Film])
    assert "use typing_extensions.TypedDict" in declined(Film)


def test_a_model_that_misses_a_name_says_so() -> None:
    class Loose(BaseModel):
        other: "Missing"  # type: ignore[name-defined]  # noqa: F821

    assert "model_rebuild()" in declined(Loose)


def test_a_type_passes_if_some_of_its_values_can_come_back() -> None:
    assert there_and_back(Perhaps, Perhaps()) == Perhaps()
    assert refusal(list[Perhaps], [Perhaps(span=range(1))]).path == "result[0].span"
    assert refusal(Perhaps, Perhaps(call=lambda: 1)).path == "result.call"


def test_the_codec_of_a_type_is_made_once() -> None:
    assert codec_for(list[Item], where="a") is codec_for(list[Item], where="b")
    assert codec_for(Item | Special, where="a") is not codec_for(Special | Item, where="a")


def test_an_annotation_without_a_hash_has_a_codec() -> None:
    annotation = Annotated[int, []]

    assert there_and_back(annotation, 1) == 1
    assert repr(codec_for(annotation, where="a test")) == "Codec(Annotated[int, []])"


def test_a_model_that_many_others_share_is_built_once() -> None:
    models: list[Any] = [create_model("First", name=(str, ""))]
    for number in range(20):
        fields = {"one": (models[-1] | None, None), "two": (models[-3:][0] | None, None)}
        models.append(create_model(f"Model{number}", **fields))  # type: ignore[call-overload]
    value = models[2](one=models[1](one=models[0](name="a")))

    made = fitted(dict(TypeAdapter(models[-1]).core_schema))

    assert len(made["definitions"]) <= 2 * len(models)
    assert there_and_back(models[-1] | models[2], value) == value


def test_a_type_that_nests_too_many_others_is_refused() -> None:
    nesting: Any = int
    for _ in range(2000):
        nesting = list[nesting]

    with pytest.raises(UsageError, match="nests too many others"):
        codec_for(nesting, where="a test")


def test_the_codec_of_a_result_is_made_once_for_a_function_however_it_is_called() -> None:
    class Tool:
        def run(self) -> list[int]:
            return []

    assert isinstance(result_codec(Tool().run), Codec)
    assert result_codec(Tool().run) is result_codec(Tool().run) is result_codec(Tool.run)
    assert result_codec(functools.partial(Tool().run)) is result_codec(Tool.run)


def test_a_codec_of_a_function_that_can_have_no_weak_reference_is_made_each_time() -> None:
    class Slotless:
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

        def __call__(self) -> int:
            return 1

    assert result_codec(Slotless()).annotation is int


def test_text_is_compact_json_and_not_escaped() -> None:
    text = to_text({"é": [1, 1.0, None, math.inf, -math.inf]})

    assert text == '{"é":[1,1.0,null,Infinity,-Infinity]}'


def test_text_that_wraps_a_value_of_all_its_levels_is_read() -> None:
    wrapped: Any = {"a": {"b": {"c": nested(LEVELS)}}}

    assert from_text(to_text(wrapped)) == wrapped


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", '"\\ud800"', "[" * 300, "[" * 100_000, "1" * 5000, b"\xff"]
)
def test_broken_text_is_corrupt(text: str | bytes) -> None:
    with pytest.raises(Corrupt):
        from_text(text)


@pytest.mark.parametrize("data", ["\ud800", object(), nested(300)])
def test_what_is_not_plain_has_no_text(data: Any) -> None:
    with pytest.raises(CodecError):
        to_text(data)


def different_plain_values() -> Iterator[Any]:
    yield from (None, True, False, 0, 1, 1.0, math.nan, "", "1", [], [1], [1.0], {}, {"a": 1})
    yield from ({"a": True}, {"b": 1}, {"a": 1, "b": 2}, [[]], [{}])


def test_plain_values_are_the_same_only_if_their_types_are() -> None:
    for position, one in enumerate(different_plain_values()):
        for place, other in enumerate(different_plain_values()):
            assert is_same(one, other) == (position == place), (one, other)

    assert is_same({"a": 1, "b": 2}, {"b": 2, "a": 1})
