"""The app whose time a test moves: what its docstrings promise."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

import outlast
from outlast import RetryPolicy, TaskContext, UsageError, sync, task, testing

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/test.db"


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Yield an event for which a thread may wait."""
    gate = threading.Event()
    yield gate
    gate.set()


async def status(run: outlast.TaskRun[Any]) -> str:
    return (await run.refresh()).status


def in_memory(app: testing.SkippingApp) -> int:
    assert app._life is not None
    return len(app._life.worker.attempts)


@task
async def sleeps(ctx: TaskContext[timedelta]) -> str:
    await ctx.sleep("long", ctx.input)
    return "awake"


@task
async def approves(ctx: TaskContext[timedelta]) -> Any:
    try:
        return await ctx.wait("approval", bool, timeout=ctx.input)
    except TimeoutError:
        return "too late"


# The clock


async def test_the_clock_stands_still_until_it_is_moved(url: str) -> None:
    async with testing.app(url) as app:
        run = await sleeps.start(MINUTE)

        with pytest.raises(TimeoutError):
            await run.result(timeout=timedelta(seconds=0.2))  # real time, also for a linger
        assert app.now == START
        await app.advance(59 * SECOND)
        assert await status(run) == "running"
        await app.advance(SECOND)

        assert app.now == START + MINUTE
        assert (await run.result()).output == "awake"


async def test_what_is_due_at_the_new_time_has_happened_when_advance_returns(url: str) -> None:
    async with testing.app(url) as app:
        run = await approves.start(3 * DAY)

        await app.advance(3 * DAY)

        assert await status(run) == "completed"
        assert (await run.result()).output == "too late"


async def test_the_clock_stops_wherever_something_is_due_in_order_of_time(url: str) -> None:
    seen: list[tuple[str, timedelta]] = []

    def sees(what: str) -> None:
        seen.append((what, app.now - START))

    @task
    async def steps_on(ctx: TaskContext[None]) -> None:
        for number in range(1, 4):
            await ctx.sleep("hour", HOUR)
            await ctx.step("see", sees, f"sleep {number}")

    @task
    async def times_out(ctx: TaskContext[None]) -> None:
        try:
            await ctx.wait("never", timeout=90 * MINUTE)
        except TimeoutError:
            await ctx.step("see", sees, "timeout")

    @task
    async def delayed(ctx: TaskContext[None]) -> None:
        await ctx.step("see", sees, "delay")

    async with testing.app(url) as app:
        for one in (steps_on, times_out):
            await one.start(None)
        await delayed.start(None, delay=150 * MINUTE)

        await app.advance(3 * HOUR + MINUTE)

    assert seen == [
        ("sleep 1", HOUR),
        ("timeout", 90 * MINUTE),
        ("sleep 2", 2 * HOUR),
        ("delay", 150 * MINUTE),
        ("sleep 3", 3 * HOUR),
    ]


async def test_tries_of_a_step_are_made_when_they_are_due_without_jitter(url: str) -> None:
    tries: list[timedelta] = []

    async def fails() -> None:
        tries.append(app.now - START)
        raise RuntimeError(len(tries))

    @task
    async def tries_again(ctx: TaskContext[None]) -> None:
        policy = RetryPolicy(4, initial_delay=10 * MINUTE, max_delay=HOUR)
        await ctx.step.options(retry=policy)("fails", fails)

    async with testing.app(url) as app:
        run = await tries_again.start(None)
        await app.advance(69 * MINUTE)
        assert await status(run) == "running"
        await app.advance(MINUTE)
        assert await status(run) == "failed"

    assert tries == [timedelta(0), 10 * MINUTE, 30 * MINUTE, 70 * MINUTE]


async def test_attempts_of_a_run_are_made_when_they_are_due(url: str) -> None:
    @task(retry=RetryPolicy(3, initial_delay=HOUR))
    async def fails(ctx: TaskContext[None]) -> int:
        if ctx.attempt < 2:
            raise RuntimeError
        return ctx.attempt

    async with testing.app(url) as app:
        run = await fails.start(None)
        await app.advance(3 * HOUR)

        assert (await run.result()).output == 2
        assert app.now == START + 3 * HOUR


async def test_a_signal_comes_between_two_moves(url: str) -> None:
    async with testing.app(url) as app:
        run = await approves.start(3 * DAY)
        await app.advance(DAY)

        await run.signal("approval", True)
        await app.advance()

        assert (await run.result()).output is True
        assert app.now == START + DAY


async def test_a_run_that_only_waits_has_left_memory_when_advance_returns(url: str) -> None:
    entries = 0

    @task
    async def counts(ctx: TaskContext[None]) -> None:
        nonlocal entries
        entries += 1
        await ctx.sleep("day", DAY)

    async with testing.app(url) as app:
        run = await counts.start(None)
        await app.advance()
        assert (in_memory(app), entries) == (0, 1)
        await app.advance(DAY)

        assert await status(run) == "completed"
        assert entries == 2


async def test_runs_that_wait_make_place_for_others(url: str) -> None:
    async with testing.app(url, concurrency=2) as app:
        runs = [await sleeps.start(DAY, id=f"r-{number}") for number in range(7)]

        await app.advance(DAY)

        assert [await status(run) for run in runs] == ["completed"] * 7


async def test_items_can_be_read_while_the_clock_stands_still() -> None:
    @task
    async def emits(ctx: TaskContext[None]) -> None:
        await ctx.emit("one")
        await ctx.wait("never")

    async with testing.app():
        run = await emits.start(None)

        async for item in run.stream():
            assert isinstance(item, outlast.StreamItem)
            assert item.value == "one"
            break


async def test_the_clock_may_begin_at_another_time() -> None:
    at = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
    async with testing.app(now=at) as app:
        await app.advance(timedelta(microseconds=1))

        assert app.now == at + timedelta(microseconds=1)


async def test_runs_of_an_earlier_app_go_on_in_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/test.db"
    async with testing.app(url) as first:
        await sleeps.start(3 * DAY, id="r")
        await first.advance(DAY)

    async with testing.app(url, now=first.now + DAY) as second:
        await second.advance(DAY)

        assert (await (await sleeps.get("r")).result()).output == "awake"


async def test_without_a_worker_the_clock_moves_alone() -> None:
    async with testing.app(worker=False) as app:
        run = await sleeps.start(HOUR)
        await app.advance(DAY)

        assert await status(run) == "pending"
        assert app.now == START + DAY


# What happens outside


async def test_what_awaits_the_outside_is_waited_for() -> None:
    async def asks() -> str:
        await asyncio.sleep(0.1)
        return "answer"

    @task
    async def asks_first(ctx: TaskContext[None]) -> str:
        answer = await ctx.step("ask", asks)
        await ctx.sleep("day", DAY)
        return answer

    async with testing.app() as app:
        run = await asks_first.start(None)
        await app.advance(DAY)

        assert (await run.result()).output == "answer"


@pytest.mark.parametrize("where", ["a step", "a plain step", "a handler"])
async def test_what_never_comes_holds_up_nothing(where: str, gate: threading.Event) -> None:
    never, entries = asyncio.Event(), 0

    @task
    async def hangs(ctx: TaskContext[None]) -> str:
        nonlocal entries
        entries += 1
        if where == "a step":
            await ctx.step("hang", never.wait)
        elif where == "a plain step":
            await ctx.step("hang", gate.wait)
        else:
            await never.wait()
        return "went on"

    async with testing.app(patience=timedelta(seconds=0.05)) as app:
        stuck = await hangs.start(None, id="stuck")
        runs = [await sleeps.start(number * HOUR) for number in range(48)]
        await app.advance(3 * DAY)

        assert [await status(run) for run in runs] == ["completed"] * 48
        assert await status(stuck) == "running"
        never.set()
        gate.set()
        assert (await stuck.result()).output == "went on"
    assert entries == 1  # its lease was renewed all the while


async def test_a_step_that_hangs_times_out_by_the_clock() -> None:
    @task
    async def calls(ctx: TaskContext[None]) -> float:
        with pytest.raises(TimeoutError):
            await ctx.step.options(timeout=30 * SECOND)("hang", asyncio.Event().wait)
        return (app.now - START).total_seconds()

    async with testing.app(patience=timedelta(seconds=0.05)) as app:
        run = await calls.start(None)
        await app.advance(HOUR)

        assert await status(run) == "completed"
        assert (await run.result()).output == 30


async def test_a_plain_handler_is_waited_for() -> None:
    @task
    def plain(ctx: sync.TaskContext[None]) -> int:
        done = sum(ctx.step("add", int, number) for number in range(10))
        ctx.sleep("day", DAY)
        return done

    async with testing.app() as app:
        run = await plain.start(None)
        await app.advance(DAY)

        assert (await run.result()).output == 45


# Mistakes


async def test_mistakes_are_refused_with_a_remedy() -> None:
    async with testing.app() as app:
        with pytest.raises(UsageError, match="how far to advance is a timedelta of 0 or more"):
            await app.advance(-SECOND)
        with pytest.raises(UsageError, match="how far to advance is a timedelta"):
            await app.advance(3)  # type: ignore[arg-type]
        both = await asyncio.gather(app.advance(HOUR), app.advance(HOUR), return_exceptions=True)
        assert [type(one) for one in both] == [type(None), UsageError]
        assert app.now == START + HOUR
        loop = asyncio.new_event_loop()
        with pytest.raises(UsageError, match="in another event loop"):
            await asyncio.to_thread(loop.run_until_complete, app.advance(HOUR))
        loop.close()
    with pytest.raises(UsageError, match="is not open"):
        await app.advance(HOUR)
    with pytest.raises(UsageError, match="is not open"):
        await app.restart()
    with pytest.raises(UsageError, match="a datetime with a time zone"):
        testing.app(now=datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(UsageError, match="patience is a timedelta"):
        testing.app(patience=-SECOND)
    with pytest.raises(UsageError, match="concurrency is at least 1"):
        testing.app(concurrency=0)
    async with testing.app(worker=False) as client:
        with pytest.raises(UsageError, match="no worker to kill"):
            await client.restart()


async def test_a_handler_cannot_move_the_clock() -> None:
    @task
    async def moves(ctx: TaskContext[None]) -> str:
        with pytest.raises(UsageError, match="a handler waits with ctx"):
            await app.advance(HOUR)
        with pytest.raises(UsageError, match="a handler waits with ctx"):
            await app.restart()
        return "refused"

    async with testing.app() as app:
        assert (await moves.run(None)).output == "refused"


def test_a_loop_that_shows_nothing_is_refused() -> None:
    class Opaque(asyncio.SelectorEventLoop):
        """An event loop that keeps its timers to itself."""

        def call_later(self, *_: Any, **__: Any) -> asyncio.TimerHandle:  # type: ignore[override]
            return super().call_later(3600, int)

    async def main() -> None:
        with pytest.raises(UsageError, match="an event loop that shows its timers"):
            async with testing.app():
                pass

    with asyncio.Runner(loop_factory=Opaque) as runner:
        runner.run(main())


# Where it works


async def waits_three_days() -> None:
    async with testing.app() as app:
        run = await approves.start(3 * DAY)
        await app.advance(3 * DAY)
        assert (await run.result()).output == "too late"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run, testing.run])
def test_it_works_on_every_loop(run: Callable[[Any], object]) -> None:
    run(waits_three_days())


@pytest.mark.slow
@given(hours=st.lists(st.integers(0, 100), max_size=5))
def test_it_works_under_hypothesis(hours: list[int]) -> None:
    async def main() -> None:
        async with testing.app() as app:
            runs = [await sleeps.start(number * HOUR) for number in hours]
            await app.advance(50 * HOUR)
            found = [await status(run) for run in runs]
        assert found == ["completed" if number <= 50 else "running" for number in hours]

    asyncio.run(main())


@pytest.mark.slow
def test_it_needs_no_pytest() -> None:
    program = "import sys; sys.modules['pytest'] = None; import outlast.testing; print('fine')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "fine\n"
