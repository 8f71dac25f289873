"""`watch`: that something may have changed, told in the store's loop."""

# ruff: noqa: D102 - the name of a test is a sentence

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable

import pytest

from outlast.store import Hint, Store
from outlast.testing.contract.drafting import append, create, fact


class Watcher:
    """Hears a store's hints, and waits for one."""

    def __init__(self, store: Store) -> None:
        self.heard: list[Hint] = []
        self.threads: set[int] = set()
        self._news = asyncio.Event()
        self.stop = store.watch(self._hear)

    def _hear(self, hint: Hint) -> None:
        self.heard.append(hint)
        self.threads.add(threading.get_ident())
        self._news.set()

    async def hears_of(self, key: str, revision: int, deed: Awaitable[object]) -> None:
        """Wait until there is a hint about the key at that revision, after the deed began."""
        self.heard.clear()
        await deed
        wanted = {Hint(key, revision), Hint(key), Hint(None)}
        async with asyncio.timeout(30):
            while not wanted & set(self.heard):
                self._news.clear()
                await self._news.wait()


@pytest.mark.asyncio
class HintContract:
    """Within a process, and while all is well, who watches hears of every write."""

    async def test_who_watches_hears_of_writes(self, store: Store) -> None:
        watcher = Watcher(store)

        await watcher.hears_of("k", 2, store.commit(create(number=2)))
        await watcher.hears_of("k", 3, store.commit(append()))
        await watcher.hears_of("k", 4, store.commit(fact()))
        await watcher.hears_of("b", 1, store.commit(create("a"), create("b")))
        await watcher.hears_of("k", 4, store.delete("k", expect=4))

        watcher.stop()
        assert watcher.threads == {threading.get_ident()}

    async def test_who_stopped_watching_hears_no_more(self, store: Store) -> None:
        first, second = Watcher(store), Watcher(store)
        await first.hears_of("k", 1, store.commit(create()))

        first.stop()
        heard = len(first.heard)
        await second.hears_of("k", 2, store.commit(append()))
        second.stop()

        assert len(first.heard) == heard
