"""A turn that takes longer than it may: asked to end, then stopped, also where nobody runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outlast import RetryPolicy, TaskContext, TaskTimedOut, sync, task, testing
from tests.turns.asking import Gates, cancelled_or_told, status, types

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def gates() -> Gates:
    return Gates()


async def test_a_result_within_the_grace_counts(app: testing.SkippingApp) -> None:
    @task(timeout=MINUTE)
    async def works(ctx: TaskContext[None]) -> list[Any]:
        await ctx.cancel.wait()
        return [ctx.stop_reason, app.now.isoformat()]

    run = await works.start(None)
    await app.advance(MINUTE + 5 * SECOND)

    assert (await run.result()).output == ["timeout", "2030-01-01T00:01:00+00:00"]


async def test_a_turn_that_does_not_end_is_stopped_after_its_grace(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(timeout=MINUTE, cancel_grace=2 * SECOND)
    async def works(ctx: TaskContext[None]) -> None:
        try:
            await gates.wait("never")
        finally:
            asked.append((ctx.stop_reason, app.now - datetime(2030, 1, 1, tzinfo=UTC)))

    asked: list[Any] = []
    run = await works.start(None)
    await gates.reached("never")
    await app.advance(MINUTE + 3 * SECOND)

    with pytest.raises(TaskTimedOut, match="longer than it may"):
        await run.result()
    assert asked == [("timeout", MINUTE + 2 * SECOND)]
    assert await status(run) == "timed_out"


async def test_an_error_after_the_time_is_a_timeout_and_not_tried_again(
    app: testing.SkippingApp,
) -> None:
    @task(timeout=MINUTE, retry=RetryPolicy(5))
    async def works(ctx: TaskContext[None]) -> None:
        await ctx.cancel.wait()
        raise ValueError("too late")

    run = await works.start(None)
    await app.advance(MINUTE)

    with pytest.raises(TaskTimedOut):
        await run.result()


async def test_a_parked_run_times_out_and_is_not_entered_again(app: testing.SkippingApp) -> None:
    @task(timeout=HOUR)
    async def waits(ctx: TaskContext[None]) -> None:
        entered.append(app.now)
        await ctx.wait("never")

    entered: list[datetime] = []
    run = await waits.start(None)
    await app.advance(HOUR - SECOND)
    assert await status(run) == "running"
    assert "parked" in await types(run)
    await app.advance(SECOND)

    assert await status(run) == "timed_out"
    with pytest.raises(TaskTimedOut):
        await run.result()
    assert len(entered) == 1


async def test_a_parked_run_that_waits_for_that_is_told(app: testing.SkippingApp) -> None:
    @task(timeout=HOUR)
    async def waits(ctx: TaskContext[None]) -> Any:
        await cancelled_or_told(ctx, "never")
        return ctx.stop_reason

    run = await waits.start(None)
    await app.advance(HOUR - SECOND)
    assert (await types(run))[-1] == "parked"
    await app.advance(SECOND)

    assert (await run.result()).output == "timeout"


async def test_a_back_off_ends_with_the_turn_s_time(app: testing.SkippingApp) -> None:
    policy = RetryPolicy(9, initial_delay=HOUR, max_delay=HOUR, jitter=False)

    @task(timeout=MINUTE, retry=policy)
    async def fails(ctx: TaskContext[None]) -> None:
        raise ValueError("no")

    run = await fails.start(None)
    await app.advance(MINUTE)

    with pytest.raises(TaskTimedOut):
        await run.result()


async def test_time_in_the_queue_does_not_count(app: testing.SkippingApp) -> None:
    @task(timeout=MINUTE)
    async def works(ctx: TaskContext[None]) -> Any:
        return ctx.deadline and ctx.deadline.isoformat()

    run = await works.start(None, delay=HOUR)
    await app.advance(HOUR)

    assert (await run.result()).output == "2030-01-01T01:01:00+00:00"


async def test_a_crash_does_not_give_a_turn_more_time(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(timeout=MINUTE)
    async def works(ctx: TaskContext[None]) -> Any:
        deadlines.append(ctx.deadline)
        await gates.wait("never")

    deadlines: list[Any] = []
    run = await works.start(None)
    await gates.reached("never")
    await app.advance(30 * SECOND)
    await app.restart()
    await app.advance(10 * SECOND)
    await app.advance(30 * SECOND)

    assert await status(run) == "timed_out"
    with pytest.raises(TaskTimedOut):
        await run.result()
    assert len(deadlines) == 2
    assert deadlines[0] == deadlines[1]


async def test_a_timeout_may_be_given_with_the_start(app: testing.SkippingApp) -> None:
    @task
    async def works(ctx: TaskContext[None]) -> Any:
        await ctx.wait("never")

    brief = works.options(timeout=MINUTE, cancel_grace=SECOND)
    run = await brief.start(None, id="r")
    await app.restart()
    await app.advance(MINUTE)

    with pytest.raises(TaskTimedOut):
        await run.result()
    [created] = [entry.data async for entry in run.history() if entry.type == "created"]
    assert created["options"] == {"timeout": 60.0, "cancel_grace": 1.0}


async def test_a_plain_handler_sees_it(app: testing.SkippingApp) -> None:
    @task(timeout=MINUTE)
    def works(ctx: sync.TaskContext[None]) -> Any:
        ctx.cancel.wait()
        return ctx.stop_reason

    run = await works.start(None)
    await app.advance(MINUTE)

    assert (await run.result()).output == "timeout"


async def test_inputs_that_wait_get_the_timeout_as_well(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(timeout=MINUTE, steering="queue")
    async def works(ctx: TaskContext[str]) -> None:
        await ctx.wait("never")

    runs = [await works.start(name, id="r") for name in "ab"]
    await app.advance(MINUTE)

    for run in runs:
        with pytest.raises(TaskTimedOut):
            await run.result()


async def test_a_suspended_run_has_no_timeout(app: testing.SkippingApp) -> None:
    @task(timeout=MINUTE)
    async def rests(ctx: TaskContext[str]) -> str:
        if ctx.input == "end":
            return "ended"
        return await ctx.suspend()

    await rests.run("a", id="r")
    await app.advance(HOUR)

    assert (await rests.run("end", id="r")).output == "ended"
