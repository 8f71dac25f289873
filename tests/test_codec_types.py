"""Which types have a codec, and that it is made once."""

import dataclasses
import functools
import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ImportString,
    SecretStr,
    TypeAdapter,
    create_model,
)

from outlast.codec import Codec, codec_for, result_codec
from outlast.codec.schema import fitted
from outlast.errors import UsageError
from tests.codec_values import Item, Special, cases, refusal, there_and_back


def declined(annotation: Any) -> str:
    with pytest.raises(UsageError) as caught:
        codec_for(annotation, where="the result of plan()")
    assert str(caught.value).startswith("the result of plan(): ")
    return str(caught.value)


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
