"""Journals, their heads, and the rules of a commit.

A *journal* is a list of entries under one key, numbered consecutively; it is only ever appended to.
Its *head* is the one record that a store keeps beside it. A *lease* is the right to act on it.
A *change* is what somebody wants written, and what they take for granted.

This module holds what every store must do, as pure functions of a change and a head. It knows
neither runs nor clocks, and a store that asks it cannot get the rules wrong. The one rule that must
not be broken: a change is written whole, or not at all, and once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict

from outlast.errors import Conflict, Fenced, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CARD_BYTES: Final = 8 * 1024
MAX_KEY: Final = 300
"""Characters of a key: an id or a name has at most 200, and rooms put a word or two around it."""

SNAPSHOT: Final = "snapshot"
"""The type of an entry that holds the whole state; a head's `since` is that of the newest one."""

NEVER: Final[None] = None
"""A `due` that does not come: the journal rests."""

FORCE: Final = "force"
"""In place of a fence: whoever holds the lease loses it."""


class Draft(NamedTuple):
    """An entry that is not written yet: its type, its JSON text, and the blobs that it names."""

    type: str
    data: str
    blobs: tuple[str, ...] = ()


class Entry(NamedTuple):
    """One written entry; `at` is the store's clock in seconds since 1970, and orders nothing."""

    revision: int
    type: str
    data: str
    at: float
    change: str
    blobs: tuple[str, ...] = ()


class Card(NamedTuple):
    """What a journal amounts to, for those who look for it.

    The model computes it; a store indexes it and never interprets it.
    """

    kind: str = ""
    name: str = ""
    title: str = ""
    status: str = ""
    queue: str = ""
    due: float | None = NEVER
    priority: int = 0
    tags: Mapping[str, str] = MappingProxyType({})
    session: str = ""
    source: str = ""


class CardFields(TypedDict, total=False):
    """The fields of a card that a change sets; the others stay as they are."""

    kind: str
    name: str
    title: str
    status: str
    queue: str
    due: float | None
    priority: int
    tags: Mapping[str, str]
    session: str
    source: str


class Fence(NamedTuple):
    """What tells one lease from every other: a token that only grows, and an id drawn by chance.

    Nobody else draws that id. It makes it safe where the token starts again: a journal deleted and
    made anew, a server that lost its last writes.
    """

    token: int
    id: str

    def __str__(self) -> str:
        return f"{self.token}:{self.id}"


class Lease(NamedTuple):
    """The right to act on a journal until `until`, by the store's clock for leases."""

    key: str
    owner: str
    fence: Fence
    until: float


class Claim(NamedTuple):
    """A lease that a change takes with what it writes: for `owner`, for `ttl` seconds, as `id`."""

    owner: str
    ttl: float
    id: str


class Head(NamedTuple):
    """The one record per journal.

    Attributes:
        first: the revision of its first entry, also when it was deleted and made anew.
        revision: that of its last one.
        facts: how many of its entries came from outside.
        since: the revision of its newest snapshot, or 0.
        closed: whether it takes decisions and facts no more.
        token: the highest that a lease of it ever had.
        lease: held, or ended and not yet void; None where there is none.
        created: the store's own count of writes when it was made; orders journals by age.
        updated: that count at its last write; orders journals by last update.
    """

    key: str
    first: int
    revision: int
    facts: int = 0
    since: int = 0
    closed: bool = False
    card: Card = Card()
    token: int = 0
    lease: Lease | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    created: int = 0
    updated: int = 0

    @property
    def fence(self) -> Fence | None:
        """The fence of the lease, held or not."""
        return self.lease.fence if self.lease else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be written to one journal, and what its writer takes for granted.

    Attributes:
        key: the journal.
        id: the same whenever this change is said again; unique in its journal.
        entries: what is appended, in this order.
        fact: it says that something happened outside; anybody may say so while the journal is open.
        fence: of the lease that the writer holds; `FORCE` takes it from whoever does.
        card: the fields that it sets. A fact sets none: it brings `due` to now by itself.
        close: whether the journal is closed from now on; None leaves it as it is.
        claim: take the free lease with what is written.
        release: give the lease back with what is written.
        first, revision, facts: expected of the head; None: not asked. Of a journal that is not
            there, `first` is the store's floor + 1, `revision` and `facts` are 0.
        closed: expected of the head, and always asked.
        touched: the store's time of the last touch of the blobs that the entries name; None: they
            name none.
    """

    key: str
    id: str
    entries: tuple[Draft, ...] = ()
    fact: bool = False
    fence: Fence | Literal["force"] | None = None
    card: CardFields = field(default_factory=CardFields)
    close: bool | None = None
    claim: Claim | None = None
    release: bool = False
    first: int | None = None
    revision: int | None = None
    facts: int | None = None
    closed: bool = False
    touched: float | None = None

    def __post_init__(self) -> None:
        if not self.key or len(self.key) > MAX_KEY:
            raise UsageError(
                f"a journal's key has 1 to {MAX_KEY} characters, not {len(self.key)}: "
                f"{self.key[:60]!r}"
            )
        if not self.id:
            raise UsageError(f"a change to journal {self.key!r} needs an id")
        if self.fact and (
            self.fence or self.card or self.close is not None or self.claim or self.release
        ):
            raise UsageError(
                f"a fact of journal {self.key!r} has no fence, sets nothing, claims and releases "
                "nothing"
            )
        if self.claim and (self.fence or self.release):
            raise UsageError(
                f"a change to journal {self.key!r} claims a free lease: it shows no fence, "
                "releases none"
            )
        if self.revision == 0 and not self.entries:
            # Only an entry keeps the id: a create without one, said again, would not be known.
            raise UsageError(f"a change that makes journal {self.key!r} has at least one entry")
        if any(draft.blobs for draft in self.entries) and self.touched is None:
            raise UsageError(
                f"a change to journal {self.key!r} names blobs, and not when they were last touched"
            )


BLOB_GRACE: Final = 24 * 3600.0
"""Seconds between a sweep's mark and its deletion; blobs are named within half of it."""


def is_held(head: Head, now: float) -> bool:
    """Say whether somebody's lease has not run out; `now` is the store's clock for leases."""
    return head.lease is not None and head.lease.until > now


def is_claimable(head: Head, wall: float, now: float) -> bool:
    """Say whether a worker may take it: it is due at `wall`, and no lease is held at `now`."""
    return head.card.due is not None and head.card.due <= wall and not is_held(head, now)


def claimable_in(head: Head, wall: float, now: float) -> float | None:
    """Return in how many seconds, 0 or more, it is claimable if nobody writes; None: never."""
    if head.card.due is None:
        return None
    return max(0.0, head.card.due - wall, head.lease.until - now if head.lease else 0.0)


def allow(change: Change, head: Head | None, floor: int, *, now: float, wall: float) -> None:
    """Refuse the change unless its writer may write it, and the journal is as it expects.

    The store has asked before whether it was already done. In this order: the lease, then what is
    expected.

    Args:
        change: what is to be written.
        head: of its journal; None where there is none.
        floor: no lower than any revision that was ever deleted from the store; each deletion raises
            it.
        now: the store's clock for leases, in seconds.
        wall: the store's clock for everything else, in seconds since 1970.

    Raises:
        Fenced: the fence is not that of the journal's lease.
        Conflict: something is not as expected, or a lease is held where none may be.
    """
    key, lease = change.key, head.lease if head else None
    if isinstance(change.fence, Fence):
        if lease is None or lease.fence != change.fence:
            raise Fenced(key, change.fence, lease.fence if lease else None)
    elif change.fence is None and not change.fact and head and is_held(head, now):
        raise Conflict(key, "lease", None, str(head.fence))
    if change.touched is not None and change.touched < wall - BLOB_GRACE / 2:
        raise Conflict(key, "blobs", f"touched after {wall - BLOB_GRACE / 2}", change.touched)
    revision, facts = (head.revision, head.facts) if head else (0, 0)
    first, closed = (head.first, head.closed) if head else (floor + 1, False)
    if head is None and (change.fact or change.revision != 0):
        raise Conflict(key, "revision", change.revision or None, 0)
    for what, expected, actual in (
        ("first", change.first, first),
        ("revision", change.revision, revision),
        ("facts", change.facts, facts),
        ("closed", change.closed, closed),
    ):
        if expected is not None and expected != actual:
            raise Conflict(key, what, expected, actual)


def apply(
    change: Change, head: Head | None, floor: int, *, now: float, wall: float, updated: int
) -> Head:
    """Return the head as it is once an allowed change is written.

    Entries are numbered from the old head's revision + 1, or from `floor + 1` in a new journal.
    `updated` is the store's next count of writes.
    """
    old = head or Head(change.key, floor + 1, floor, created_at=wall, created=updated)
    card = old.card._replace(**change.card) if change.card else old.card
    if change.card.keys() - {"due", "priority"} and (size := card_bytes(card)) > MAX_CARD_BYTES:
        raise UsageError(
            f"the card of journal {change.key!r} has {size} bytes, more than {MAX_CARD_BYTES}"
        )
    if change.fact:
        card = card._replace(due=wall if card.due is None else min(card.due, wall))
    token, lease = old.token, old.lease
    if change.claim:
        token += 1
        lease = Lease(
            change.key, change.claim.owner, Fence(token, change.claim.id), now + change.claim.ttl
        )
    elif change.release or not (change.fact or isinstance(change.fence, Fence)):
        # A decision without a fence is written while no lease is held: one that has ended is void
        # from now on. `FORCE` voids one that is held, too.
        lease = None
    revision = old.revision + len(change.entries)
    since = old.since
    for number, draft in enumerate(change.entries, old.revision + 1):
        if draft.type == SNAPSHOT:
            since = number
    return Head(
        change.key,
        old.first,
        revision,
        old.facts + (len(change.entries) if change.fact else 0),
        since,
        old.closed if change.close is None else change.close,
        card,
        token,
        lease,
        old.created_at,
        wall,
        old.created,
        updated,
    )


def card_bytes(card: Card) -> int:
    """Return how many bytes of UTF-8 the card's texts have together."""
    texts = (card.kind, card.name, card.title, card.status, card.queue, card.session, card.source)
    return len("".join((*texts, *card.tags, *card.tags.values())).encode())


def numbered(change: Change, head: Head, wall: float) -> list[Entry]:
    """Return the change's entries as they stand in the journal whose head, with them, is `head`."""
    start = head.revision - len(change.entries) + 1
    return [
        Entry(revision, draft.type, draft.data, wall, change.id, draft.blobs)
        for revision, draft in enumerate(change.entries, start)
    ]


def take(head: Head, owner: str, ttl: float, id: str, now: float) -> Head:
    """Return the head of a claimable journal with the lease that its new owner gets."""
    token = head.token + 1
    return head._replace(token=token, lease=Lease(head.key, owner, Fence(token, id), now + ttl))


def claim_order(head: Head) -> tuple[int, float, str]:
    """Sort claimable journals: larger priority first, then due, then key."""
    assert head.card.due is not None  # it is claimable
    return -head.card.priority, head.card.due, head.key
