"""The memory store, put into any state and asked one thing: its own code, and no copy of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from outlast.errors import StoreError
from outlast.journal import Change, Entry, Head, is_claimable, is_held
from outlast.stores.memory import MemoryStore
from tests.worlds.asking import Answer, Raised, Request, run_through

NOW = 1.0
"""The clock for leases stands still: whether one has ended is up to whoever explores."""

TTL = 1.0


class Journal(NamedTuple):
    """What the store keeps under one key."""

    head: Head
    entries: tuple[Entry, ...]
    changes: frozenset[str]

    @property
    def is_held(self) -> bool:
        return is_held(self.head, NOW)


class Buried(NamedTuple):
    """What is remembered of a journal that was deleted, to know what must not come again."""

    key: str
    entries: tuple[Entry, ...]


class Books(NamedTuple):
    """The store's whole state, its clock, and how many leases were claimed in it."""

    journals: tuple[Journal, ...] = ()  # by key
    floor: int = 0
    wall: float = 0.0
    claims: int = 0
    buried: tuple[Buried, ...] = ()

    def of(self, key: str) -> Journal | None:
        """Return the journal with this key, if it is there."""
        return next((journal for journal in self.journals if journal.head.key == key), None)

    def put(self, journal: Journal) -> Books:
        """Return the books with this journal instead of that with its key."""
        others = [other for other in self.journals if other.head.key != journal.head.key]
        return self._replace(journals=_sorted([*others, journal]))

    @property
    def claimable(self) -> bool:
        """Whether a worker would get something."""
        return any(is_claimable(journal.head, self.wall, NOW) for journal in self.journals)


def _sorted(journals: Iterable[Journal]) -> tuple[Journal, ...]:
    return tuple(sorted(journals, key=lambda journal: journal.head.key))


class Clock:
    """The clocks of the store's machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def wall(self) -> float:
        return self.now

    def boot(self) -> float:
        return NOW

    def boot_id(self) -> str:
        return "boot"


class Ledger:
    """A store without a past."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._store = MemoryStore(self._clock)

    def perform(self, books: Books, request: Request) -> tuple[Books, Answer]:
        """Return the state after the request, and the store's answer to it."""
        self._open(books)
        claims = books.claims + (request.verb == "claim")
        try:
            value = self._ask(request, claims)
        except StoreError as error:
            value = Raised(error.with_traceback(None))
        return self._close(books, claims), Answer(books.wall, value)

    def _ask(self, request: Request, claims: int) -> object:
        store = self._store
        match request.verb, request.args:
            case "commit", (Change() as change,):
                return run_through(store.commit(change))
            case "read", (key, after, how):
                return run_through(store.read(key, after, **how))
            case "claim", (lanes, owner, ttl, limit, _):
                # Whoever asks draws an id that nobody else has drawn.
                return run_through(store.claim(lanes, owner, ttl, limit, f"claim{claims}-"))
            case "renew", (leases, ttl):
                return run_through(store.renew(leases, ttl))
            case "delete", (key, expect):
                return run_through(store.delete(key, expect=expect))
            case _:
                raise AssertionError(request)

    def _open(self, books: Books) -> None:
        store = self._store
        self._clock.now = books.wall
        store._heads = {journal.head.key: journal.head for journal in books.journals}
        store._entries = {journal.head.key: list(journal.entries) for journal in books.journals}
        store._changes = {journal.head.key: set(journal.changes) for journal in books.journals}
        store._floor, store._updated = books.floor, 0

    def _close(self, books: Books, claims: int) -> Books:
        store = self._store
        journals = _sorted(
            # When something was written decides nothing: states that differ in it are one.
            Journal(
                head._replace(created=0, updated=0, created_at=0.0, updated_at=0.0),
                tuple(entry._replace(at=0.0) for entry in store._entries[key]),
                frozenset(store._changes[key]),
            )
            for key, head in store._heads.items()
        )
        gone = tuple(
            Buried(old.head.key, old.entries)
            for old in books.journals
            if old.head.key not in store._heads
        )
        return Books(journals, store._floor, books.wall, claims, books.buried + gone)
