"""Types and values for tests of the codec, and what comes of them."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from uuid import UUID

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    computed_field,
)
from typing_extensions import TypeAliasType

from outlast.codec import codec_for, from_text, to_text
from outlast.errors import CodecError

SUMMER = dt.timezone(dt.timedelta(hours=2))


def there_and_back(annotation: Any, value: Any) -> Any:
    codec = codec_for(annotation, where="a test")
    return codec.load(from_text(to_text(codec.dump(value))))


def refusal(annotation: Any, value: Any) -> CodecError:
    with pytest.raises(CodecError) as caught:
        codec_for(annotation, where="a test").dump(value)
    return caught.value


def nested(levels: int, innermost: Any = 0) -> Any:
    for _ in range(levels):
        innermost = [innermost]
    return innermost


def cases(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the rows numbered: some values have no short text."""
    return [pytest.param(*row, id=str(number)) for number, row in enumerate(rows)]


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


class Hidden(BaseModel):
    known: int
    _note: str = PrivateAttr(default="")


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


Deep = TypeAliasType("Deep", "list[Deep] | int")
ALIASED = Aliased.model_validate({"Plain": 1, "a": 2})
