"""The line from an app in a test to its store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outlast import Unavailable
from outlast.store import Claimed, Hint, Reading
from outlast.stores.memory import MemoryStore
from outlast.testing import FakeClock
from outlast.testing.line import Line


class SlowStore(MemoryStore):
    """A store whose reads answer when they are let go."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.gates = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def read(self, key: str, *args: Any, **kwargs: Any) -> Reading:
        await self.gates[key].wait()
        return await super().read(key, *args, **kwargs)


async def test_a_line_is_idle_when_everything_was_answered() -> None:
    store = SlowStore()
    async with Line(store, FakeClock()) as line:
        reads = [asyncio.create_task(line.read(key)) for key in "ab"]
        seen: list[bool] = []
        await asyncio.sleep(0)
        for gate in store.gates.values():
            seen.append(line.is_idle)
            gate.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await line.wait_until_idle()

        assert [*seen, line.is_idle] == [False, False, True]
        await asyncio.gather(*reads)


async def test_a_line_knows_when_there_may_be_more_to_claim() -> None:
    clock = FakeClock()
    line = Line(MemoryStore(clock), clock)

    claimed = await line.claim([], "me", 15, 1, "id")

    assert claimed == Claimed([], None)
    assert line.next_due is None


async def test_nothing_goes_over_a_line_that_was_cut() -> None:
    store, heard = MemoryStore(FakeClock()), list[Hint]()
    line = Line(store, FakeClock())
    line.watch(heard.append)
    store._hint(Hint("before"))
    line.cut()
    store._hint(Hint("after"))

    read = asyncio.create_task(line.read("a"))
    await asyncio.sleep(0)
    assert not read.done()
    line.hang_up()
    with pytest.raises(Unavailable, match="was killed"):
        await read
    assert heard == [Hint("before")]
