"""A worker ends: it gives back what it has, and nothing is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from outlast import TaskContext, task
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import head_of, run_of, types_of

loop_factory = SkippingLoop


async def test_a_shutdown_lets_runs_end_within_the_grace(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> str:
        await ctx.shutdown.wait()
        await asyncio.sleep(5)
        return str(ctx.stop_reason)

    async with machine.open(grace=timedelta(seconds=10)):
        await handler.start(None, id="r")
        await asyncio.sleep(1)

    assert head_of(machine.store, "r").card.status == "completed"
    async with machine.open() as app:
        assert (await (await app.runs.get("r")).result()).output == "shutdown"


async def test_after_the_grace_a_run_is_handed_back_and_goes_on_elsewhere(
    machine: Machine, clock: FakeClock
) -> None:
    ends: list[str] = []

    @task
    async def handler(ctx: TaskContext[None]) -> tuple[str, int]:
        if ctx.entry_mode == "recovered":
            return ctx.entry_mode, ctx.recovery_count
        try:
            await asyncio.sleep(600)
        except (Exception, asyncio.CancelledError):
            ends.append("compensates")
            raise
        finally:
            ends.append("finally")
        raise AssertionError

    async with machine.open(grace=timedelta(seconds=10)):
        await handler.start(None, id="r")
        await asyncio.sleep(1)
        before = clock.wall()

    assert clock.wall() - before == pytest.approx(10, abs=0.2)
    assert ends == ["finally"]
    head = head_of(machine.store, "r")
    assert (head.card.status, head.lease) == ("pending", None)
    async with machine.open() as app:
        result = await (await app.runs.get("r")).result()
    assert result.output == ("recovered", 1)
    assert run_of(machine.store, "r").deaths == 0
    assert clock.wall() - before < 11


async def test_a_run_that_only_waits_does_not_use_the_grace(
    machine: Machine, clock: FakeClock
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.wait("never")

    async with machine.open(grace=timedelta(seconds=10)):
        await handler.start(None, id="r")
        await asyncio.sleep(1)
        before = clock.wall()

    assert clock.wall() - before < 0.5
    head = head_of(machine.store, "r")
    assert (head.card.status, head.lease) == ("running", None)
    assert types_of(machine.store, "r") == ["created", "turn_began", "parked"]


async def test_a_run_that_begins_during_a_shutdown_hears_of_it(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> str:
        await ctx.shutdown.wait()
        return "heard"

    async def slowly(verb: Verb, argument: Any) -> None:
        if verb == "read":
            await asyncio.sleep(1)

    async with machine.open() as app:
        await handler.options(app=app).start(None, id="r", delay=timedelta(seconds=1))
        machine.wire.before = slowly
        await asyncio.sleep(1.5)  # it is claimed, and being read

    assert head_of(machine.store, "r").card.status == "completed"


async def test_a_run_that_is_taken_up_at_the_end_of_the_grace_is_handed_back(
    machine: Machine,
) -> None:
    entered: list[str] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        entered.append(ctx.entry_mode)

    async def slowly(verb: Verb, argument: Any) -> None:
        if verb == "read":
            await asyncio.sleep(1)

    async with machine.open(grace=timedelta(0)) as app:
        await handler.options(app=app).start(None, id="r", delay=timedelta(seconds=1))
        machine.wire.before = slowly
        await asyncio.sleep(1.5)

    assert entered == []
    head = head_of(machine.store, "r")
    assert (head.card.status, head.lease) == ("pending", None)


async def test_a_run_that_is_made_during_a_shutdown_is_not_left_behind(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await asyncio.sleep(60)

    async def slowly(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            await asyncio.sleep(1)

    async with machine.open(grace=timedelta(0)) as app:
        machine.wire.before = slowly
        starting = asyncio.ensure_future(handler.options(app=app).start(None, id="r"))
        await asyncio.sleep(0.5)
    await starting

    head = head_of(machine.store, "r")
    assert (head.card.status, head.lease) == ("pending", None)


async def test_a_coroutine_that_does_not_stop_keeps_its_lease_to_the_end(machine: Machine) -> None:
    may_end = False

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        while not may_end:
            try:
                await asyncio.sleep(60)
            except BaseException:  # noqa: BLE001
                continue

    async with machine.open(grace=timedelta(0)):
        await handler.start(None, id="r")
        await asyncio.sleep(1)
    [left] = [one for one in asyncio.all_tasks() if "handler" in one.get_name()]

    head = head_of(machine.store, "r")
    assert head.card.status == "running"
    assert head.lease is not None
    may_end = True
    left.cancel()
    await asyncio.wait({left})
