"""`watch`: that something may have changed, told in the store's loop."""

# ruff: noqa: D102 - the name of a test is a sentence

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from outlast.store import Hint, Store
from outlast.testing.contract.drafting import append, create, fact


class Watcher:
    """Hears a store's hints, and waits for one."""

    def __init__(self, store: Store) -> None:
        self.heard: list[Hint] = []
        self.threads: set[int] = set()
        self._news = asyncio.Event()
        self.stop: Callable[[], None] = store.watch(self._hear)

    def _hear(self, hint: Hint) -> None:
        self.heard.append(hint)
        self.threads.add(threading.get_ident())
        self._news.set()

    async def hears(self, wanted: Hint, deed: Awaitable[object]) -> None:
        """Wait until there is such a hint, or one that says less, after the deed began."""
        self.heard.clear()
        await deed
        told = {wanted, Hint(wanted.key), Hint(None)}
        async with asyncio.timeout(30):
            while not told & set(self.heard):
                self._news.clear()
                await self._news.wait()

    async def hears_of(self, key: str, deed: Awaitable[object]) -> None:
        """Wait until there is a hint about the journal, whatever it says."""
        self.heard.clear()
        await deed
        async with asyncio.timeout(30):
            while not {key, None} & {hint.key for hint in self.heard}:
                self._news.clear()
                await self._news.wait()


@pytest.mark.asyncio
class HintContract:
    """Within a process, and while all is well, who watches hears of every write."""

    async def test_who_watches_hears_of_writes(self, store: Store) -> None:
        watcher = Watcher(store)

        await watcher.hears(Hint("k", 2), store.commit(create(number=2)))
        await watcher.hears(Hint("k", 3), store.commit(fact()))
        await watcher.hears(Hint("k", 4, closed=True), store.commit(append(close=True)))
        await watcher.hears(Hint("k", 5, closed=True), store.commit(append(closed=True)))
        await watcher.hears(Hint("k", 6), store.commit(append(closed=True, close=False)))
        await watcher.hears(Hint("b", 1), store.commit(create("a"), create("b")))
        await watcher.hears_of("k", store.delete("k", expect=6))

        watcher.stop()
        assert watcher.threads == {threading.get_ident()}

    async def test_who_stopped_watching_hears_no_more(self, store: Store) -> None:
        first, second = Watcher(store), Watcher(store)
        await first.hears_of("k", store.commit(create()))

        first.stop()
        heard = len(first.heard)
        await second.hears_of("k", store.commit(append()))
        second.stop()

        assert len(first.heard) == heard
