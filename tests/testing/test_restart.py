"""What a test sees of a crash: `app.restart()`."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from outlast import RetryPolicy, TaskContext, sync, task, testing

HOUR = timedelta(hours=1)
SOON = timedelta(seconds=0.05)


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/test.db"


@pytest.fixture(autouse=True)
async def nothing_is_left(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail a test that leaves a task, a thread at work or an error in the log behind."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"
    assert [it for it in caplog.get_records("call") if it.levelno >= logging.ERROR] == []


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Yield an event for which a thread may wait."""
    gate = threading.Event()
    yield gate
    gate.set()


async def types(run: Any) -> list[str]:
    return [entry.type async for entry in run.history()]


async def test_a_step_that_was_interrupted_runs_again_and_a_recorded_one_does_not(
    url: str,
) -> None:
    calls: list[str] = []
    modes: list[str] = []

    async def plan() -> str:
        calls.append("plan")
        return "a plan"

    async def charge() -> str:
        calls.append("charge")
        if len(calls) == 2:
            await asyncio.Event().wait()  # the crash comes in its middle
        return "charged"

    @task
    async def pays(ctx: TaskContext[None]) -> list[str]:
        modes.append(ctx.entry_mode)
        return [await ctx.step("plan", plan), await ctx.step("charge", charge)]

    async with testing.app(url) as app:
        run = await pays.start(None)
        now = app.now
        await app.restart()

        assert (await run.result()).output == ["a plan", "charged"]
        assert app.now == now
    assert calls == ["plan", "charge", "charge"]
    assert modes == ["fresh", "recovered"]


async def test_what_was_killed_does_nothing_until_the_app_is_left(url: str) -> None:
    did: list[str] = []
    gates = [asyncio.Event(), asyncio.Event()]

    async def go_on(mode: str) -> None:
        await gates[mode == "recovered"].wait()
        did.append(f"{mode} went on")

    @task
    async def acts(ctx: TaskContext[None]) -> str:
        mode = ctx.entry_mode
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step("go on", go_on, mode))
        finally:
            did.append(f"{mode} cleaned up")
            await ctx.step("tidy", str)
        return mode

    async with testing.app(url, patience=SOON) as app:
        run = await acts.start(None)
        await app.restart()
        gates[0].set()  # what it waited for comes too late for the dead
        await app.advance(HOUR)
        assert did == []
        gates[1].set()
        assert (await run.result()).output == "recovered"
        assert did == ["recovered went on", "recovered cleaned up"]
        written = await types(run)

    assert did == ["recovered went on", "recovered cleaned up", "fresh cleaned up"]
    assert written.count("checkpointed") == 2


async def test_what_was_accepted_is_there_after_any_number_of_crashes(url: str) -> None:
    @task
    async def works(ctx: TaskContext[None]) -> list[str]:
        return [await ctx.wait("word", str) for _ in range(5)]

    async with testing.app(url) as app:
        run = await works.start(None)
        for word in "abcde":
            await run.signal("word", word)
            await app.restart()

        assert (await run.result()).output == [*"abcde"]


async def test_a_run_that_waits_out_of_memory_is_none_the_wiser(url: str) -> None:
    @task
    async def sleeps(ctx: TaskContext[None]) -> str:
        await ctx.sleep("long", HOUR)
        return ctx.entry_mode

    async with testing.app(url) as app:
        run = await sleeps.start(None)
        await app.advance()
        await app.restart()
        await app.advance(HOUR)

        assert (await run.result()).output == "fresh"


async def test_a_pause_between_tries_goes_on_after_a_crash(url: str) -> None:
    tries = 0

    async def fails_twice() -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RuntimeError
        return tries

    @task
    async def insists(ctx: TaskContext[None]) -> int:
        policy = RetryPolicy(5, initial_delay=HOUR, max_delay=HOUR)
        return await ctx.step.options(retry=policy)("try", fails_twice)

    async with testing.app(url) as app:
        run = await insists.start(None)
        for _ in range(2):
            await app.restart()
            await app.advance(HOUR / 2)
        await app.advance(HOUR)

        assert (await run.result()).output == 3


async def test_a_plain_function_goes_on_to_its_next_call_and_no_further(
    gate: threading.Event,
) -> None:
    did: list[str] = []
    entered = threading.Event()

    @task
    def plain(ctx: sync.TaskContext[None]) -> str:
        if ctx.entry_mode == "fresh":
            entered.set()
            gate.wait()
            did.append("still there")
        ctx.step("note", did.append, ctx.entry_mode)
        return ctx.entry_mode

    async with testing.app() as app:
        run = await plain.start(None)
        await asyncio.to_thread(entered.wait)
        await app.restart()
        gate.set()

        assert (await run.result()).output == "recovered"
        await app.advance(HOUR)
        assert sorted(did) == ["recovered", "still there"]
    assert sorted(did) == ["recovered", "still there"]


def test_a_timer_of_what_was_killed_does_not_ring() -> None:
    async def main() -> None:
        rung: list[str] = []

        @task
        async def hangs(ctx: TaskContext[None]) -> None:
            asyncio.get_running_loop().call_later(60, rung.append, ctx.entry_mode)
            await asyncio.Event().wait()

        async with testing.app() as app:
            await hangs.start(None)
            await app.restart()
            await app.advance(HOUR)
            assert rung == ["recovered"]

    testing.run(main())


async def test_whoever_waits_for_a_result_waits_on(url: str) -> None:
    @task
    async def works(ctx: TaskContext[None]) -> str:
        if ctx.entry_mode == "fresh":
            await asyncio.Event().wait()
        return ctx.entry_mode

    async with testing.app(url) as app:
        run = await works.start(None)
        async with asyncio.TaskGroup() as group:
            result = group.create_task(run.result())
            await app.restart()

        assert result.result().output == "recovered"


async def test_a_new_run_after_a_crash_is_run(url: str) -> None:
    @task
    async def echo(ctx: TaskContext[int]) -> int:
        return ctx.input

    async with testing.app(url) as app:
        await app.restart()
        await app.restart()

        assert (await echo.run(7)).output == 7


async def test_a_run_whose_worker_dies_again_and_again_fails_at_last() -> None:
    @task(max_recoveries=3)
    async def kills(ctx: TaskContext[None]) -> None:
        await asyncio.Event().wait()

    async with testing.app(patience=SOON) as app:
        run = await kills.start(None)
        for _ in range(3):
            await app.restart()
            await app.advance()

        assert (await run.refresh()).status == "failed"


@pytest.mark.parametrize("run", [uvloop.run, testing.run])
def test_it_works_on_every_loop(run: Any) -> None:
    async def main() -> None:
        seen: list[str] = []

        @task
        async def works(ctx: TaskContext[None]) -> None:
            try:
                await ctx.step("wait", asyncio.sleep, HOUR.total_seconds() * (not seen))
            finally:
                seen.append(ctx.entry_mode)

        async with testing.app(patience=SOON) as app:
            handle = await works.start(None)
            await app.advance()
            seen.append("killed")
            await app.restart()
            await handle.result()
            assert seen == ["killed", "recovered"]
        assert seen == ["killed", "recovered", "fresh"]

    run(main())
