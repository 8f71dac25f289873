"""A run is ended at once, whoever has it."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from outlast import App, TaskAborted, TaskContext, sync, task
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import LEASE, Wire, run_of, types_of

loop_factory = SkippingLoop

MINUTE = timedelta(minutes=1)


async def test_an_abort_cancels_the_coroutine_and_records_nothing_more(
    app: App, machine: Machine, clock: FakeClock
) -> None:
    seen: list[str] = []

    async def compensate() -> None:
        seen.append("compensated")

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(f"cancelled, {ctx.stop_reason}, {ctx.cancel.is_set()}")
            for call in (
                lambda: ctx.step("compensate", compensate),
                lambda: ctx.sleep("a while", MINUTE),
                lambda: ctx.wait("go"),
                lambda: ctx.emit("x"),
            ):
                try:
                    await call()
                except BaseException as error:  # noqa: BLE001
                    seen.append(type(error).__name__)
            raise

    run = await handler.start(None, id="r")
    await asyncio.sleep(1)
    before = clock.wall()
    await run.abort("wrong")

    with pytest.raises(TaskAborted, match="run 'r' was aborted: wrong"):
        await run.result()
    await asyncio.sleep(1)
    assert clock.wall() - before < 1.1
    assert seen == ["cancelled, None, False", "Unwound", "Unwound", "Unwound", "Unwound"]
    assert types_of(machine.store, "r") == ["created", "turn_began", "aborted"]


async def test_an_abort_needs_no_answer_of_the_worker(machine: Machine, clock: FakeClock) -> None:
    """Not even where nobody hears of it but from the renewal of the lease."""
    cancelled_at: list[float] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        try:
            await asyncio.sleep(600)
        finally:
            cancelled_at.append(clock.wall())

    deaf = Wire(machine.store)
    async with machine.open(store=deaf) as app, machine.open(worker=False) as other:
        run = await handler.options(app=app).start(None, id="r")
        deaf.cut()
        await asyncio.sleep(1)
        before = clock.wall()
        await (await other.runs.get("r")).abort()
        with pytest.raises(TaskAborted):
            await run.result()
        assert clock.wall() - before < 1.1
        await asyncio.sleep(LEASE)

    assert cancelled_at[0] - before <= LEASE / 3 + 0.1


async def test_a_thread_of_an_aborted_run_goes_on_and_records_nothing(machine: Machine) -> None:
    door, after = threading.Event(), list[str]()

    @task
    def handler(ctx: sync.TaskContext[None]) -> None:
        door.wait(10)
        try:
            ctx.step("late", abs, 1)
        except BaseException as error:
            after.append(type(error).__name__)
            raise

    async with machine.open():
        run = await handler.start(None, id="r")
        await asyncio.sleep(1)
        await run.abort()
        door.set()

    assert after == ["Unwound"]
    assert types_of(machine.store, "r") == ["created", "turn_began", "aborted"]


async def test_a_coroutine_that_swallows_its_end_is_abandoned(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = False

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        while not may_end:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async with machine.open():
        run = await handler.start(None, id="r")
        await asyncio.sleep(1)
        await run.abort()
    [left] = [one for one in asyncio.all_tasks() if "handler" in one.get_name()]

    assert "1 tasks of its handler did not end" in caplog.text
    assert types_of(machine.store, "r") == ["created", "turn_began", "aborted"]
    may_end = True
    left.cancel()
    await asyncio.wait({left})


async def test_an_abort_that_is_heard_of_while_the_handler_returns_counts(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> int:
        await door.wait()
        return 7

    async def open_door(verb: Verb, argument: Any) -> None:
        if verb == "read" and argument == "run/r" and run_of(machine.store, "r").outcome:
            door.set()
            await asyncio.sleep(0.1)

    door = asyncio.Event()
    async with machine.open() as app, machine.open(worker=False, store=Wire(machine.store)) as two:
        run = await handler.options(app=app).start(None, id="r")
        machine.wire.before = open_door
        await (await two.runs.get("r")).abort()
        with pytest.raises(TaskAborted):
            await run.result()

    assert "an error of outlast's own" not in caplog.text


async def test_a_hint_that_comes_during_a_read_is_looked_at(
    machine: Machine, clock: FakeClock
) -> None:
    ended: list[float] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        try:
            await asyncio.sleep(600)
        finally:
            ended.append(clock.wall())

    async def slowly(verb: Verb, argument: Any) -> None:
        if verb == "read":
            await asyncio.sleep(0.2)

    async with machine.open() as app, machine.open(worker=False, store=Wire(machine.store)) as two:
        await handler.options(app=app).start(None, id="r")
        await asyncio.sleep(1)
        run = await two.runs.get("r")
        machine.wire.after = slowly
        await run.signal("x")
        await asyncio.sleep(0.1)  # the signal is being read
        before = clock.wall()
        await run.abort()
        await asyncio.sleep(2)

    assert ended[0] - before < 0.5
