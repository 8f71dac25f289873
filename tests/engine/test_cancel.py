"""A run is asked to stop: its handler is told, or it ends without being entered again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from outlast import (
    App,
    RetryPolicy,
    TaskAborted,
    TaskCancelled,
    TaskContext,
    TaskFailed,
    sync,
    task,
)
from outlast.testing import SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import DIED, Crash, Wire, World, head_of, types_of

loop_factory = SkippingLoop

Make = Callable[[], World]
MINUTE = timedelta(minutes=1)


async def test_a_pending_run_that_is_cancelled_does_not_begin(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        raise AssertionError

    run = await handler.start(None, id="r", delay=MINUTE)
    await run.cancel("not needed")

    with pytest.raises(TaskCancelled, match="run 'r' was cancelled: not needed"):
        await run.result()
    assert (await run.refresh()).status == "cancelled"
    assert types_of(machine.store, "r") == ["created", "ended"]


async def test_a_run_between_two_attempts_is_cancelled(app: App) -> None:
    attempts: list[int] = []

    @task(retry=RetryPolicy(3, initial_delay=MINUTE, jitter=False))
    async def handler(ctx: TaskContext[None]) -> None:
        attempts.append(ctx.attempt)
        raise OSError("no")

    run = await handler.start(None)
    await asyncio.sleep(1)
    await run.cancel()

    with pytest.raises(TaskCancelled):
        await run.result()
    assert attempts == [0]


@pytest.mark.parametrize(
    ("end", "status"), [("result", "completed"), ("cancelled", "cancelled"), ("error", "failed")]
)
async def test_a_handler_that_is_cancelled_ends_as_it_chooses(
    app: App, end: str, status: str
) -> None:
    reasons: list[Any] = []

    @task(retry=RetryPolicy(3))
    async def handler(ctx: TaskContext[str]) -> str:
        await ctx.cancel.wait()
        reasons.append(ctx.stop_reason)
        match ctx.input:
            case "error":
                raise OSError("on the way out")
            case "cancelled":
                raise asyncio.CancelledError
        return "so far"

    run = await handler.start(end)
    await asyncio.sleep(1)
    await run.cancel("enough")
    await run.cancel("again")

    match end:
        case "result":
            assert (await run.result()).output == "so far"
        case "error":
            with pytest.raises(TaskFailed) as failed:
                await run.result()
            assert failed.value.error.attempts == 1
        case _:
            with pytest.raises(TaskCancelled, match="enough"):
                await run.result()
    assert (await run.refresh()).status == status
    assert reasons == ["cancel"]


async def test_a_handler_that_raises_cancelled_error_by_itself_fails(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        raise asyncio.CancelledError

    with pytest.raises(TaskFailed, match="CancelledError"):
        await handler.run(None)


@pytest.mark.parametrize("waits_for", ["signal", "sleep", "try", "both", "signal after a step"])
async def test_a_run_that_only_waits_is_ended_by_a_cancel(app: App, waits_for: str) -> None:
    ends: list[str] = []

    async def fails() -> None:
        raise OSError("no")

    async def works() -> None:
        await asyncio.sleep(5)

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        try:
            match waits_for:
                case "signal":
                    await ctx.wait("never")
                case "sleep":
                    await ctx.sleep("long", MINUTE)
                case "try":
                    await ctx.step.options(retry=RetryPolicy(9, initial_delay=MINUTE))("a", fails)
                case "both":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(ctx.wait("never"))
                        group.create_task(ctx.sleep("long", MINUTE))
                case _:
                    await ctx.step("works", works)
                    await ctx.wait("never")
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            ends.append(f"compensates for {error!r}")
        finally:
            ends.append("finally")

    run = await handler.start(None)
    await asyncio.sleep(2)
    await run.cancel("enough")

    with pytest.raises(TaskCancelled, match="enough"):
        await run.result()
    assert ends == ["finally"]


@pytest.mark.parametrize("waits_for", ["signal", "sleep"])
async def test_a_plain_handler_that_only_waits_is_ended_by_a_cancel(
    app: App, machine: Machine, waits_for: str
) -> None:
    ends: list[str] = []

    @task
    def handler(ctx: sync.TaskContext[None]) -> None:
        try:
            ctx.step("work", abs, 1)
            ctx.wait("never") if waits_for == "signal" else ctx.sleep("long", MINUTE)
        except Exception as error:  # noqa: BLE001
            ends.append(f"compensates for {error!r}")
        finally:
            ends.append("finally")

    run = await handler.start(None, id="r")
    await asyncio.sleep(2)
    await run.cancel("enough")

    with pytest.raises(TaskCancelled, match="enough"):
        await run.result(timeout=timedelta(seconds=10))
    assert ends == ["finally"]
    assert head_of(machine.store, "r").lease is None


async def test_a_plain_handler_at_work_is_not_ended_by_a_cancel(app: App) -> None:
    door = threading.Event()

    @task
    def handler(ctx: sync.TaskContext[None]) -> str:
        door.wait(10)
        return str(ctx.stop_reason)

    run = await handler.start(None)
    await asyncio.sleep(1)
    await run.cancel()
    await asyncio.sleep(1)
    door.set()

    assert (await run.result()).output == "cancel"


async def test_what_was_emitted_before_a_cancel_is_read(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.emit("before")
        await ctx.wait("never")

    run = await handler.start(None)
    await asyncio.sleep(0)
    await run.cancel()

    assert [item.offset async for item in run.stream()] == [1]


def test_an_orphan_that_was_cancelled_is_not_entered_again(make_world: Make) -> None:
    world = make_world()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        world.does("entered")
        await ctx.sleep("long", MINUTE)

    async def drive(app: App) -> None:
        await handler.options(app=app).start(None, id="r")
        await asyncio.sleep(60)

    async def cancel(app: App) -> None:
        run = await app.runs.get("r")
        await run.cancel("enough")
        with pytest.raises(TaskCancelled, match="enough"):
            await run.result()

    assert world.live(drive, crash=Crash(2, after=True)) is DIED
    world.live(cancel)
    assert world.effects == ["entered"]


async def test_a_cancel_decides_again_where_the_run_has_moved_on(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> str:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(ctx.wait("go"))
            await ctx.cancel.wait()
            waiting.cancel()
        return "cleaned up"

    async def take_it_up_first(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            client_wire.before = nothing
            async with machine.open():
                await asyncio.sleep(1)
            parked = ["created", "turn_began", "parked"]  # until it is cancelled, among others
            assert types_of(machine.store, "r") == parked

    client_wire = Wire(machine.store)
    nothing = client_wire.before
    async with machine.open(worker=False, store=client_wire) as client:
        run = await handler.options(app=client).start(None, id="r")
        client_wire.before = take_it_up_first
        await run.cancel()
        async with machine.open():
            assert (await run.result()).output == "cleaned up"


async def test_an_end_is_heard_of_that_comes_while_the_run_is_read(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await asyncio.sleep(60)

    async def abort_it(verb: Verb, argument: Any) -> None:
        if verb == "read":
            client_wire.after = nothing
            await (await app.runs.get("r")).abort()

    client_wire = Wire(machine.store)
    nothing = client_wire.after
    async with machine.open() as app, machine.open(worker=False, store=client_wire) as client:
        await handler.options(app=app).start(None, id="r")
        run = await client.runs.get("r")
        client_wire.after = abort_it
        began = machine.clock.boot()
        with pytest.raises(TaskAborted):
            await run.result()

    assert machine.clock.boot() - began < 0.5


async def test_stopping_a_run_that_has_ended_does_nothing(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> int:
        return 7

    run = await handler.start(None, id="r")
    await run.result()
    entries = types_of(machine.store, "r")
    await run.cancel()
    await run.abort()

    assert types_of(machine.store, "r") == entries
    assert (await run.result()).output == 7


async def test_a_turn_that_ended_before_a_cancel_is_answered_as_it_ended(machine: Machine) -> None:
    """Also where its worker hears of the cancel together with the turn's end."""

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        await ctx.suspend(output="its own")

    nothing = machine.wire.after

    async def cancel(verb: Verb, changes: Any) -> None:
        if verb == "commit" and "turn_ended" in [e.type for c in changes for e in c.entries]:
            machine.wire.after = nothing
            await (await other.runs.get("r")).cancel()

    async with (
        machine.open() as app,
        machine.open(worker=False, store=Wire(machine.store)) as other,
    ):
        machine.wire.after = cancel
        result = await handler.options(app=app).run(None, id="r")

    assert (result.output, result.status) == ("its own", "suspended")
    assert types_of(machine.store, "r")[-2:] == ["turn_ended", "ended"]
