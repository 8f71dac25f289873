"""What an entry into a handler was made of goes with it, and waits for no garbage collector.

A collection stops the event loop for as long as it takes to go through what may be garbage: what
each run left behind would be paid for by all of them.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from outlast import TaskContext, task
from outlast.testing import SkippingLoop
from tests.engine.conftest import Machine

loop_factory = SkippingLoop


@contextmanager
def collected() -> Generator[list[object]]:
    """Give what only a collection would find of what becomes garbage meanwhile, if it is ours."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += [it for it in gc.garbage if type(it).__module__.startswith("outlast")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def double(number: int) -> int:
    return 2 * number


@task(name="garbage.short")
async def short(ctx: TaskContext[int]) -> int:
    await ctx.emit("begins")
    return await ctx.step("double", double, ctx.input)


@task(name="garbage.parked")
async def parked(ctx: TaskContext[int]) -> int:
    await ctx.sleep("night", timedelta(hours=8))
    return await ctx.wait("answer", int)


@pytest.mark.usefixtures("quick_collections")
async def test_a_run_leaves_nothing_to_be_collected(machine: Machine) -> None:
    async with machine.open():
        await short.run(0)  # with what is made once
        with collected() as found:
            result = await short.run(1)
            await asyncio.sleep(1)

    assert result.output == 2
    assert found == []


@pytest.mark.usefixtures("quick_collections")
async def test_a_run_that_was_parked_leaves_nothing_to_be_collected(machine: Machine) -> None:
    async with machine.open():
        await short.run(0)
        with collected() as found:
            run = await parked.start(1)
            await asyncio.sleep(timedelta(hours=9).total_seconds())
            await run.signal("answer", 3)
            result = await run.result()
            await asyncio.sleep(1)

    assert result.output == 3
    assert found == []
