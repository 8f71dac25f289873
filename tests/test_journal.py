from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.errors import Conflict, Fenced, StoreError, UsageError
from outlast.journal import (
    BLOB_GRACE,
    FORCE,
    MAX_CARD_BYTES,
    MAX_KEY,
    NEVER,
    SNAPSHOT,
    Card,
    CardFields,
    Change,
    Claim,
    Draft,
    Entry,
    Fence,
    Head,
    Lease,
    allow,
    apply,
    card_bytes,
    claim_order,
    claimable_in,
    is_claimable,
    is_held,
    numbered,
    take,
)

NOW = 5_000.0
WALL = 1_700_000_000.0
FENCE = Fence(3, "mine")
LEASE = Lease("k", "worker", FENCE, NOW + 15)

AT_REST = Head("k", first=1, revision=5, facts=2, token=3)
HELD = AT_REST._replace(lease=LEASE)
ENDED = AT_REST._replace(lease=LEASE._replace(until=NOW))
CLOSED = AT_REST._replace(closed=True)

ONE = (Draft("said", "1"),)


def change(**details: Any) -> Change:
    return Change(**{"key": "k", "id": "c", "entries": ONE} | details)


def write(said: Change, head: Head | None, floor: int = 0) -> Head:
    allow(said, head, floor, now=NOW, wall=WALL)
    return apply(said, head, floor, now=NOW, wall=WALL, updated=9)


def conflict(said: Change, head: Head | None, floor: int = 0) -> Conflict:
    with pytest.raises(Conflict) as refused:
        allow(said, head, floor, now=NOW, wall=WALL)
    assert refused.value.key == "k"
    return refused.value


def fenced(said: Change, head: Head | None) -> Fenced:
    with pytest.raises(Fenced) as refused:
        allow(said, head, 0, now=NOW, wall=WALL)
    assert (refused.value.key, refused.value.fence) == ("k", said.fence)
    return refused.value


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


# Laws, for any history of a journal.


@dataclass
class History:
    """One journal and its store, as the rules alone have it."""

    floor: int
    head: Head | None = None
    entries: list[Entry] = field(default_factory=list)
    facts: int = 0
    fences: list[Fence] = field(default_factory=list)
    now: float = NOW
    wall: float = WALL
    updated: int = 0


Hint = Literal["none", "right", "wrong"]


@dataclass(frozen=True)
class Said:
    """A change in the making: what it expects is said when the head is known."""

    types: tuple[str, ...]
    kind: Literal["fact", "holder", "late", "anyone", "force", "claim"]
    release: bool
    close: bool | None
    card: CardFields
    first: Hint
    revision: Hint
    facts: Hint
    closed: bool
    touched: float | None
    passes: float

    def change(self, history: History) -> Change:
        head = history.head
        first, revision, facts = (
            (head.first, head.revision, head.facts) if head else (history.floor + 1, 0, 0)
        )

        def expected(hint: Hint, actual: int) -> int | None:
            return {"none": None, "right": actual, "wrong": actual + 1}[hint]

        alone = self.kind in ("fact", "claim")
        fence: Fence | Literal["force"] | None = None
        match self.kind:
            case "holder":
                fence = head.fence if head else None
            case "late" if history.fences:
                fence = history.fences[0]
            case "force":
                fence = "force"
            case _:
                pass
        return Change(
            key="k",
            id=f"c{history.updated}",
            entries=tuple(Draft(type, "1") for type in self.types),
            fact=self.kind == "fact",
            fence=fence,
            card={} if self.kind == "fact" else self.card,
            close=None if self.kind == "fact" else self.close,
            claim=Claim("w", 9.0, f"f{history.updated}") if self.kind == "claim" else None,
            release=self.release and not alone,
            first=expected(self.first, first),
            revision=expected(self.revision, revision) if head else 0,
            facts=expected(self.facts, facts),
            closed=self.closed,
            touched=None if self.touched is None else history.wall - self.touched,
        )


hints: st.SearchStrategy[Hint] = st.sampled_from(["none", "none", "right", "right", "wrong"])
cards: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "due": st.none() | st.floats(WALL - 50, WALL + 50),
        "status": st.text(max_size=3) | st.just("s" * 5_000),
        "title": st.text(max_size=3) | st.just("é" * 2_000),
        "priority": st.integers(-2, 2),
        "tags": st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
    },
)
changes = st.builds(
    Said,
    types=st.lists(st.sampled_from(["said", SNAPSHOT]), min_size=1, max_size=3).map(tuple)
    | st.just(("said",)),
    kind=st.sampled_from(["fact", "holder", "holder", "late", "anyone", "force", "claim"]),
    release=st.booleans(),
    close=st.sampled_from([None, None, None, True, False]),
    card=cards,
    first=hints,
    revision=hints,
    facts=hints,
    closed=st.sampled_from([False, False, True]),
    touched=st.sampled_from([None, None, 0.0, BLOB_GRACE]),
    passes=st.sampled_from([0.0, 1.0, 9.0]),
)


@given(floor=st.integers(0, 3), sayings=st.lists(changes, max_size=25))
def test_laws_of_every_history(floor: int, sayings: list[Said]) -> None:
    history = History(floor)
    for said in sayings:
        history.now += said.passes
        history.wall += said.passes
        try:
            step(history, said.change(history))
        except StoreError as error:
            assert_is_explained(error, history.head)
        except UsageError as error:
            assert "card" in str(error)  # noqa: PT017 - the only other refusal


def step(history: History, said: Change) -> None:
    old = history.head
    allow(said, old, history.floor, now=history.now, wall=history.wall)
    new = apply(
        said, old, history.floor,
        now=history.now, wall=history.wall, updated=history.updated + 1,
    )  # fmt: skip
    history.updated += 1
    history.entries += numbered(said, new, history.wall)
    history.facts += len(said.entries) if said.fact else 0
    history.head = new

    # The head is the sum of its entries.
    assert new.first == history.floor + 1
    assert [entry.revision for entry in history.entries] == list(range(new.first, new.revision + 1))
    assert new.facts == history.facts
    snapshots = [entry.revision for entry in history.entries if entry.type == SNAPSHOT]
    assert new.since == max(snapshots, default=0)
    assert card_bytes(new.card) <= MAX_CARD_BYTES
    # Nothing goes back.
    assert new.token == len(history.fences) + (said.claim is not None)
    assert new.updated > (old.updated if old else 0)
    # A lease has the newest fence, and only its owner's writes and facts keep it.
    if new.lease:
        assert new.lease.fence.token == new.token
        assert new.lease.fence not in history.fences or said.fact or said.fence == new.fence
    if said.claim and new.lease:
        history.fences.append(new.lease.fence)
    if said.fact:
        assert old is not None
        assert (new.lease, new.closed, new.token) == (old.lease, old.closed, old.token)
        assert new.card._replace(due=None) == old.card._replace(due=None)
        assert new.card.due is not None
        assert new.card.due <= history.wall
    if old and is_held(old, history.now) and not said.fact:
        assert said.fence in (FORCE, old.fence)


def assert_is_explained(error: StoreError, head: Head | None) -> None:
    match error:
        case Fenced():
            assert error.current == (head.fence if head else None)
            assert error.fence != error.current
        case Conflict():
            assert error.expected != error.actual
            assert error.what in ("first", "revision", "facts", "closed", "lease", "blobs")
        case _:
            raise AssertionError(error)
