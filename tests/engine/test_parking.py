"""Runs that only wait leave memory: when they do, and what keeps them in it."""

from __future__ import annotations

import asyncio
import logging
import socket
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from outlast import App, RetryPolicy, sync, task
from outlast.testing import FakeClock, SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.waiting import MINUTE, Ctx, Shape, active, gathers, is_out, waits
from tests.engine.world import run_of, types_of

loop_factory = SkippingLoop

HOUR = timedelta(hours=1)


# What parks


async def waits_with_a_timeout(ctx: Ctx) -> Any:
    return await ctx.wait("a", str, timeout=HOUR)


async def sleeps(ctx: Ctx) -> Any:
    await ctx.sleep("long", MINUTE)


async def groups(ctx: Ctx) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ctx.wait(name, str)) for name in "ab"]
    return [one.result() for one in tasks]


async def note() -> None:
    """Do nothing, and not in a thread, which takes a time of its own."""


async def first_of_two(ctx: Ctx) -> Any:
    tasks = [asyncio.ensure_future(ctx.wait(name, str)) for name in "ab"]
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await ctx.step("note", note)
    return [one.result() for one in done] + [await one for one in left]


async def shields(ctx: Ctx) -> Any:
    return await asyncio.shield(ctx.wait("a", str))


async def waits_for(ctx: Ctx) -> Any:
    return await asyncio.wait_for(ctx.wait("a", str), None)


async def as_completed(ctx: Ctx) -> Any:
    order = []
    for one in asyncio.as_completed([ctx.wait("b", str), ctx.wait("a", str)]):
        order.append(await one)
        await ctx.step("note", note)
    return order


async def nested(ctx: Ctx) -> Any:
    async def inner() -> Any:
        return await asyncio.gather(ctx.wait("a", str), asyncio.shield(ctx.wait("b", str)))

    async with asyncio.TaskGroup() as group:
        one = group.create_task(inner())
        two = group.create_task(ctx.sleep("long", MINUTE))
    return [one.result(), two.result()]


PARKS = [
    waits,
    waits_with_a_timeout,
    sleeps,
    gathers,
    groups,
    first_of_two,
    shields,
    waits_for,
    as_completed,
    nested,
]


@pytest.mark.parametrize("shape", PARKS, ids=lambda shape: shape.__name__)
async def test_what_only_waits_leaves_memory_and_ends_as_if_it_had_not(
    app: App, machine: Machine, shape: Shape
) -> None:
    modes: list[str] = []

    @task
    async def handler(ctx: Ctx) -> Any:
        modes.append(ctx.entry_mode)
        if ctx.input == "stays":
            beside = asyncio.ensure_future(asyncio.sleep(3600))
            try:
                return await shape(ctx)
            finally:
                beside.cancel()
        return await shape(ctx)

    outputs = []
    for mode in ("stays", "parks"):
        run = await handler.start(mode, id=mode)
        for name in "ba":
            await asyncio.sleep(1)
            assert (active(app) == 0) is (mode == "parks")
            await run.signal(name, name)
        outputs.append((await run.result()).output)
        entries = run_of(machine.store, mode)
        assert (entries.recoveries, entries.deaths, entries.attempt) == (0, 0, 0)

    assert outputs[0] == outputs[1]
    assert "parked" not in types_of(machine.store, "stays")
    assert "parked" in types_of(machine.store, "parks")
    assert {*modes} == {"fresh"}
    assert len(modes) > 2


async def test_a_step_between_two_tries_is_out_of_memory(
    app: App, machine: Machine, clock: FakeClock
) -> None:
    tries: list[float] = []

    async def flaky() -> str:
        tries.append(clock.wall())
        if len(tries) < 3:
            raise OSError("not yet")
        return "done"

    @task
    async def handler(ctx: Ctx) -> str:
        policy = RetryPolicy(5, initial_delay=MINUTE, backoff=1.0, jitter=False)
        return await ctx.step.options(retry=policy)("flaky", flaky)

    run = await handler.start(None, id="r")
    await asyncio.sleep(1)
    assert is_out(app, machine.store)

    assert (await run.result()).output == "done"
    assert [round(b - a) for a, b in pairwise(tries)] == [60, 60]
    assert types_of(machine.store, "r").count("parked") == 2


@pytest.mark.parametrize("waits_for", ["signal", "sleep"])
async def test_a_plain_handler_leaves_memory_and_its_thread_ends(
    app: App, machine: Machine, waits_for: str
) -> None:
    ends: list[str] = []

    @task
    def handler(ctx: sync.TaskContext[None]) -> str:
        try:
            ctx.sleep("long", MINUTE) if waits_for == "sleep" else ctx.wait("go")
        except Exception as error:  # noqa: BLE001
            ends.append(f"compensates for {error!r}")
        finally:
            ends.append("finally")
        return ctx.entry_mode

    run = await handler.start(None, id="r")
    await asyncio.sleep(1)
    assert is_out(app, machine.store)
    assert ends == ["finally"]
    if waits_for == "signal":
        await run.signal("go")

    assert (await run.result()).output == "fresh"
    assert ends == ["finally"] * 2


async def test_a_timer_that_ends_soon_is_waited_for_in_memory(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: Ctx) -> None:
        for _ in range(5):
            await ctx.sleep("short", timedelta(seconds=0.04))

    await handler.run(None, id="r")

    assert "parked" not in types_of(machine.store, "r")


async def test_what_was_emitted_is_written_before_a_run_leaves_memory(
    app: App, machine: Machine
) -> None:
    @task
    async def handler(ctx: Ctx) -> None:
        for number in range(3):
            await ctx.emit(number)
            await ctx.wait("go")

    run = await handler.start(None, id="r")
    for number in range(3):
        await asyncio.sleep(1)
        assert is_out(app, machine.store)
        assert types_of(machine.store, "r").count("emitted") == number + 1
        await run.signal("go")
    await run.result()

    assert [item.value async for item in run.stream()] == [0, 1, 2]  # type: ignore[union-attr]


# What stays


async def asyncio_sleep(ctx: Ctx) -> None:
    await asyncio.gather(ctx.wait("never"), asyncio.sleep(60))


async def asyncio_timeout(ctx: Ctx) -> None:
    async with asyncio.timeout(60):
        await ctx.wait("never")


async def wait_for_with_a_timeout(ctx: Ctx) -> None:
    await asyncio.wait_for(ctx.wait("never"), 60)


async def own_queue(ctx: Ctx) -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()
    await asyncio.gather(ctx.wait("never"), queue.get())


async def own_event(ctx: Ctx) -> None:
    await asyncio.gather(ctx.wait("never"), asyncio.Event().wait())


async def own_lock(ctx: Ctx) -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await asyncio.gather(ctx.wait("never"), lock.acquire())


async def own_socket(ctx: Ctx) -> None:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        receiving = asyncio.get_running_loop().sock_recv(one, 1)
        await asyncio.gather(ctx.wait("never"), receiving)


async def step_in_flight(ctx: Ctx) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.wait("never"))
        group.create_task(ctx.step("slow", asyncio.sleep, 60))


async def shutdown_event(ctx: Ctx) -> None:
    await asyncio.gather(ctx.wait("never"), ctx.shutdown.wait())


STAYS = [
    asyncio_sleep,
    asyncio_timeout,
    wait_for_with_a_timeout,
    own_queue,
    own_event,
    own_lock,
    own_socket,
    step_in_flight,
    shutdown_event,
]


@pytest.mark.parametrize("shape", STAYS, ids=lambda shape: shape.__name__)
async def test_what_something_else_may_wake_stays_in_memory(
    app: App, machine: Machine, shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off: list[str] = []

    @task
    async def handler(ctx: Ctx) -> None:
        try:
            await shape(ctx)
        finally:
            cut_off.append(str(ctx.stop_reason))

    with caplog.at_level(logging.INFO, "outlast"):
        run = await handler.start(None, id="r")
        await asyncio.sleep(50)

    assert cut_off == []
    assert not is_out(app, machine.store)
    said = [record.message for record in caplog.records if "waits in memory" in record.message]
    assert len(said) == (0 if shape is step_in_flight else 1), said
    await run.abort()
    await asyncio.sleep(3)


async def test_what_no_longer_holds_a_run_lets_it_leave(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: Ctx) -> str:
        return (await asyncio.gather(ctx.wait("go", str), ctx.step("slow", asyncio.sleep, 60)))[0]

    run = await handler.start(None, id="r")
    await asyncio.sleep(50)
    assert not is_out(app, machine.store)
    await asyncio.sleep(50)
    assert is_out(app, machine.store)
    await run.signal("go", "on")

    assert (await run.result()).output == "on"


async def test_a_step_in_flight_beside_a_wait_in_a_group_is_never_cut_off(
    app: App, machine: Machine
) -> None:
    ends: list[str] = []

    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            ends.append(repr(error))
            raise
        ends.append("worked")
        return "worked"

    @task
    async def handler(ctx: Ctx) -> list[str]:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(ctx.wait("go", str))
            working = group.create_task(ctx.step("work", work))
        return [waiting.result(), working.result()]

    run = await handler.start(None, id="r")
    await asyncio.sleep(59)
    assert not is_out(app, machine.store)
    await asyncio.sleep(60)
    assert is_out(app, machine.store)
    await run.signal("go", "on")

    assert (await run.result()).output == ["on", "worked"]
    assert ends == ["worked"]


async def test_a_timeout_of_asyncio_around_a_wait_ends_it_in_time(
    app: App, machine: Machine, clock: FakeClock
) -> None:
    @task
    async def handler(ctx: Ctx) -> str:
        try:
            return str(await asyncio.wait_for(ctx.wait("x", bool), 60))
        except TimeoutError:
            return "timed out"

    before = clock.wall()

    assert (await handler.run(None, id="r")).output == "timed out"
    assert clock.wall() - before == pytest.approx(60, abs=0.1)
    assert "parked" not in types_of(machine.store, "r")
