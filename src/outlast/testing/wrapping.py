"""A store around a store: every request goes through one method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from outlast.journal import Change, Head, Lease
from outlast.store import Claimed, Lane, Listener, Query, Reading, Scanned, Store, Traits

T = TypeVar("T")

Verb = Literal["commit", "read", "claim", "renew", "scan", "delete"]


class WrappedStore:
    """A store that hands on what it is asked; `_ask` says how."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def _ask(self, verb: Verb, about: Any, request: Callable[[Store], Awaitable[T]]) -> T:  # noqa: ARG002
        """Make the request, on the wrapped store, and return what it answers.

        Args:
            verb: what is asked.
            about: the changes, the key, the lanes, the leases or the query that it is asked about.
            request: asks it.
        """
        return await request(self._store)

    @property
    def traits(self) -> Traits:
        """What the wrapped store cannot do."""
        return self._store.traits

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._store.__aexit__(kind, error, trace)

    async def commit(self, *changes: Change) -> list[Head]:
        """Write the changes; see `Store`."""
        return await self._ask("commit", changes, lambda store: store.commit(*changes))

    async def read(
        self,
        key: str,
        after: int | None = 0,
        *,
        limit: int | None = None,
        last: int | None = None,
        types: Sequence[str] | None = None,
    ) -> Reading:
        """Return a head and entries; see `Store`."""
        return await self._ask(
            "read", key, lambda store: store.read(key, after, limit=limit, last=last, types=types)
        )

    async def claim(
        self, lanes: Sequence[Lane], owner: str, ttl: float, limit: int, id: str
    ) -> Claimed:
        """Take leases; see `Store`."""
        return await self._ask(
            "claim", lanes, lambda store: store.claim(lanes, owner, ttl, limit, id)
        )

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        """Keep leases; see `Store`."""
        return await self._ask("renew", leases, lambda store: store.renew(leases, ttl))

    async def scan(self, query: Query, *, limit: int = 100, after: str | None = None) -> Scanned:
        """Return a page; see `Store`."""
        return await self._ask(
            "scan", query, lambda store: store.scan(query, limit=limit, after=after)
        )

    async def delete(self, key: str, *, expect: int) -> bool:
        """Forget a journal; see `Store`."""
        return await self._ask("delete", key, lambda store: store.delete(key, expect=expect))

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call back when a journal may have changed; see `Store`."""
        return self._store.watch(listener)
