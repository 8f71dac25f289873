"""Runs out of memory: how they come back, and how they end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from outlast import App, TaskCancelled, task
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.waiting import Ctx, active, is_out
from tests.engine.world import head_of, types_of

loop_factory = SkippingLoop

HOUR = timedelta(hours=1)


# How it ends, and how it comes back


async def test_what_finally_does_is_recorded_once_at_the_real_end(
    app: App, machine: Machine
) -> None:
    steps: list[str] = []
    entered: list[str] = []

    @task
    async def handler(ctx: Ctx) -> None:
        try:
            entered.append("entered")
            await ctx.wait("go")
        except (Exception, asyncio.CancelledError):
            steps.append("compensates")
            raise
        finally:
            entered.append("left")
            await ctx.step("tidy", steps.append, "tidy")

    run = await handler.start(None, id="r")
    await asyncio.sleep(1)
    assert is_out(app, machine.store)
    await run.signal("go")
    await run.result()

    assert entered == ["entered", "left"] * 2
    assert steps == ["tidy"]


@pytest.mark.parametrize("what", ["signal", "cancel", "abort"])
async def test_what_comes_while_a_handler_unwinds_counts(
    app: App, machine: Machine, clock: FakeClock, what: str
) -> None:
    @task
    async def handler(ctx: Ctx) -> str:
        try:
            return await ctx.wait("go", str)
        finally:
            unwinds.set()
            await asyncio.sleep(0.5)

    unwinds = asyncio.Event()
    run = await handler.start(None, id="r")
    await unwinds.wait()
    before = clock.wall()
    match what:
        case "signal":
            await run.signal("go", "gone")
            assert (await run.result()).output == "gone"
        case "cancel":
            await run.cancel("enough")
            with pytest.raises(TaskCancelled, match="enough"):
                await run.result()
            assert "attempt_began" not in types_of(machine.store, "r")
        case _:
            await run.abort()
            assert (await run.refresh()).status == "aborted"
            assert "parked" not in types_of(machine.store, "r")
    await asyncio.sleep(2)
    assert active(app) == 0
    assert clock.wall() - before < 4


async def test_a_signal_that_comes_before_the_park_is_written_enters_at_once(
    machine: Machine, clock: FakeClock
) -> None:
    @task
    async def handler(ctx: Ctx) -> str:
        return await ctx.wait("go", str)

    async def signal_first(verb: Verb, argument: Any) -> None:
        if verb == "commit" and any("parked" in entry.type for entry in argument[0].entries):
            machine.wire.before = nothing
            with machine.deaf():
                await run.signal("go", "gone")

    nothing = machine.wire.before
    async with machine.open():
        run = await handler.start(None, id="r")
        before = clock.wall()
        machine.wire.before = signal_first
        assert (await run.result()).output == "gone"

    assert clock.wall() - before < 1


@pytest.mark.parametrize("swallows", ["returns", "raises", "waits again"])
async def test_a_handler_that_swallows_its_unwinding_stays_in_memory(
    app: App, machine: Machine, caplog: pytest.LogCaptureFixture, swallows: str
) -> None:
    entered: list[str] = []

    @task
    async def handler(ctx: Ctx) -> str:
        entered.append(ctx.entry_mode)
        try:
            return await ctx.wait("go", str)
        except BaseException as error:
            if swallows == "raises":
                raise OSError("of its own") from error
            if swallows == "waits again":
                await asyncio.sleep(60)
            return "wrong"

    run = await handler.start(None, id="r")
    await asyncio.sleep(120)
    assert entered == ["fresh"] * 2
    assert not is_out(app, machine.store)
    await run.signal("go", "right")

    assert (await run.result()).output == "right"
    assert caplog.text.count("did not let pass") == 1


# Stops


async def test_a_run_out_of_memory_is_cancelled_at_once(
    app: App, machine: Machine, clock: FakeClock
) -> None:
    @task
    async def handler(ctx: Ctx) -> None:
        await ctx.wait("never")

    run = await handler.start(None, id="r")
    await asyncio.sleep(1)
    assert is_out(app, machine.store)
    before = clock.wall()
    await run.cancel("enough")

    with pytest.raises(TaskCancelled, match="enough"):
        await run.result()
    assert clock.wall() - before < 0.01
    assert types_of(machine.store, "r") == ["created", "turn_began", "parked", "ended"]


@pytest.mark.parametrize("is_parked", [True, False])
async def test_a_handler_that_waits_for_its_cancel_is_entered_again_for_it(
    app: App, machine: Machine, *, is_parked: bool
) -> None:
    @task
    async def handler(ctx: Ctx) -> str:
        tasks = [asyncio.ensure_future(ctx.wait("never")), asyncio.ensure_future(ctx.cancel.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return f"{ctx.stop_reason}: {[one.done() for one in tasks]}"

    run = await handler.start(None, id="r")
    await asyncio.sleep(1 if is_parked else 0.01)
    assert is_out(app, machine.store) is is_parked
    await run.cancel("enough")

    assert (await run.result()).output == "cancel: [False, True]"
    assert types_of(machine.store, "r").count("parked") == is_parked


async def test_an_abort_ends_a_run_out_of_memory(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: Ctx) -> None:
        await ctx.wait("never")

    run = await handler.start(None, id="r")
    await asyncio.sleep(1)
    await run.abort()

    assert types_of(machine.store, "r") == ["created", "turn_began", "parked", "aborted"]


async def test_at_a_shutdown_what_only_waits_is_parked_and_counts_no_recovery(
    machine: Machine, clock: FakeClock
) -> None:
    @task
    async def handler(ctx: Ctx) -> tuple[str, int]:
        await ctx.sleep("long", HOUR)
        return ctx.entry_mode, ctx.recovery_count

    async with machine.open():
        await handler.start(None, id="r")
        await asyncio.sleep(0.01)
        before = clock.wall()
    assert clock.wall() - before < 0.3
    assert types_of(machine.store, "r")[-1] == "parked"
    assert head_of(machine.store, "r").lease is None

    async with machine.open() as app:
        assert (await (await app.runs.get("r")).result()).output == ("fresh", 0)
    assert clock.wall() - before == pytest.approx(3600, abs=1)
