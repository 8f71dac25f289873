"""Sleeps, and waits for signals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from outlast import App, TaskContext, TaskFailed, UsageError, task
from outlast.testing import FakeClock, SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.world import DIED, LEASE, Crash, World, run_of, types_of

loop_factory = SkippingLoop

Make = Callable[[], World]

MINUTE = timedelta(minutes=1)


class Answer(BaseModel):
    ok: bool


# Sleeps


async def test_a_sleep_lasts_as_long_as_it_says(app: App, clock: FakeClock) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.sleep("a while", MINUTE)

    before = clock.wall()
    await handler.run(None)

    assert clock.wall() - before == pytest.approx(60, abs=0.1)


def test_a_sleep_counts_from_when_it_was_first_asked_for(make_world: Make) -> None:
    world = make_world()
    began = world.clock.wall()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.sleep("a while", MINUTE)

    async def drive(app: App) -> float:
        run = await handler.options(app=app).start(None, id="r")
        await run.result()
        return world.clock.wall() - began

    assert world.live(drive, crash=Crash(2, after=True)) is DIED
    assert world.live(drive) == pytest.approx(60, abs=0.1)


def test_a_sleep_that_ended_while_nobody_was_there_is_over_at_once(make_world: Make) -> None:
    world = make_world()
    began = world.clock.wall()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.sleep("a while", timedelta(seconds=1))

    async def drive(app: App) -> float:
        run = await handler.options(app=app).start(None, id="r")
        await run.result()
        return world.clock.wall() - began

    assert world.live(drive, crash=Crash(2, after=True)) is DIED
    assert world.live(drive) == pytest.approx(LEASE, abs=1)


@pytest.mark.parametrize("duration", [timedelta(seconds=-1), 3, None])
async def test_what_is_no_duration_is_refused(app: App, duration: Any) -> None:
    @task
    async def sleeps(ctx: TaskContext[None]) -> None:
        await ctx.sleep("a while", duration)

    @task
    async def waits(ctx: TaskContext[None]) -> None:
        wrong: Any = 3 if duration is None else duration
        await ctx.wait("go", timeout=wrong)

    with pytest.raises(TaskFailed, match="a sleep's duration is a timedelta of 0 or more"):
        await sleeps.run(None)
    with pytest.raises(TaskFailed, match="a wait's timeout is a timedelta of 0 or more"):
        await waits.run(None)


# Signals


async def test_signals_of_one_name_are_taken_in_their_order(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        return [await ctx.wait("go", int) for _ in range(3)]

    run = await handler.start(None)
    for number in (1, 2, 3):
        await run.signal("go", number)

    assert (await run.result()).output == [1, 2, 3]


async def test_a_signal_may_come_before_anybody_waits_for_it(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> int:
        await ctx.sleep("a while", MINUTE)
        return await ctx.wait("go", int)

    run = await handler.start(None, delay=MINUTE)
    await run.signal("go", 7)

    assert (await run.result()).output == 7


async def test_a_signal_is_read_by_the_type_that_the_wait_names(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        answer = await ctx.wait("typed", Answer)
        return [answer.ok, await ctx.wait("plain")]

    run = await handler.start(None)
    await run.signal("typed", Answer(ok=True))
    await run.signal("plain", {"x": [1]})

    assert (await run.result()).output == [True, {"x": [1]}]


async def test_a_signal_of_another_type_is_a_codec_error(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> int:
        return await ctx.wait("go", int)

    run = await handler.start(None)
    await run.signal("go", "no number")

    with pytest.raises(TaskFailed, match="CodecError"):
        await run.result()


async def test_a_signal_said_again_with_its_id_is_sent_once(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        return [await ctx.wait("go", int), await ctx.wait("go", int)]

    run = await handler.start(None)
    await run.signal("go", 1, id="one")
    await run.signal("go", 1, id="one")
    await run.signal("go", 2, id="two")

    assert (await run.result()).output == [1, 2]


@pytest.mark.parametrize("name", ["", "a#b", "x" * 201])
async def test_what_is_no_name_of_a_signal_is_refused(app: App, name: str) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.wait("go")

    run = await handler.start(None)
    with pytest.raises(UsageError):
        await run.signal(name)
    with pytest.raises(UsageError):
        await run.signal("go", id="")
    await run.abort()


async def test_two_waiters_of_one_name_get_signals_in_the_order_in_which_they_asked(
    app: App,
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        return list(await asyncio.gather(ctx.wait("go", int), ctx.wait("go", int)))

    run = await handler.start(None)
    await run.signal("go", 1)
    await run.signal("go", 2)

    assert (await run.result()).output == [1, 2]


# Timeouts


async def test_a_wait_without_a_signal_times_out(app: App, clock: FakeClock) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await ctx.wait("go", timeout=MINUTE)
        except TimeoutError as error:
            return str(error)
        return "?"

    before = clock.wall()
    result = await handler.run(None)

    assert result.output == "no signal 'go' came within 0:01:00"
    assert clock.wall() - before == pytest.approx(60, abs=0.1)


def test_a_timeout_counts_from_when_the_wait_was_first_asked_for(make_world: Make) -> None:
    world = make_world()
    began = world.clock.wall()

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await ctx.wait("go", timeout=MINUTE)
        except TimeoutError:
            return "timeout"
        return "?"

    async def drive(app: App) -> tuple[str, float]:
        run = await handler.options(app=app).start(None, id="r")
        return (await run.result()).output, world.clock.wall() - began

    assert world.live(drive, crash=Crash(2, after=True)) is DIED
    answer: Any = world.live(drive)
    assert answer == ("timeout", pytest.approx(60, abs=0.1))


def test_a_signal_that_is_there_counts_even_after_the_timeout(make_world: Make) -> None:
    world = make_world()

    @task
    async def handler(ctx: TaskContext[None]) -> int:
        return await ctx.wait("go", int, timeout=timedelta(seconds=1))

    async def begin(app: App) -> None:
        await handler.options(app=app).start(None, id="r")
        await asyncio.sleep(0.5)

    async def signal(app: App) -> None:
        await asyncio.sleep(2)
        await (await app.runs.get("r")).signal("go", 7)

    async def finish(app: App) -> Any:
        return (await (await app.runs.get("r")).result()).output

    assert world.live(begin, crash=Crash(2, after=True)) is DIED
    world.live(signal, worker=False)
    assert world.live(finish) == 7


async def test_a_signal_that_comes_while_the_timeout_is_written_counts(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> Any:
        return await ctx.wait("go", int, timeout=MINUTE)

    async def signal_first(verb: str, argument: Any) -> None:
        if verb == "commit" and any(
            draft.type == "checkpointed" for change in argument for draft in change.entries
        ):
            machine.wire.before = nothing
            await (await client.runs.get("r")).signal("go", 7)

    nothing = machine.wire.before
    async with machine.open(store=None) as app, machine.open(worker=False) as client:
        run = await handler.options(app=app).start(None, id="r")
        machine.wire.before = signal_first
        assert (await run.result()).output == 7


# Waiters that leave


async def test_a_waiter_that_leaves_takes_no_signal(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        try:
            await asyncio.wait_for(ctx.wait("go", int), 1)
        except TimeoutError:
            await ctx.emit("left")
        return [await ctx.wait("go", int), await ctx.wait("go", int)]

    run = await handler.start(None, id="r")
    async for _ in run.stream():
        break
    await run.signal("go", 1)
    await run.signal("go", 2)

    assert (await run.result()).output == [1, 2]
    slots = run_of(machine.store, "r").checkpoints
    assert [slot.number for slot in slots] == [2, 3]


async def test_a_waiter_whose_signal_is_being_written_gets_it_although_it_is_cancelled(
    machine: Machine,
) -> None:
    writing, cancelled = asyncio.Event(), asyncio.Event()

    @task
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        async def cancel() -> None:
            await writing.wait()
            waiting.cancel()
            cancelled.set()

        waiting = asyncio.ensure_future(ctx.wait("go", int))
        await asyncio.gather(cancel(), asyncio.wait({waiting}))
        return [waiting.result(), await ctx.wait("go", int)]

    async def cancel_first(verb: str, argument: Any) -> None:
        if verb == "commit" and any(
            draft.type == "checkpointed" for change in argument for draft in change.entries
        ):
            writing.set()
            await cancelled.wait()

    async with machine.open():
        run = await handler.start(None, id="r")
        machine.wire.before = cancel_first
        await run.signal("go", 1)
        await run.signal("go", 2)

        assert (await run.result()).output == [1, 2]


async def test_a_waiter_that_leaves_while_another_is_served_takes_nothing(
    machine: Machine,
) -> None:
    writing, cancelled = asyncio.Event(), asyncio.Event()

    @task
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        async def cancel() -> None:
            await writing.wait()
            second.cancel()
            cancelled.set()

        first = asyncio.ensure_future(ctx.wait("go", int))
        second = asyncio.ensure_future(ctx.wait("go", int))
        await asyncio.gather(cancel(), asyncio.wait({first, second}))
        assert second.cancelled()
        return [first.result(), await ctx.wait("go", int)]

    async def cancel_first(verb: str, argument: Any) -> None:
        if verb == "commit" and any(
            draft.type == "checkpointed" for change in argument for draft in change.entries
        ):
            writing.set()
            await cancelled.wait()

    async with machine.open():
        run = await handler.start(None, id="r")
        await asyncio.sleep(0.1)
        machine.wire.before = cancel_first
        await run.signal("go", 1)
        await writing.wait()
        await run.signal("go", 2)

        assert (await run.result()).output == [1, 2]


async def test_a_wait_is_two_writes_at_most(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.wait("go")
        await ctx.wait("go", timeout=MINUTE)

    run = await handler.start(None, id="r")
    await run.signal("go")
    await run.signal("go")
    await run.result()

    assert types_of(machine.store, "r") == [
        "created",
        "turn_began",
        "signalled",
        "signalled",
        "checkpointed",
        "timer_set",
        "checkpointed",
        "ended",
    ]
