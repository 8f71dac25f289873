"""Values that are easily lost: set later, cached, nested too deep, or written in an own way."""

import datetime as dt
import math
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainSerializer, model_validator

from outlast.codec import LEVELS, codec_for, is_same, to_text
from outlast.errors import CodecError
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
    Tree,
    Unset,
    nested,
    refusal,
    there_and_back,
)


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


def different_plain_values() -> Iterator[Any]:
    yield from (None, True, False, 0, 1, 1.0, math.nan, "", "1", [], [1], [1.0], {}, {"a": 1})
    yield from ({"a": True}, {"b": 1}, {"a": 1, "b": 2}, [[]], [{}])


def test_plain_values_are_the_same_only_if_their_types_are() -> None:
    for position, one in enumerate(different_plain_values()):
        for place, other in enumerate(different_plain_values()):
            assert is_same(one, other) == (position == place), (one, other)

    assert is_same({"a": 1, "b": 2}, {"b": 2, "a": 1})
