"""What a change may say, and who may write it."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.errors import UsageError
from outlast.journal import BLOB_GRACE, FORCE, MAX_KEY, Claim, Draft, Fence, Head
from tests.journals import (
    AT_REST,
    CLOSED,
    ENDED,
    FENCE,
    HELD,
    WALL,
    change,
    conflict,
    fenced,
    write,
)

# What a change may say at all.


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY + 1)])
def test_a_key_is_neither_empty_nor_too_long(key: str) -> None:
    with pytest.raises(UsageError, match="characters"):
        change(key=key)


def test_a_key_may_be_as_long_as_the_limit() -> None:
    assert len(change(key="x" * MAX_KEY).key) == MAX_KEY


def test_a_change_has_an_id() -> None:
    with pytest.raises(UsageError, match="id"):
        change(id="")


@pytest.mark.parametrize(
    "more",
    [
        {"fence": FENCE},
        {"fence": FORCE},
        {"card": {"due": 1.0}},
        {"close": True},
        {"close": False},
        {"claim": Claim("worker", 15, "id")},
        {"release": True},
    ],
)
def test_a_fact_only_says_that_something_happened(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="fact"):
        change(fact=True, **more)


@pytest.mark.parametrize("more", [{"fence": FENCE}, {"fence": FORCE}, {"release": True}])
def test_who_claims_shows_no_fence_and_releases_nothing(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="claims"):
        change(claim=Claim("worker", 15, "id"), **more)


def test_who_names_blobs_says_when_they_were_touched() -> None:
    blobs = (Draft("a", "1"), Draft("b", "2", ("sha",)))

    with pytest.raises(UsageError, match="blobs"):
        change(entries=blobs)
    assert change(entries=blobs, touched=WALL).touched == WALL


def test_a_create_has_an_entry_that_keeps_its_id() -> None:
    with pytest.raises(UsageError, match="entry"):
        change(revision=0, entries=())
    assert change(entries=()).entries == ()


# Who writes: the rows of the table, and who does not.


@pytest.mark.parametrize("head", [HELD, ENDED])
def test_the_holder_writes_whatever_the_revision(head: Head) -> None:
    assert write(change(fence=FENCE), head).lease == head.lease


@pytest.mark.parametrize("head", [HELD, ENDED])
def test_the_holder_at_an_edge_expects_the_facts(head: Head) -> None:
    assert write(change(fence=FENCE, facts=2, release=True), head).lease is None
    said = conflict(change(fence=FENCE, facts=1, release=True), head)
    assert (said.what, said.expected, said.actual) == ("facts", 1, 2)


@pytest.mark.parametrize("head", [AT_REST, ENDED])
def test_anyone_decides_while_no_lease_is_held(head: Head) -> None:
    assert write(change(revision=5), head).revision == 6
    said = conflict(change(revision=4), head)
    assert (said.what, said.expected, said.actual) == ("revision", 4, 5)


def test_nobody_else_decides_while_a_lease_is_held() -> None:
    said = conflict(change(revision=5), HELD)

    assert (said.what, said.expected, said.actual) == ("lease", None, "3:mine")


def test_a_create_expects_that_nothing_is_there_and_the_floor() -> None:
    made = write(change(revision=0, first=8), None, floor=7)

    assert (made.first, made.revision) == (8, 8)
    said = conflict(change(revision=0, first=8), None, floor=9)
    assert (said.what, said.expected, said.actual) == ("first", 8, 10)
    said = conflict(change(revision=0), AT_REST)
    assert (said.what, said.expected, said.actual) == ("revision", 0, 5)


def test_where_nothing_is_there_facts_are_none_and_nothing_is_closed() -> None:
    assert write(change(revision=0, facts=0, closed=False), None).revision == 1
    assert conflict(change(revision=0, facts=1), None).what == "facts"
    assert conflict(change(revision=0, closed=True), None).what == "closed"


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"revision": 5},
        {"first": 1},
        {"fence": FORCE},
        {"fact": True},
        {"claim": Claim("w", 1, "i")},
    ],
)
def test_only_a_create_makes_a_journal(details: dict[str, Any]) -> None:
    said = conflict(change(**details), None)

    assert (said.what, said.expected, said.actual) == ("revision", details.get("revision"), 0)


def test_a_fact_that_expects_nothing_to_be_there_is_refused_all_the_same() -> None:
    said = conflict(change(fact=True, revision=0), None)

    assert (said.what, said.expected, said.actual) == ("revision", None, 0)


@pytest.mark.parametrize("head", [AT_REST, HELD, ENDED])
def test_anyone_states_a_fact_at_any_time(head: Head) -> None:
    new = write(change(fact=True), head)

    assert (new.revision, new.facts, new.lease) == (6, 3, head.lease)


def test_a_new_input_expects_the_facts() -> None:
    assert write(change(fact=True, facts=2), HELD).facts == 3
    assert conflict(change(fact=True, facts=3), HELD).what == "facts"


@pytest.mark.parametrize("head", [AT_REST, HELD, ENDED])
def test_an_aborter_writes_at_any_time(head: Head) -> None:
    new = write(change(fence=FORCE, close=True, release=True, card={"due": WALL}), head)

    assert (new.closed, new.lease, new.token, new.card.due) == (True, None, 3, WALL)


@pytest.mark.parametrize(
    "details",
    [
        {"revision": 5},
        {"fact": True},
        {"fence": FORCE, "close": True},
        {"claim": Claim("w", 1, "i")},
    ],
)
def test_a_closed_journal_refuses_decisions_facts_and_aborts(details: dict[str, Any]) -> None:
    said = conflict(change(**details), CLOSED)

    assert (said.what, said.expected, said.actual) == ("closed", False, True)


def test_the_holder_of_a_closed_run_expects_it_closed() -> None:
    head = HELD._replace(closed=True)

    assert write(change(fence=FENCE, closed=True), head).closed
    assert conflict(change(fence=FENCE), head).what == "closed"
    assert conflict(change(fence=FENCE, closed=True), HELD).what == "closed"


def test_a_retry_opens_what_was_closed() -> None:
    assert not write(change(revision=5, closed=True, close=False), CLOSED).closed


# Fences.


@pytest.mark.parametrize("fence", [Fence(2, "mine"), Fence(4, "mine"), Fence(3, "theirs")])
@pytest.mark.parametrize("head", [HELD, ENDED])
def test_another_fence_is_refused(head: Head, fence: Fence) -> None:
    assert fenced(change(fence=fence), head).current == FENCE


@pytest.mark.parametrize("head", [None, AT_REST])
def test_a_fence_is_refused_where_there_is_no_lease(head: Head | None) -> None:
    assert fenced(change(fence=FENCE, revision=0), head).current is None


def test_the_lease_is_asked_before_what_is_expected() -> None:
    wrong: dict[str, Any] = {"first": 9, "revision": 9, "facts": 9, "closed": True}

    fenced(change(fence=Fence(2, "old"), **wrong), HELD)
    assert conflict(change(**wrong), HELD).what == "lease"
    assert conflict(change(fact=True, **wrong), HELD).what == "first"
    assert conflict(change(fence=FORCE, **wrong), HELD).what == "first"


def test_what_is_expected_is_asked_in_order() -> None:
    wrong: dict[str, Any] = {"first": 9, "revision": 9, "facts": 9, "closed": True}
    asked = []
    while wrong:
        asked.append(conflict(change(**wrong), AT_REST).what)
        del wrong[asked[-1]]

    assert asked == ["first", "revision", "facts", "closed"]


# Blobs.


@pytest.mark.parametrize("touched", [WALL, WALL - BLOB_GRACE / 2, WALL + 99])
def test_blobs_may_be_named_within_half_the_sweeps_grace(touched: float) -> None:
    new = write(change(entries=(Draft("a", "1", ("sha",)),), touched=touched), AT_REST)

    assert new.revision == 6


@pytest.mark.parametrize("details", [{}, {"fact": True}, {"fence": FORCE}, {"revision": 99}])
def test_blobs_touched_longer_ago_must_be_put_again(details: dict[str, Any]) -> None:
    touched = WALL - BLOB_GRACE / 2 - 0.001

    said = conflict(change(touched=touched, **details), AT_REST)

    assert (said.what, said.actual) == ("blobs", touched)
