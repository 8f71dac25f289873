"""When a worker asks the store for work."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from outlast import App, RetryPolicy, TaskContext, TaskRun, task
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import Wire

loop_factory = SkippingLoop

AT_ONCE = 0.5
"""Seconds: less than a worker waits before it looks without being told."""


def count_claims(machine: Machine) -> list[Any]:
    """Return the list to which each claim of this machine is added from now on."""
    claims: list[Any] = []

    async def note(verb: Verb, argument: Any) -> None:
        if verb == "claim":
            claims.append(argument)

    machine.wire.before = note
    return claims


async def test_runs_that_are_made_here_and_end_cost_no_claim(app: App, machine: Machine) -> None:
    async def double(number: int) -> int:  # no thread: the clock would run on beside it
        return 2 * number

    @task
    async def handler(ctx: TaskContext[int]) -> int:
        return await ctx.step("double", double, ctx.input)

    await handler.run(0, id="first")
    claims = count_claims(machine)

    for number in range(5):
        await handler.run(number, id=f"r{number}")

    assert claims == []


async def test_a_run_that_found_no_place_is_taken_up_when_another_ends(
    machine: Machine, clock: FakeClock
) -> None:
    may_end = asyncio.Event()

    @task
    async def handler(ctx: TaskContext[str]) -> str:
        await may_end.wait()
        return ctx.input

    async with machine.open(concurrency=1):
        first, second = [await handler.start(id, id=id) for id in ("first", "second")]
        assert (await second.refresh()).status == "pending"
        began = clock.boot()

        may_end.set()

        assert [(await run.result()).output for run in (first, second)] == ["first", "second"]
        assert clock.boot() - began < AT_ONCE


async def test_more_runs_than_places_are_all_taken_up_one_after_the_other(
    machine: Machine, clock: FakeClock
) -> None:
    @task
    async def handler(ctx: TaskContext[int]) -> int:
        return ctx.input

    async with machine.open(worker=False) as elsewhere:
        runs = [await handler.options(app=elsewhere).start(n, id=f"r{n}") for n in range(7)]
        began = clock.boot()

        async with machine.open(concurrency=2):
            outputs = [(await run.result()).output for run in runs]

        assert outputs == [*range(7)]
        assert clock.boot() - began < AT_ONCE


async def test_a_run_is_heard_of_that_comes_while_the_worker_looks(
    machine: Machine, clock: FakeClock
) -> None:
    @task
    async def handler(ctx: TaskContext[int]) -> int:
        return ctx.input

    async def start_one(verb: Verb, argument: Any) -> None:
        if verb == "claim":
            machine.wire.after = nothing
            started.append(await handler.options(app=elsewhere).start(7, id="r"))

    started: list[TaskRun[int]] = []
    nothing, machine.wire.after = machine.wire.after, start_one
    async with machine.open(worker=False, store=Wire(machine.store)) as elsewhere:
        began = clock.boot()

        async with machine.open():
            await asyncio.sleep(AT_ONCE)
            assert (await started[0].result()).output == 7

    assert clock.boot() - began < 2 * AT_ONCE


async def test_an_attempt_that_fails_is_followed_by_the_next_when_it_is_due(
    app: App, clock: FakeClock
) -> None:
    @task(retry=RetryPolicy(2, initial_delay=timedelta(seconds=1), jitter=False))
    async def handler(ctx: TaskContext[None]) -> int:
        if ctx.attempt == 0:
            raise OSError("not yet")
        return ctx.attempt

    began = clock.boot()

    assert (await handler.run(None, id="r")).output == 1
    assert clock.boot() - began < 1 + AT_ONCE
