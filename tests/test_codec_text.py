"""The text of plain values."""

import math
from typing import Any

import pytest

from outlast.codec import LEVELS, from_text, to_text
from outlast.errors import CodecError, Corrupt
from tests.codec_values import nested


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
