"""Handlers that only wait, and whether a run is out of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from outlast import App, TaskContext
from outlast.stores.memory import MemoryStore
from tests.engine.world import head_of, run_of

Ctx = TaskContext[Any]
Shape = Callable[[Ctx], Awaitable[Any]]
MINUTE = timedelta(minutes=1)


def active(app: App) -> int:
    """Return how many runs the app's worker has in memory."""
    assert app._worker is not None
    return len(app._worker._active)


def is_out(app: App, store: MemoryStore, id: str = "r") -> bool:
    """Say whether the run waits out of memory, with no lease and no place."""
    head = head_of(store, id)
    is_parked = run_of(store, id).parked is not None
    assert is_parked is (head.lease is None) is (active(app) == 0)
    assert head.card.status == "running"
    return is_parked


async def waits(ctx: Ctx) -> Any:
    return await ctx.wait("a", str)


async def gathers(ctx: Ctx) -> Any:
    return await asyncio.gather(ctx.wait("a", str), ctx.sleep("long", MINUTE), ctx.wait("b", str))
