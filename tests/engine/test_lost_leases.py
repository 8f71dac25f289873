"""A worker without its lease: its run is stopped, and writes nothing more."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from outlast import App, RetryPolicy, TaskContext, TaskFailed, Unavailable, sync, task
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import DIED, LEASE, Crash, Wire, World, head_of, types_of

loop_factory = SkippingLoop

Make = Callable[[], World]


async def test_a_worker_that_cannot_renew_stops_its_run_before_the_lease_ends(
    machine: Machine, clock: FakeClock
) -> None:
    stopped: list[Any] = []

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        if ctx.entry_mode == "recovered":
            return "recovered"
        began = clock.wall()
        try:
            await asyncio.sleep(600)
        finally:
            stopped.append((ctx.stop_reason, ctx.cancel.is_set(), clock.wall() - began))
        return "?"

    async def no_answer(verb: Verb, argument: Any) -> None:
        raise Unavailable("the network is down")

    lonely = Wire(machine.store)
    async with machine.open(store=lonely) as app, machine.open() as other:
        await handler.options(app=app).start(None, id="r")
        await asyncio.sleep(0.1)
        lonely.before = no_answer
        result = await (await other.runs.get("r")).result()
        assert result.output == "recovered"
        assert (stopped[0][:2]) == ("lease_lost", True)
        assert stopped[0][2] < LEASE


async def test_a_store_that_hangs_keeps_no_run_beyond_its_lease(
    machine: Machine, clock: FakeClock
) -> None:
    stopped: list[float] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        try:
            await asyncio.sleep(600)
        finally:
            stopped.append(clock.wall())

    async def hangs(verb: Verb, argument: Any) -> None:
        if verb == "renew":
            await asyncio.get_running_loop().create_future()

    async with machine.open(grace=timedelta(0)) as app:
        await handler.options(app=app).start(None, id="r")
        await asyncio.sleep(7)  # it has renewed once
        machine.wire.before = hangs
        lease = head_of(machine.store, "r").lease
        assert lease is not None
        ends = clock.wall() + lease.until - clock.boot()
        await asyncio.sleep(LEASE)

    assert stopped[0] < ends


async def test_tasks_that_end_because_the_lease_is_lost_say_nothing(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(number)
        return number

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        tasks = [asyncio.ensure_future(ctx.step("work", work, number)) for number in (2, 2, 3)]
        await asyncio.wait(tasks)

    async with machine.open(grace=timedelta(0)) as app:
        run = await handler.options(app=app).start(None, id="r")
        await asyncio.sleep(1)
        with machine.deaf():
            await run.abort()
            await asyncio.sleep(4)
    gc.collect()

    assert "never retrieved" not in caplog.text


async def test_the_next_attempt_begins_only_when_the_last_one_has_stopped(
    app: App, clock: FakeClock
) -> None:
    times: list[tuple[str, float]] = []

    @task(retry=RetryPolicy(2, initial_delay=timedelta(0)))
    async def handler(ctx: TaskContext[None]) -> None:
        async def lingers() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.5)
                times.append(("ended", clock.wall()))
                raise

        times.append(("entered", clock.wall()))
        if ctx.attempt == 0:
            left = asyncio.ensure_future(lingers())
            await asyncio.sleep(1)
            assert not left.done()
            raise OSError("no")

    await handler.run(None)

    assert [what for what, _ in times] == ["entered", "ended", "entered"]


async def test_what_does_not_stop_keeps_the_next_attempt_out_until_the_lease_ends(
    app: App, clock: FakeClock
) -> None:
    may_end = False
    stubborn: list[asyncio.Task[None]] = []
    entered: list[float] = []

    @task(retry=RetryPolicy(2, initial_delay=timedelta(0)))
    async def handler(ctx: TaskContext[None]) -> None:
        async def goes_on() -> None:
            while not may_end:
                try:
                    await asyncio.sleep(60)
                except BaseException:  # noqa: BLE001
                    continue

        entered.append(clock.wall())
        if ctx.attempt == 0:
            stubborn.append(asyncio.ensure_future(goes_on()))
            await asyncio.sleep(0)
            raise OSError("no")

    await handler.run(None)
    may_end = True
    stubborn[0].cancel()
    await asyncio.wait(stubborn)

    assert entered[1] - entered[0] > LEASE / 2


async def test_a_handler_leaves_no_task_behind(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> str:
        async def lingers() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                with pytest.raises(BaseException, match="is over"):
                    await ctx.step("late", abs, 1)

        left.append(asyncio.ensure_future(lingers()))
        await asyncio.sleep(1)
        return "done"

    left: list[asyncio.Future[None]] = []
    result = await handler.run(None, id="r")

    assert result.output == "done"
    assert left[0].cancelled()
    assert types_of(machine.store, "r") == ["created", "turn_began", "ended"]


@pytest.mark.parametrize("raised", [SystemExit(3), SystemExit("why")], ids=str)
async def test_a_system_exit_ends_the_run_and_not_the_worker(
    app: App, raised: BaseException
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        raise raised

    @task
    def plain(ctx: sync.TaskContext[None]) -> None:
        raise raised

    for one in (handler, plain):
        with pytest.raises(TaskFailed, match="RuntimeError: the handler raised SystemExit"):
            await one.run(None)


def test_a_run_whose_process_dies_again_and_again_fails_in_the_end(make_world: Make) -> None:
    world = make_world()

    @task(max_recoveries=3)
    async def handler(ctx: TaskContext[None]) -> None:
        world.does(ctx.recovery_count)
        await ctx.step("deadly", abs, 1)

    async def drive(app: App) -> Any:
        run = await handler.options(app=app).start(None, id="r")
        try:
            return (await run.result()).output
        except TaskFailed as error:
            return str(error)

    assert world.live(drive, crash=Crash(2, after=False)) is DIED
    assert world.live(drive, crash=Crash(3, after=False)) is DIED
    assert world.live(drive, crash=Crash(3, after=False)) is DIED
    assert "ProcessDied: its process died 3 times in a row" in str(world.live(drive))
    assert world.effects == [0, 1, 2]


async def test_a_policy_that_fails_is_no_retry(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def backoff(retry: int) -> timedelta:
        raise ZeroDivisionError

    @task(retry=RetryPolicy(3, backoff=backoff))
    async def handler(ctx: TaskContext[None]) -> None:
        raise OSError("the handler's own")

    with pytest.raises(TaskFailed, match="OSError: the handler's own"):
        await handler.run(None)
    assert "its retry policy gives no delay" in caplog.text
    caplog.clear()
