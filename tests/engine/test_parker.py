"""Who looks at what waits: what it saves, what it remembers, and what it cannot see."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Any, TypeVarTuple

import pytest

from outlast import App, task
from outlast.engine.belongings import Look
from outlast.testing import FakeClock, SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.waiting import Ctx, Shape, active, gathers, is_out, waits
from tests.engine.world import run_of, types_of

loop_factory = SkippingLoop

Ts = TypeVarTuple("Ts")


# What it remembers


async def test_only_the_latest_that_would_not_be_parked_are_remembered(
    app: App, machine: Machine
) -> None:
    @task
    async def handler(ctx: Ctx) -> None:
        with suppress(BaseException):
            await ctx.wait("never")

    assert app._worker is not None
    parker = app._worker._parker
    parker.most_kept = 2
    runs = [await handler.start(None, id=id) for id in "abc"]
    await asyncio.sleep(60)

    # The first one was forgotten when the third one came, and then tried once more.
    assert [types_of(machine.store, id).count("parked") for id in "abc"] == [2, 1, 1]
    assert [*parker._kept] == ["run/c", "run/a"]
    await runs[2].signal("never")
    await runs[2].result()
    assert [*parker._kept] == ["run/a"]


# What it cannot see


class _SecretiveLoop(SkippingLoop):
    """A loop that does not show on whose behalf it calls."""

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        context = copy_context() if context is None else context
        return super().call_at(when, context.run, callback, *args, context=Context())


def test_a_loop_that_hides_its_timers_keeps_runs_in_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @task
    async def handler(ctx: Ctx) -> None:
        await ctx.wait("go")

    async def live() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SkippingLoop)
        machine = Machine(loop)
        async with machine.open(grace=timedelta(seconds=1)):
            await handler.start(None, id="r")
            await asyncio.sleep(60)
        return types_of(machine.store, "r")

    with asyncio.Runner(loop_factory=_SecretiveLoop) as runner:
        types = runner.run(live())

    assert "does not show its timers" in caplog.text
    assert types == ["created", "turn_began", "handed_back"]


async def test_an_error_of_ours_in_a_look_at_what_waits_ends_no_look(
    app: App, machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(look: object, scope: object) -> Any:
        raise ZeroDivisionError

    @task
    async def handler(ctx: Ctx) -> None:
        await ctx.wait("go")

    with monkeypatch.context() as patched:
        patched.setattr(Look, "of", fail)
        run = await handler.start(None, id="r")
        await asyncio.sleep(1)
        assert not is_out(app, machine.store)
    await asyncio.sleep(2)

    assert is_out(app, machine.store)
    assert "cannot look at what waits" in caplog.text
    caplog.clear()
    await run.abort()


# What it saves


async def test_runs_that_wait_leave_their_places_to_others(machine: Machine) -> None:
    @task
    async def waiter(ctx: Ctx) -> int:
        value: int = await ctx.wait("go", int) + ctx.input
        return value

    @task
    async def works(ctx: Ctx) -> int:
        return await ctx.step("work", abs, -7)

    async with machine.open(concurrency=1) as app:
        waiting = [await waiter.start(number) for number in range(20)]
        await asyncio.sleep(10)
        assert active(app) == 0
        assert (await works.run(None)).output == 7
        for run in waiting:
            await run.signal("go", 100)
        outputs = [(await run.result()).output for run in waiting]

    assert outputs == [100 + number for number in range(20)]


@pytest.mark.parametrize("shape", [waits, gathers], ids=lambda shape: shape.__name__)
async def test_many_that_begin_to_wait_at_once_leave_together(
    machine: Machine, shape: Shape
) -> None:
    @task
    async def handler(ctx: Ctx) -> None:
        await shape(ctx)

    async with machine.open(concurrency=250) as app:
        for _ in range(250):
            await handler.start(None)
        await asyncio.sleep(0.5)
        assert active(app) == 0


async def test_the_whole_loop_is_gone_through_for_a_share_of_the_time_only(
    app: App, machine: Machine, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    look = Look._look

    def look_slowly(self: Look) -> Any:
        looks.append(clock.wall())
        clock.advance(1)
        return look(self)

    @task
    async def several(ctx: Ctx) -> None:
        await asyncio.gather(ctx.wait("never"), ctx.wait("never, too"))

    @task
    async def one(ctx: Ctx) -> None:
        await ctx.wait("never")

    monkeypatch.setattr(Look, "_look", look_slowly)
    await several.start(None, id="first")
    await asyncio.sleep(0.1)
    await several.start(None, id="second")
    await one.start(None, id="third")
    await asyncio.sleep(10)
    parked = [id for id in ("first", "second", "third") if run_of(machine.store, id).parked]
    assert parked == ["first", "third"]
    await asyncio.sleep(20)

    assert is_out(app, machine.store, "second")
    before, after = looks[:2]
    assert after - before > 20


@pytest.mark.slow
async def test_many_runs_that_wait_cost_no_object_each(machine: Machine) -> None:
    @task
    async def handler(ctx: Ctx) -> None:
        await ctx.wait("never")

    async with machine.open(concurrency=100) as app:
        counts = []
        for some in (100, 900):
            for _ in range(some):
                await handler.start(None)
            await asyncio.sleep(60)
            assert active(app) == 0
            gc.collect()
            engine = [
                it for it in gc.get_objects() if str(type(it).__module__).startswith("outlast.e")
            ]
            counts.append((len(asyncio.all_tasks()), len(engine)))
        assert app._worker is not None
        assert len(app._worker._leases._kept) == 0
        assert not app._worker._parker._valid
        assert not app._worker._parker._looks

    assert counts[0] == counts[1]
