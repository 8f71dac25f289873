"""What apps do with a store that will not answer any more, and with clocks that are set."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from outlast import TaskContext, Unavailable, task
from outlast.engine.news import MAKES_SURE
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import LEASE, Wire

loop_factory = SkippingLoop

DAY = 86_400.0


@task(name="trouble.wait_long")
async def wait_long(ctx: TaskContext[None]) -> str:
    await ctx.emit("entered")
    try:
        while not ctx.cancel.is_set():
            await ctx.step("look", asyncio.sleep, 1.0)
    finally:
        ctx.resources.append(ctx.stop_reason)
    return "cancelled"


@task(name="trouble.sleep")
async def sleep(ctx: TaskContext[None]) -> None:
    await ctx.sleep("an hour", timedelta(hours=1))


@task(name="trouble.work")
async def work(ctx: TaskContext[None]) -> str:
    for number in range(60):
        await ctx.step(f"minute {number}", asyncio.sleep, 60.0)
    return ctx.entry_mode


class Broken(Wire):
    """A store that, from a moment on, gives the same answer to some verbs."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.store)
        self.before = self.break_down
        self.verbs: set[Verb] = set()
        self.answer = Unavailable("it is damaged", is_final=True)
        self.asked = 0

    async def break_down(self, verb: Verb, argument: Any) -> None:
        if verb in self.verbs:
            self.asked += 1
            raise Unavailable(str(self.answer), is_final=self.answer.is_final)


async def test_who_waits_is_told_when_nothing_is_written_any_more(
    machine: Machine, clock: FakeClock
) -> None:
    store = Broken(machine)
    async with machine.open(store=store, worker=False):
        run = await wait_long.start(None, id="r")
        store.verbs = {"commit", "renew", "claim", "delete"}
        began = clock.boot()

        for waiting in (run.result(), anext(run.stream())):
            with pytest.raises(Unavailable, match="damaged"):
                await waiting

        assert clock.boot() - began < 2 * (MAKES_SURE + 2)


async def test_who_waits_goes_on_while_there_may_be_news(machine: Machine) -> None:
    store = Broken(machine)
    store.answer = Unavailable("it is busy")
    async with machine.open(store=store, worker=False) as client:
        run = await wait_long.options(app=client).start(None, id="r")
        result = asyncio.ensure_future(run.result())
        store.verbs = {"renew"}
        await asyncio.sleep(3 * MAKES_SURE)
        assert store.asked >= 2
        assert not result.done()

        async with machine.open(resources=[]):
            await asyncio.sleep(1)
            await run.cancel()
            assert (await result).output == "cancelled"


async def test_a_final_answer_is_not_asked_for_again(machine: Machine) -> None:
    store = Broken(machine)
    async with machine.open(store=store, worker=False) as app:
        store.verbs = {"read", "commit"}

        with pytest.raises(Unavailable, match="damaged"):
            await app.runs.get("r")

        assert store.asked == 1


async def test_a_worker_stops_its_runs_at_a_final_answer(
    machine: Machine, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store, reasons = Broken(machine), list[Any]()
    async with machine.open(store=store, resources=reasons):
        run = await wait_long.start(None, id="r")
        async for _ in run.stream():
            break
        store.verbs = {"read", "commit", "renew", "claim"}
        began = clock.boot()

        with pytest.raises(Unavailable, match="damaged"):
            await run.result()
        await asyncio.sleep(LEASE)

        assert reasons == ["lease_lost"]
        assert clock.boot() - began < 2 * LEASE
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said.count("the store gives no work: it is damaged") == 1


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_a_clock_that_is_set_takes_no_run_from_its_worker(
    machine: Machine, clock: FakeClock, jump: float
) -> None:
    async with machine.open(), machine.open(store=Wire(machine.store)) as other:
        run = await work.options(app=other).start(None, id="r")
        await asyncio.sleep(90)

        clock.jump(jump)

        assert (await run.result()).output == "fresh"
        history = [entry.type async for entry in run.history()]
    assert "attempt_began" not in history


@pytest.mark.parametrize(("jump", "seconds"), [(DAY, 1800), (-DAY, DAY + 3600), (0, 3600)])
async def test_a_clock_that_is_set_moves_what_is_due(
    machine: Machine, clock: FakeClock, jump: float, seconds: float
) -> None:
    async with machine.open():
        began = clock.boot()
        run = await sleep.start(None, id="r")
        await asyncio.sleep(1800)

        clock.jump(jump)
        await run.result()

        assert clock.boot() - began == pytest.approx(seconds, abs=10)
