"""An app belongs to its process and event loop, and its worker takes what is due."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest

import outlast
from outlast import App, TaskContext, TaskRun, Unavailable, UsageError, sync, task
from outlast.engine.clock import System
from outlast.engine.definition import TASKS
from outlast.engine.leases import BLOCKED_FOR, Leases
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import LEASE, Wire, head_of, run_of, types_of

loop_factory = SkippingLoop

MINUTE = timedelta(minutes=1)


@task(name="app.echo")
async def echo(ctx: TaskContext[Any]) -> Any:
    return ctx.input


# Where an app may be used


async def test_an_app_that_is_not_open_is_refused(machine: Machine) -> None:
    app = machine.open()

    with pytest.raises(UsageError, match="is not open"):
        _ = app.runs
    async with app:
        run = await echo.start(1)
    with pytest.raises(UsageError, match="is not open"):
        _ = app.runs
    with pytest.raises(UsageError, match="was entered before"):
        await app.__aenter__()
    with pytest.raises(UsageError, match="no app is open"):
        await echo.start(1)
    del run


async def test_of_two_open_apps_one_is_named(machine: Machine) -> None:
    async with machine.open() as app, machine.open(store=Wire(machine.store)):
        with pytest.raises(UsageError, match="2 apps are open"):
            await echo.start(1)
        assert (await echo.options(app=app).run(1)).output == 1


async def test_an_app_is_refused_in_another_event_loop(app: App) -> None:
    async def elsewhere() -> None:
        await echo.start(1)

    def run() -> None:
        with pytest.raises(UsageError, match="was opened in another event loop"):
            asyncio.run(elsewhere())
        with pytest.raises(UsageError, match="was opened in another event loop"):
            _ = app.runs

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


async def test_an_app_is_refused_after_a_fork(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()

    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: parent + 1)
        with pytest.raises(UsageError, match=f"in process {parent}, and this is its fork"):
            await echo.start(1)


@pytest.mark.parametrize(
    "settings",
    [
        {"concurrency": 0},
        {"lease": timedelta(milliseconds=999)},
        {"grace": timedelta(seconds=-1)},
        {"queues": ()},
        {"queues": "default"},
        {"queues": ["x" * 201]},
        {"namespace": ""},
        {"url": "nonsense://"},
    ],
    ids=str,
)
def test_a_setting_of_an_app_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        outlast.open(**{"url": "memory://", **settings})


def test_the_place_of_an_app_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTLAST_URL", "memory://")

    assert outlast.open().url == "memory://"
    monkeypatch.delenv("OUTLAST_URL")
    assert outlast.open().url == "sqlite:///outlast.db"


async def test_an_app_in_memory_needs_nothing(nothing_is_left: None) -> None:
    async with outlast.open("memory://", resources={"a": 1}) as app:
        assert (await echo.run(7)).output == 7
        assert app.resources == {"a": 1}


# Tasks


async def test_two_tasks_of_one_name_are_refused_when_a_worker_opens(machine: Machine) -> None:
    @task(name="twice")
    async def first(ctx: TaskContext[None]) -> None:
        """Never run."""

    second = task(name="twice")(_of_another_module())
    with pytest.raises(UsageError, match="two tasks are named 'twice'"):
        async with machine.open():
            pass
    async with machine.open(worker=False):
        pass
    del second
    async with machine.open(store=Wire(machine.store)):
        assert first.name == "twice"
        assert repr(first) == "<Task 'twice'>"


async def test_a_worker_that_meets_two_tasks_of_one_name_goes_on_when_one_is_gone(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    @task(name="twice")
    async def first(ctx: TaskContext[None]) -> int:
        return 7

    async with machine.open(worker=False) as client, machine.open(store=Wire(machine.store)):
        second: Any = task(name="twice")(_of_another_module())
        run = await first.options(app=client).start(None)
        await asyncio.sleep(1)
        assert "no work is taken: two tasks are named" in caplog.text
        del second
        assert (await run.result()).output == 7
    caplog.clear()


def _of_another_module() -> Any:
    async def second(ctx: TaskContext[None]) -> None:
        """Never run."""

    second.__module__ = "another"
    return second


def test_a_task_declared_again_replaces_the_one_before() -> None:
    kept = []
    for _ in range(2):

        @task(name="again")
        async def handler(ctx: TaskContext[None]) -> None:
            """Never run."""

        kept.append(handler)

    assert TASKS.by_name()["again"] is kept[1]._definition


def test_a_task_that_nobody_keeps_is_forgotten() -> None:
    @task(name="forgotten")
    async def handler(ctx: TaskContext[None]) -> None:
        """Never run."""

    assert "forgotten" in TASKS.by_name()
    del handler
    gc.collect()
    assert "forgotten" not in TASKS.by_name()


async def test_a_plain_handler_sees_what_a_coroutine_sees(app: App) -> None:
    @task
    def handler(ctx: sync.TaskContext[int]) -> list[Any]:
        return [
            ctx.name,
            ctx.turn,
            ctx.entry_mode,
            ctx.attempt,
            ctx.recovery_count,
            ctx.token,
            ctx.session_id,
            dict(ctx.tags),
            ctx.stop_reason,
            ctx.resources,
            ctx.cancel.is_set(),
            ctx.shutdown.wait(timedelta(seconds=1)),
            len(ctx.input_id),
        ]

    output = (await handler.run(1, session_id="s", tags={"a": "b"})).output

    name = handler.name
    assert output == [name, 1, "fresh", 0, 0, 1, "s", {"a": "b"}, None, None, False, False, 36]


async def test_a_plain_handler_hears_that_it_is_cancelled(app: App) -> None:
    @task
    def handler(ctx: sync.TaskContext[int]) -> str:
        return f"{ctx.cancel.wait()} {ctx.stop_reason}"

    run = await handler.start(1)
    await asyncio.sleep(1)
    await run.cancel()

    assert (await run.result()).output == "True cancel"


# Workers


async def test_a_worker_runs_as_many_at_a_time_as_it_has_places(machine: Machine) -> None:
    at_work = most = 0

    @task
    async def handler(ctx: TaskContext[int]) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(1)
        at_work -= 1

    async with machine.open(concurrency=3):
        runs = [await handler.start(number) for number in range(10)]
        for run in runs:
            await run.result()

    assert most == 3


async def test_every_run_is_run_by_one_of_many_workers(machine: Machine) -> None:
    entered: list[int] = []

    @task
    async def handler(ctx: TaskContext[int]) -> None:
        entered.append(ctx.input)
        await asyncio.sleep(1)

    async with (
        machine.open(worker=False) as client,
        machine.open(store=Wire(machine.store), concurrency=2),
        machine.open(store=Wire(machine.store), concurrency=2),
    ):
        own = handler.options(app=client)
        runs: list[TaskRun[None]] = [await own.start(number) for number in range(12)]
        for run in runs:
            await run.result()

    assert sorted(entered) == list(range(12))


async def test_a_task_that_is_not_known_here_holds_up_nobody(machine: Machine) -> None:
    @task(name="unknown here")
    async def handler(ctx: TaskContext[None]) -> None:
        """Never run."""

    async with machine.open(worker=False) as client:
        await handler.options(app=client, priority=9).start(None, id="unknown")
        del handler
        gc.collect()
        async with machine.open(store=Wire(machine.store), concurrency=1):
            assert (await echo.options(app=client).run(7)).output == 7
        assert head_of(machine.store, "unknown").card.status == "pending"


async def test_a_worker_asks_again_when_the_store_gives_no_answer(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    async def no_answer(verb: Verb, argument: Any) -> None:
        if verb == "claim":
            raise Unavailable("the network is down")

    answers = machine.wire.before
    machine.wire.before = no_answer
    async with machine.open(), machine.open(worker=False, store=Wire(machine.store)) as client:
        run = await echo.options(app=client).start(7)
        await asyncio.sleep(2)
        assert "the store gives no work: the network is down" in caplog.text
        machine.wire.before = answers
        assert (await run.result()).output == 7


async def test_a_bug_of_ours_does_not_end_the_worker(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(verb: Verb, argument: Any) -> None:
        if verb == "claim":
            machine.wire.before = works
            raise RuntimeError("a bug")

    works = machine.wire.before
    machine.wire.before = breaks
    async with machine.open(), machine.open(worker=False, store=Wire(machine.store)) as client:
        await asyncio.sleep(1)
        assert "the worker cannot look for work" in caplog.text
        assert (await echo.options(app=client).run(7)).output == 7
    caplog.clear()


async def test_runs_go_on_without_any_hint(machine: Machine, clock: FakeClock) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        answer = await ctx.wait("go")
        await ctx.cancel.wait()
        return [answer, ctx.stop_reason]

    async with machine.open(worker=False) as client, machine.open(store=Wire(machine.store)):
        with machine.deaf():
            before = clock.wall()
            run = await handler.options(app=client).start(None, id="r")
            await asyncio.sleep(6)
            assert head_of(machine.store, "r").card.status == "running"
            await run.signal("go", 7)
            await asyncio.sleep(6)
            await run.cancel()
            assert (await run.result()).output == [7, "cancel"]

    assert clock.wall() - before < 19


async def test_a_busy_worker_looks_for_what_no_hint_said(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> Any:
        return await ctx.wait("go")

    async with machine.open(worker=False) as client, machine.open(store=Wire(machine.store)):
        run = await handler.options(app=client).start(None, id="r")
        await asyncio.sleep(1)
        with machine.deaf():
            await run.signal("go", 7)
        for number in range(20):  # it is woken all the time
            await echo.options(app=client).start(number)
            await asyncio.sleep(0.5)
        assert (await run.refresh()).status == "completed"


async def test_a_hint_about_nothing_in_particular_makes_everybody_look(
    machine: Machine, clock: FakeClock
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> Any:
        return await ctx.wait("go")

    async with machine.open() as app:
        run = await handler.start(None, id="r")
        await asyncio.sleep(1)
        with machine.deaf():
            await run.signal("go", 7)
        before = clock.wall()
        machine.store._hint(outlast.store.Hint(None))
        assert (await run.result()).output == 7
        del app

    assert clock.wall() - before < 1.1


async def test_an_error_of_our_own_is_not_the_handlers(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            raise RuntimeError("a bug")

    async with machine.open(), machine.open(worker=False, store=Wire(machine.store)) as client:
        machine.wire.before = breaks
        await echo.options(app=client).start(7, id="r")
        await asyncio.sleep(1)

    assert "run/r is left to the end of its lease: an error of outlast's own" in caplog.text
    assert types_of(machine.store, "r") == ["created"]
    caplog.clear()


# Leases


async def test_leases_are_renewed_while_the_run_lasts(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await asyncio.sleep(10 * LEASE)

    await handler.run(None, id="r")

    assert run_of(machine.store, "r").recoveries == 0


async def test_long_leases_are_renewed_too(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await asyncio.sleep(12 * BLOCKED_FOR)

    async with machine.open(lease=timedelta(seconds=4 * BLOCKED_FOR)):
        await handler.run(None, id="r")

    assert run_of(machine.store, "r").recoveries == 0


async def test_a_loop_that_is_silent_for_too_long_gives_its_leases_up(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(Leases):
        """Leases of a loop that answers only when it is told to."""

        answers = True

        def _answer(self) -> None:
            if self.answers:
                super()._answer()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await asyncio.sleep(60)

    leases = Silent(machine.wire, machine.system, LEASE)
    async with machine.open(worker=False) as client:
        await handler.options(app=client).start(None, id="r")
        [head] = (
            await machine.store.claim(
                [outlast.store.Lane("default", handler.name)], "me", LEASE, 1, "id"
            )
        ).heads
        assert head.lease is not None
        lost: list[str] = []
        leases.keep(head.lease, machine.system.monotonic(), lambda: lost.append("lost"))
        leases.open()
        await asyncio.sleep(2 * LEASE)
        assert head_of(machine.store, "r").lease is not None
        leases.answers = False
        await asyncio.sleep(BLOCKED_FOR + 3 * LEASE)
        assert "the event loop has not answered" in caplog.text
        lease = head_of(machine.store, "r").lease
        assert lease is not None
        assert lease.until < machine.clock.boot()
        leases.answers = True  # and renews again what nobody took meanwhile
        await asyncio.sleep(LEASE)
        lease = head_of(machine.store, "r").lease
        assert lease is not None
        assert lease.until > machine.clock.boot()
        await leases.close()
    assert not lost
    caplog.clear()


# The machine itself


async def test_the_real_machine_has_clocks_and_chance(nothing_is_left: None) -> None:
    system = System()

    assert system.wall() > 1_700_000_000
    assert system.monotonic() <= system.monotonic()
    assert system.boot() > 0
    assert system.boot_id() == System().boot_id()
    assert len({system.draw_name() for _ in range(100)}) == 100
    assert len(system.draw_name()) == 13
    assert 0.75 <= system.draw_factor(0.25) <= 1.25
    assert system.process_id() == os.getpid()
    assert system.draw_id()[14] == "7"


def test_a_mac_knows_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    system = System()
    system.boot_session = ("/bin/echo", "-n", "kern.bootsessionuuid")

    assert system.boot() > 0
    assert system.boot_id() == system.boot_id() == "kern.bootsessionuuid"


async def test_the_real_machine_waits_at_most_so_long(nothing_is_left: None) -> None:
    system, event = System(), asyncio.Event()

    assert not await system.wait(event, 0)
    assert not await system.wait(event, 5)
    system.call_later(5, event.set)
    assert await system.wait(event, None)
    assert await system.wait(event, 5)
    await system.sleep(5)


def test_the_real_machine_works_beside_a_loop() -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []

        async def beside() -> None:
            seen.append(threading.current_thread().name)

        async def fails() -> None:
            raise OSError("no")

        system = System()
        await system.run_beside(beside, "beside")
        with pytest.raises(OSError, match="no"):
            await system.run_beside(fails, "beside")
        return seen

    assert asyncio.run(main()) == ["beside"]
