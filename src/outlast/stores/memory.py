"""The reference store: plain dictionaries. What it answers, every other store answers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from outlast.errors import Conflict, OutlastError, UsageError
from outlast.journal import (
    Lease,
    allow,
    apply,
    claim_order,
    claimable_in,
    is_claimable,
    is_held,
    numbered,
    take,
)
from outlast.store import Claimed, Hint, Reading, Scanned, Traits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from outlast.journal import Change, Entry, Head
    from outlast.store import Clock, Lane, Listener, Query


class MemoryStore:
    """Journals of one process, gone with it."""

    traits: Final = Traits(atomic=True)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # leases are renewed from another thread
        self._heads: dict[str, Head] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._changes: dict[str, set[str]] = {}
        self._floor = 0
        self._updated = 0
        self._boot_id = clock.boot_id()
        self._listeners: dict[object, Listener] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listeners.clear()

    async def commit(self, *changes: Change) -> list[Head]:
        with self._lock:
            heads, undo = [], self._snapshot(changes)
            try:
                heads = [self._write(change) for change in changes]
            except OutlastError:
                self._restore(undo)
                raise
        for head in heads:
            self._hint(Hint(head.key, head.revision, head.closed))
        return heads

    def _now(self) -> float:
        """Return the clock for leases; another start of the machine has ended all there were."""
        if self._boot_id != self._clock.boot_id():
            self._boot_id = self._clock.boot_id()
            for key, head in self._heads.items():
                if head.lease:
                    self._heads[key] = head._replace(lease=head.lease._replace(until=0.0))
        return self._clock.boot()

    def _write(self, change: Change) -> Head:
        now, wall = self._now(), self._clock.wall()
        key, head = change.key, self._heads.get(change.key)
        if head and change.id in self._changes[key]:
            return head
        allow(change, head, self._floor, now=now, wall=wall)
        self._updated += 1
        new = apply(change, head, self._floor, now=now, wall=wall, updated=self._updated)
        if change.entries:
            self._changes.setdefault(key, set()).add(change.id)
        self._changes.setdefault(key, set())
        self._entries.setdefault(key, []).extend(numbered(change, new, wall))
        self._heads[key] = new
        return new

    def _snapshot(
        self, changes: Sequence[Change]
    ) -> list[tuple[str, Head | None, list[Entry], set[str]]]:
        """Return what is there now of the journals of a call of several changes, to go back to."""
        if len(changes) == 1:
            return []  # it is written whole or not at all
        keys = {change.key for change in changes}
        return [
            (
                key,
                self._heads.get(key),
                self._entries.get(key, [])[:],
                self._changes.get(key, set()).copy(),
            )
            for key in keys
        ]

    def _restore(self, undo: list[tuple[str, Head | None, list[Entry], set[str]]]) -> None:
        for key, head, entries, ids in undo:
            self._forget(key)
            if head:
                self._heads[key], self._entries[key], self._changes[key] = head, entries, ids

    def _forget(self, key: str) -> None:
        for table in (self._heads, self._entries, self._changes):
            table.pop(key, None)

    async def read(
        self,
        key: str,
        after: int | None = 0,
        *,
        limit: int | None = None,
        last: int | None = None,
        types: Sequence[str] | None = None,
    ) -> Reading:
        with self._lock:
            self._now()
            head = self._heads.get(key)
            if head is None:
                return Reading(None, [], self._floor)
            start = max(head.since - 1, 0) if after is None else after
            entries = self._entries[key][max(0, start + 1 - head.first) :]
            if types is not None:
                entries = [entry for entry in entries if entry.type in types]
            if last is not None:
                entries = entries[max(0, len(entries) - last) :]
            return Reading(head, entries[:limit], self._floor)

    async def claim(
        self, lanes: Sequence[Lane], owner: str, ttl: float, limit: int, id: str
    ) -> Claimed:
        with self._lock:
            now, wall, wanted = self._now(), self._clock.wall(), set(lanes)
            mine = [h for h in self._heads.values() if (h.card.queue, h.card.name) in wanted]
            ready = sorted((h for h in mine if is_claimable(h, wall, now)), key=claim_order)
            taken = [take(head, owner, ttl, id, now) for head in ready[:limit]]
            self._heads.update((head.key, head) for head in taken)
            waits = [
                wait
                for h in mine
                if (wait := claimable_in(self._heads[h.key], wall, now)) is not None
            ]
            return Claimed(taken, min(waits, default=None))

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        with self._lock:
            now, kept = self._now(), list[Lease]()
            for lease in leases:
                head = self._heads.get(lease.key)
                if head and head.lease and head.lease.fence == lease.fence:
                    kept.append(head.lease._replace(until=now + ttl))
                    self._heads[lease.key] = head._replace(lease=kept[-1])
            return kept

    async def scan(self, query: Query, *, limit: int = 100, after: str | None = None) -> Scanned:
        def place(head: Head) -> str:
            match query.order:
                case "key":
                    return f"key:{head.key}"
                case "created":
                    return f"created:{head.created:020}"
                case "updated":
                    return f"updated:{head.updated:020}"

        if after is not None and not after.startswith(f"{query.order}:"):
            raise UsageError(f"{after!r} is not the cursor of a scan ordered by {query.order!r}")
        with self._lock:
            self._now()
            heads = [head for head in self._heads.values() if query.matches(head)]
        heads.sort(key=place, reverse=query.descending)
        if after is not None:
            heads = [
                h for h in heads if (place(h) < after if query.descending else place(h) > after)
            ]
        page = heads[:limit]
        return Scanned(page, place(page[-1]) if len(heads) > limit else None)

    async def delete(self, key: str, *, expect: int) -> bool:
        with self._lock:
            now, head = self._now(), self._heads.get(key)
            if head is None:
                return False
            if is_held(head, now):
                raise Conflict(key, "lease", None, str(head.fence))
            if head.revision != expect:
                raise Conflict(key, "revision", expect, head.revision)
            self._forget(key)
            # Also above itself: who has read it before the deletion makes nothing after it.
            self._floor = max(self._floor + 1, head.revision)
        self._hint(Hint(key, expect, closed=True))
        return True

    def watch(self, listener: Listener) -> Callable[[], None]:
        mark = object()
        self._listeners[mark] = listener
        return lambda: self._listeners.pop(mark, None) and None

    def _hint(self, hint: Hint) -> None:
        for listener in list(self._listeners.values()):
            listener(hint)


def open_url(  # noqa: PLR0917 - every store's module has this function
    url: str,
    host: str,
    path: str,
    settings: Mapping[str, str],
    clock: Clock,
    namespace: str,  # noqa: ARG001 - it shares its journals with nobody
) -> MemoryStore:
    """Return a store of its own, whatever the namespace."""
    if host or path or settings:
        raise UsageError(f"{url!r} names a place in memory, and there is only one: 'memory://'")
    return MemoryStore(clock)
