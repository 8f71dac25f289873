"""Words in which the tests of the contract are written: changes, leases, and whole journals."""

from __future__ import annotations

from itertools import count
from typing import Final, Literal, TypedDict, Unpack

from outlast.journal import CardFields, Change, Claim, Draft, Fence, Head, Lease
from outlast.store import Lane, Query, Reading, Store

LANE: Final = Lane("queue", "name")
TTL: Final = 15.0

_ids = count(1)


class Details(TypedDict, total=False):
    """What a change may say besides its key and id."""

    entries: tuple[Draft, ...]
    fact: bool
    fence: Fence | Literal["force"] | None
    card: CardFields
    close: bool | None
    claim: Claim | None
    release: bool
    first: int | None
    revision: int | None
    facts: int | None
    closed: bool
    touched: float | None


def new_id() -> str:
    """Return an id that no other change or lease has."""
    return f"id-{next(_ids)}"


def drafts(number: int = 1, type: str = "said") -> tuple[Draft, ...]:
    """Return entries of one type, each with data of its own."""
    return tuple(Draft(type, f'"{new_id()}"') for _ in range(number))


def create(key: str = "k", number: int = 1, **card: Unpack[CardFields]) -> Change:
    """Return the change that makes a journal, due at once in `LANE` if the card does not differ."""
    fields: CardFields = {"kind": "run", "queue": LANE.queue, "name": LANE.name, "due": 0.0}
    fields.update(card)
    return Change(key=key, id=new_id(), entries=drafts(number), revision=0, card=fields)


def append(key: str = "k", **details: Unpack[Details]) -> Change:
    """Return a change with one entry, unless said otherwise."""
    details.setdefault("entries", drafts())
    return Change(key=key, id=new_id(), **details)


def fact(key: str = "k", number: int = 1, *, facts: int | None = None) -> Change:
    """Return a fact, of one entry unless said otherwise."""
    return append(key, entries=drafts(number), fact=True, facts=facts)


def abort(key: str = "k") -> Change:
    """Return what ends a journal whoever holds it."""
    return append(key, fence="force", close=True, release=True)


async def lease_of(store: Store, owner: str = "worker", ttl: float = TTL) -> Lease:
    """Claim the one journal that is claimable in `LANE`, and return its lease."""
    claimed = await store.claim([LANE], owner, ttl, 1, new_id())
    [head] = claimed.heads
    return held(head)


def held(head: Head) -> Lease:
    """Return the head's lease, which is there."""
    assert head.lease is not None
    return head.lease


async def journals(store: Store, *keys: str) -> list[Reading]:
    """Return all there is of these journals."""
    return [await store.read(key) for key in keys]


async def drain(store: Store, query: Query, limit: int = 2) -> list[Head]:
    """Return what a scan gives, page by page."""
    heads: list[Head] = []
    after: str | None = None
    for _ in range(1_000):
        page = await store.scan(query, limit=limit, after=after)
        assert len(page.heads) <= limit
        heads += page.heads
        if page.next is None:
            return heads
        after = page.next
    raise AssertionError("a scan of a few journals does not end")


async def keys(store: Store, query: Query, limit: int = 2) -> list[str]:
    """Return the keys that a scan gives, page by page."""
    return [head.key for head in await drain(store, query, limit)]
