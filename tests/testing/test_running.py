"""The event loop whose time flies: `outlast.testing.run`."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast import TaskContext, TaskRun, UsageError, task, testing

DAY = timedelta(days=1)
START = datetime(2030, 1, 1, tzinfo=UTC)


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def status_of(run: TaskRun[Any]) -> str:
    return (await run.refresh()).status


def test_a_timeout_of_asyncio_around_a_wait_ends_after_as_many_seconds_and_takes_none() -> None:
    @task
    async def waits(ctx: TaskContext[None]) -> float:
        began = loop_time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ctx.wait("x", bool), 60)
        return loop_time() - began

    async def main() -> None:
        async with testing.app() as app:
            result = await waits.run(None)
            assert result.output == pytest.approx(60, abs=1e-3)
            assert (app.now - START).total_seconds() == pytest.approx(60, abs=1e-3)

    testing.run(main())


def test_a_timeout_of_asyncio_around_a_sleep_counts_by_the_same_time() -> None:
    @task
    async def sleeps(ctx: TaskContext[None]) -> list[str]:
        ends: list[str] = []
        for seconds in (59, 61):
            try:
                async with asyncio.timeout(60):
                    await ctx.sleep("nap", timedelta(seconds=seconds))
                ends.append("slept")
            except TimeoutError:
                ends.append("timed out")
        return ends

    async def main() -> None:
        async with testing.app() as app:
            assert (await sleeps.run(None)).output == ["slept", "timed out"]
            assert (app.now - START).total_seconds() == pytest.approx(119, abs=1e-3)

    testing.run(main())


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_timer_of_the_loop_keeps_a_run_in_memory_and_right(seconds: float | None) -> None:
    entries = 0

    @task
    async def waits(ctx: TaskContext[None]) -> Any:
        nonlocal entries
        entries += 1
        return await asyncio.wait_for(ctx.wait("x", str), seconds)

    async def main() -> None:
        async with testing.app() as app:
            run = await waits.start(None)
            await app.advance(timedelta(seconds=30))
            assert app._life is not None
            assert len(app._life.worker.attempts) == (seconds is not None)
            await run.signal("x", "in time")
            assert (await run.result()).output == "in time"

    testing.run(main())
    assert entries == (1 if seconds else 2)


@pytest.mark.slow
def test_time_flies_while_a_result_is_awaited() -> None:
    @task
    async def sleeps(ctx: TaskContext[None]) -> None:
        for _ in range(3):
            await ctx.sleep("day", DAY)
            await ctx.step("work", asyncio.sleep, DAY.total_seconds())

    async def main() -> timedelta:
        async with testing.app() as app:
            await sleeps.run(None)
            return app.now - START

    assert testing.run(main()) / DAY == pytest.approx(6, abs=1e-4)


def test_the_same_things_happen_in_the_same_order_every_time() -> None:
    def trace() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        @task
        async def works(ctx: TaskContext[int]) -> None:
            for number in range(5):
                await asyncio.sleep(0.1 * ctx.input)
                await ctx.step("step", asyncio.sleep, 0.1)
                await ctx.sleep("nap", timedelta(seconds=0.3))
                seen.append((f"{ctx.input}.{number} in {ctx.id}", loop_time()))

        async def main() -> None:
            async with testing.app() as app:
                runs = [await works.start(number) for number in range(4)]
                await app.advance(DAY)
                assert [await status_of(run) for run in runs] == ["completed"] * 4

        testing.run(main())
        return seen

    assert trace() == trace()


def test_plain_steps_and_files_hold_up_the_time(tmp_path: Path) -> None:
    @task
    async def works(ctx: TaskContext[None]) -> str:
        async with asyncio.timeout(1):
            await ctx.step("slow", time.sleep, 0.05)
        await ctx.sleep("day", DAY)
        return "done"

    async def main() -> None:
        async with testing.app(f"sqlite:///{tmp_path}/test.db") as app:
            run = await works.start(None)
            await app.advance(DAY + timedelta(seconds=1))
            assert await status_of(run) == "completed"

    testing.run(main())


def test_it_begins_at_the_time_that_is_given() -> None:
    async def main() -> datetime:
        async with testing.app() as app:
            return app.now

    now = testing.run(main(), now=START + 1000 * DAY)

    assert now - START - 1000 * DAY < timedelta(milliseconds=1)


def test_mistakes_are_refused() -> None:
    async def nothing() -> None:
        pass

    async def nested() -> None:
        with pytest.raises(UsageError, match="an event loop is running here"):
            testing.run(nothing())
        with pytest.raises(UsageError, match="the event loop has a clock"):
            async with testing.app(now=START):
                pass

    testing.run(nested())
    with pytest.raises(UsageError, match="a datetime with a time zone"):
        testing.run(nothing(), now=datetime(2030, 1, 1))  # noqa: DTZ001
