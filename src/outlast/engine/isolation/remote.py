"""A child's store: it asks its worker, and holds nothing itself.

The worker answers what an attempt needs for the journal of its own run; of other journals it takes
creates and facts. The one rule that must not be broken: nothing here opens a store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from types import TracebackType
from typing import Any, Self

from outlast.engine.isolation.wire import (
    Message,
    error_from,
    head_from,
    reading_from,
    scanned_from,
)
from outlast.errors import UsageError
from outlast.journal import Change, Head, Lease
from outlast.store import Claimed, Hint, Lane, Listener, Query, Reading, Scanned, Traits


class RemoteStore:
    """The worker's store, as far as a child may use it."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        """Ask by `send`; answers come to `hear`."""
        self._send = send
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._listeners: dict[object, Listener] = {}

    @property
    def traits(self) -> Traits:
        """Promise nothing: the worker's store may be any."""
        return Traits(atomic=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def hear(self, message: Message) -> None:
        """Take what the worker says: an answer, or a hint."""
        if "hint" in message:
            hint = Hint(*message["hint"])
            for listener in list(self._listeners.values()):
                listener(hint)
            return
        asked = self._asked.pop(message["answer"], None)
        if asked is None or asked.done():  # whoever asked is gone
            return
        if "error" in message:
            asked.set_exception(error_from(message["error"]))
        else:
            asked.set_result(message["value"])

    async def _ask(self, verb: str, arguments: Message) -> Any:
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({"ask": number, "verb": verb, "with": arguments})
        except ValueError as error:
            raise UsageError(f"what it says cannot leave its process: {error}") from error
        try:
            return await asked
        finally:
            self._asked.pop(number, None)

    async def commit(self, *changes: Change) -> list[Head]:
        """Have the changes written; see `Store`.

        Raises:
            UsageError: one is not what a run in a process of its own may write.
        """
        return [head_from(head) for head in await self._ask("commit", {"changes": changes})]

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
        extent = {"key": key, "after": after, "limit": limit, "last": last, "types": types}
        return reading_from(await self._ask("read", extent))

    async def scan(self, query: Query, *, limit: int = 100, after: str | None = None) -> Scanned:
        """Return a page; see `Store`."""
        page = {"query": query, "limit": limit, "after": after}
        return scanned_from(await self._ask("scan", page))

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        """Make sure that the store is written to; the worker keeps the leases.

        Raises:
            UsageError: leases were given.
        """
        if leases:
            raise _not_here("keep a lease")
        await self._ask("renew", {"ttl": ttl})
        return []

    async def claim(
        self,
        lanes: Sequence[Lane],  # noqa: ARG002 - as of a `Store`
        owner: str,  # noqa: ARG002
        ttl: float,  # noqa: ARG002
        limit: int,  # noqa: ARG002
        id: str,  # noqa: ARG002
    ) -> Claimed:
        """Refuse: the worker takes them.

        Raises:
            UsageError: always.
        """
        raise _not_here("take up runs")

    async def delete(self, key: str, *, expect: int) -> bool:  # noqa: ARG002 - as of a `Store`
        """Refuse: what is not a run's own, it does not end.

        Raises:
            UsageError: always.
        """
        raise _not_here("delete a run")

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with the hints that the worker passes on."""
        mark = object()
        self._listeners[mark] = listener
        return lambda: self._listeners.pop(mark, None) and None


def _not_here(what: str) -> UsageError:
    return UsageError(
        f"a handler in a process of its own cannot {what}; do it in a task without "
        "isolation='process'"
    )
