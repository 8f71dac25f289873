"""What a change leaves in a journal: entries, head, card and lease."""

from __future__ import annotations

import pytest

from outlast.errors import UsageError
from outlast.journal import (
    FORCE,
    MAX_CARD_BYTES,
    NEVER,
    SNAPSHOT,
    Card,
    CardFields,
    Claim,
    Draft,
    Entry,
    Fence,
    Head,
    Lease,
    card_bytes,
    claim_order,
    claimable_in,
    is_claimable,
    is_held,
    numbered,
    take,
)
from tests.journals import (
    AT_REST,
    CLOSED,
    ENDED,
    FENCE,
    HELD,
    LEASE,
    NOW,
    ONE,
    WALL,
    change,
    conflict,
    fenced,
    write,
)

# What is written.


def test_a_new_journal_is_numbered_from_the_floor_on() -> None:
    said = change(revision=0, entries=ONE * 3)

    made = write(said, None, floor=40)

    assert made == Head(
        "k", 41, 43, created_at=WALL, updated_at=WALL, created=9, updated=9, card=Card()
    )
    assert [entry.revision for entry in numbered(said, made, WALL)] == [41, 42, 43]


def test_entries_are_numbered_after_those_that_are_there() -> None:
    entries = (Draft("a", "1", ("sha",)), Draft("b", "2"))
    said = change(entries=entries, touched=WALL)

    new = write(said, AT_REST, floor=40)

    assert (new.first, new.revision) == (1, 7)
    assert numbered(said, new, WALL) == [
        Entry(6, "a", "1", WALL, "c", ("sha",)),
        Entry(7, "b", "2", WALL, "c"),
    ]
    assert numbered(change(entries=()), new, WALL) == []


def test_the_head_keeps_what_a_change_does_not_say() -> None:
    old = Head(
        "k", 3, 5, 2, 4, closed=False, card=Card(kind="run", title="t", due=7.0),
        token=3, lease=LEASE, created_at=1.0, updated_at=2.0, created=3, updated=4,
    )  # fmt: skip

    new = write(change(fence=FENCE, entries=()), old)

    assert new == old._replace(updated_at=WALL, updated=9)


def test_a_change_sets_the_card_fields_that_it_names() -> None:
    old = AT_REST._replace(card=Card(kind="run", title="t", tags={"a": "b"}, due=7.0))

    new = write(change(card={"status": "done", "tags": {}, "due": NEVER}), old)

    assert new.card == Card(kind="run", title="t", status="done", tags={}, due=NEVER)


@pytest.mark.parametrize(
    ("before", "after"),
    [(NEVER, WALL), (WALL + 60, WALL), (WALL, WALL), (WALL - 60, WALL - 60)],
)
def test_a_fact_brings_due_to_now_and_the_smaller_wins(before: float | None, after: float) -> None:
    head = HELD._replace(card=Card(kind="run", due=before))

    assert write(change(fact=True), head).card == Card(kind="run", due=after)


def test_every_entry_of_a_fact_counts_and_of_a_decision_none() -> None:
    assert write(change(fact=True, entries=ONE * 3), AT_REST).facts == 5
    assert write(change(entries=ONE * 3), AT_REST).facts == 2


def test_since_is_the_newest_snapshot() -> None:
    snapshot = Draft(SNAPSHOT, "{}")

    first = write(change(entries=(*ONE, snapshot, *ONE, snapshot, *ONE)), AT_REST)
    second = write(change(), first)
    third = write(change(entries=(snapshot,)), second)

    assert [head.since for head in (AT_REST, first, second, third)] == [0, 9, 9, 12]
    assert write(change(revision=0, entries=(snapshot,)), None, floor=6).since == 7


def test_close_says_whether_it_is_closed_from_now_on() -> None:
    assert write(change(close=True), AT_REST).closed
    assert not write(change(close=False), AT_REST).closed
    assert not write(change(), AT_REST).closed
    assert write(change(closed=True), CLOSED).closed


# The card's limit.


def test_a_card_has_at_most_so_many_bytes() -> None:
    fits: CardFields = {"title": "é" * (MAX_CARD_BYTES // 2)}

    full = write(change(card=fits), AT_REST)

    assert card_bytes(full.card) == MAX_CARD_BYTES
    for name in ("kind", "name", "status", "queue", "session", "source"):
        with pytest.raises(UsageError, match=f"{MAX_CARD_BYTES + 1} bytes"):
            write(change(card={name: "x"}), full)
    for tags in ({"x": ""}, {"": "x"}):
        with pytest.raises(UsageError, match="bytes"):
            write(change(card={"tags": tags}), full)


def test_a_full_card_still_takes_facts_and_numbers() -> None:
    full = write(change(card={"title": "x" * MAX_CARD_BYTES}), AT_REST)

    assert write(change(fact=True), full).card.due == WALL
    assert write(change(card={"due": 1.0, "priority": 9}), full).card.priority == 9


# Leases.


def test_a_claim_takes_the_next_token() -> None:
    new = write(change(claim=Claim("another", 20, "theirs")), ENDED)

    assert new.token == 4
    assert new.lease == Lease("k", "another", Fence(4, "theirs"), NOW + 20)


def test_create_and_claim_is_one_write() -> None:
    new = write(change(revision=0, claim=Claim("worker", 20, "mine")), None)

    assert new.lease == Lease("k", "worker", Fence(1, "mine"), NOW + 20)


def test_a_claim_takes_only_a_free_lease() -> None:
    assert conflict(change(claim=Claim("another", 20, "theirs")), HELD).what == "lease"


def test_a_decision_voids_a_lease_that_has_ended() -> None:
    new = write(change(revision=5), ENDED)

    assert (new.lease, new.token) == (None, 3)
    fenced(change(fence=FENCE), new)


def test_neither_a_fact_nor_its_owner_voids_a_lease_that_has_ended() -> None:
    assert write(change(fact=True), ENDED).lease == ENDED.lease
    assert write(change(fence=FENCE), ENDED).lease == ENDED.lease


@pytest.mark.parametrize("release", [False, True])
def test_force_voids_the_lease(release: bool) -> None:
    new = write(change(fence=FORCE, release=release), HELD)

    assert (new.lease, new.token) == (None, 3)
    fenced(change(fence=FENCE), new)


def test_a_lease_is_held_until_its_end() -> None:
    assert is_held(HELD, NOW + 14.999)
    assert not is_held(HELD, NOW + 15)
    assert not is_held(AT_REST, NOW)
    assert (HELD.fence, ENDED.fence, AT_REST.fence) == (FENCE, FENCE, None)


def test_take_gives_the_next_token_and_touches_nothing_else() -> None:
    new = take(ENDED, "another", 20, "theirs", NOW)

    lease = Lease("k", "another", Fence(4, "theirs"), NOW + 20)
    assert new == ENDED._replace(token=4, lease=lease)
    assert str(lease.fence) == "4:theirs"


@pytest.mark.parametrize(
    ("due", "lease", "seconds"),
    [
        (NEVER, None, None),
        (NEVER, LEASE, None),
        (WALL - 9, None, 0),
        (WALL, None, 0),
        (WALL + 9, None, 9),
        (WALL - 9, LEASE, 15),
        (WALL + 9, LEASE, 15),
        (WALL + 20, LEASE, 20),
        (WALL + 9, ENDED.lease, 9),
        (WALL, ENDED.lease, 0),
        (WALL, LEASE._replace(until=NOW - 99), 0),
    ],
)
def test_it_is_claimable_once_it_is_due_and_nobody_holds_it(
    due: float | None, lease: Lease | None, seconds: float | None
) -> None:
    head = AT_REST._replace(card=Card(due=due), lease=lease)

    assert claimable_in(head, WALL, NOW) == seconds
    assert is_claimable(head, WALL, NOW) == (seconds == 0)
    if seconds is not None:
        assert is_claimable(head, WALL + seconds, NOW + seconds)


def test_larger_priority_first_then_due_then_key() -> None:
    def head(key: str, priority: int, due: float) -> Head:
        return Head(key, 1, 1, card=Card(priority=priority, due=due))

    wanted = [head("z", 5, 9), head("b", 0, 1), head("a", 0, 2), head("c", 0, 2), head("a", -1, 0)]

    mixed = [wanted[place] for place in (3, 0, 4, 2, 1)]
    assert sorted(mixed, key=claim_order) == wanted
