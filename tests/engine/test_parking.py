"""Runs that only wait leave memory, and go on as if they had never been out of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVarTuple

import pytest

from outlast import App, RetryPolicy, TaskCancelled, TaskContext, sync, task
from outlast.engine.belongings import Look
from outlast.stores.memory import MemoryStore
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import head_of, run_of, types_of

loop_factory = SkippingLoop

Ts = TypeVarTuple("Ts")

Ctx = TaskContext[Any]
Shape = Callable[[Ctx], Awaitable[Any]]

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def active(app: App) -> int:
    """Return how many runs the app's worker has in memory."""
    assert app._worker is not None
    return len(app._worker._active)


def is_out(app: App, store: MemoryStore, id: str = "r") -> bool:
    """Say whether the run waits out of memory, with no lease and no place."""
    head = head_of(store, id)
    is_parked = run_of(store, id).parked is not None
    assert is_parked is (head.lease is None) is (active(app) == 0)
    assert head.card.status == "running"
    return is_parked


# What parks


async def waits(ctx: Ctx) -> Any:
    return await ctx.wait("a", str)


async def waits_with_a_timeout(ctx: Ctx) -> Any:
    return await ctx.wait("a", str, timeout=HOUR)


async def sleeps(ctx: Ctx) -> Any:
    await ctx.sleep("long", MINUTE)


async def gathers(ctx: Ctx) -> Any:
    return await asyncio.gather(ctx.wait("a", str), ctx.sleep("long", MINUTE), ctx.wait("b", str))


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
