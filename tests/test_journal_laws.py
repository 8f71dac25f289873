"""Laws, for any history of a journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from outlast.errors import Conflict, Fenced, StoreError, UsageError
from outlast.journal import (
    BLOB_GRACE,
    FORCE,
    MAX_CARD_BYTES,
    SNAPSHOT,
    CardFields,
    Change,
    Claim,
    Draft,
    Entry,
    Fence,
    Head,
    allow,
    apply,
    card_bytes,
    is_held,
    numbered,
)
from tests.journals import NOW, WALL


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
