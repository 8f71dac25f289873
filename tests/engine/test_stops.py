"""How runs are stopped: cancel, abort, shutdown, a lost lease."""

from __future__ import annotations

import asyncio
import gc
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
    Unavailable,
    sync,
    task,
)
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import DIED, LEASE, Crash, Wire, World, head_of, run_of, types_of

loop_factory = SkippingLoop

Make = Callable[[], World]

MINUTE = timedelta(minutes=1)


# Cancel


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


# Abort


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


# Shutdown


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


# A lost lease


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
