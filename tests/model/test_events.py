"""How events stand in a journal, for ever."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.errors import Corrupt
from outlast.journal import Draft, Entry
from outlast.model import events as module
from outlast.model.events import (
    END_TYPES,
    FOLDED_TYPES,
    FORMAT,
    STREAM_TYPES,
    TYPE_OF,
    Checkpointed,
    Created,
    Decision,
    Emitted,
    Ended,
    Event,
    Fact,
    Snapshot,
    Status,
    StreamEvent,
    TakenBack,
    decode,
    encode,
)
from tests.model.test_run import EVENTS, JSON

ALL: st.SearchStrategy[Event | StreamEvent] = st.one_of(
    EVENTS,
    st.builds(
        Created,
        st.text(min_size=1),
        JSON,
        st.text(),
        st.floats(0, 1e10),
        tags=st.just({"a": "b"}),
        options=st.just({"retry": {"max_attempts": 3}}),
    ),
    st.builds(Emitted, st.integers(1), st.integers(1), JSON, st.none() | st.text(), st.integers(0)),
    st.builds(Snapshot, st.dictionaries(st.text(max_size=3), JSON, max_size=2)),
    st.builds(TakenBack, st.integers(1), st.integers(0), st.integers(1), st.none() | st.text()),
)


def entry_of(draft: Draft) -> Entry:
    return Entry(1, draft.type, draft.data, 50.0, "c")


@given(ALL)
def test_every_event_comes_back_as_it_was(event: Event | StreamEvent) -> None:
    again = decode(entry_of(encode(event)))

    assert again == event
    assert type(again) is type(event)


@given(ALL)
def test_what_a_later_version_adds_is_left_out(event: Event | StreamEvent) -> None:
    draft = encode(event)
    data = {**json.loads(draft.data), "of a later version": [1, 2]}

    assert decode(entry_of(Draft(draft.type, json.dumps(data)))) == event


def test_a_field_that_has_its_default_is_left_out() -> None:
    created = Created("task", None, "i", 1.0)

    assert json.loads(encode(created).data) == {
        "name": "task",
        "input": None,
        "input_id": "i",
        "due": 1.0,
    }
    assert decode(entry_of(encode(created))) == created
    assert created.format == FORMAT


def test_values_that_equal_nothing_are_written() -> None:
    nothings: list[Any] = [False, 0, "", [], {}]
    for value in nothings:
        event = decode(entry_of(encode(Ended(Status.COMPLETED, value))))
        assert isinstance(event, Ended)
        assert event.output == value
        assert type(event.output) is type(value)


def test_a_span_and_a_status_come_back_with_their_types() -> None:
    checkpoint = decode(entry_of(encode(Checkpointed("step", "a", 1, 0, span=(1, 3)))))
    ended = decode(entry_of(encode(Ended(Status.FAILED))))

    assert isinstance(checkpoint, Checkpointed)
    assert checkpoint.span == (1, 3)
    assert isinstance(ended, Ended)
    assert ended.status is Status.FAILED


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("of somebody else", "{}"),
        ("ended", "[]"),
        ("ended", "{}"),
        ("ended", '{"status": "lost"}'),
        ("checkpointed", '{"kind": "step", "name": "a", "number": 1, "after": 0, "span": 1}'),
        ("signalled", '{"name": "a"'),
    ],
    ids=["type", "form", "missing", "status", "span", "json"],
)
def test_what_is_no_event_of_ours_is_corrupt(type: str, data: str) -> None:
    with pytest.raises(Corrupt):
        decode(Entry(7, type, data, 50.0, "c"))


def test_every_event_is_folded_or_streamed_and_has_a_type_of_its_own() -> None:
    classes: list[Any] = [*get_args(Decision), *get_args(Fact), *get_args(StreamEvent)]
    types = [TYPE_OF[cls] for cls in classes]

    assert sorted(types) == sorted(FOLDED_TYPES + STREAM_TYPES)
    assert len(set(types)) == len(types)
    assert set(END_TYPES) < set(FOLDED_TYPES)
    assert module.FORMAT == 1
