"""Opening a run again that has ended, and telling outcomes that nobody knows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import outlast
from outlast import (
    RetryPolicy,
    StepUnknown,
    TaskAborted,
    TaskCancelled,
    TaskConflict,
    TaskContext,
    TaskFailed,
    TaskTimedOut,
    UsageError,
    task,
    testing,
)
from tests.turns.asking import Gates, status, types

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def gates() -> Gates:
    return Gates()


class Mended:
    """What fails until it is mended."""

    def __init__(self) -> None:
        self.is_mended = False
        self.calls: list[str] = []

    async def __call__(self, name: str) -> str:
        self.calls.append(name)
        if not self.is_mended:
            raise ValueError("broken")
        return name


async def test_a_failed_run_goes_on_from_what_is_recorded(app: testing.SkippingApp) -> None:
    @task(retry=RetryPolicy(2, jitter=False))
    async def works(ctx: TaskContext[None]) -> list[Any]:
        await ctx.step("first", done.append, 1)
        await ctx.step("second", mended, "second")
        return [ctx.attempt, ctx.turn, ctx.entry_mode, ctx.recovery_count]

    done: list[int] = []
    mended = Mended()
    run = await works.start(None, id="r")
    await app.advance(MINUTE)
    with pytest.raises(TaskFailed):
        await run.result()
    mended.is_mended = True

    same = await run.retry()

    assert same is run
    assert run.status in ("pending", "running")
    assert (await run.result()).output == [0, 1, "fresh", 0]
    assert (done, mended.calls) == ([1], ["second"] * 3)
    assert await status(run) == "completed"


@pytest.mark.parametrize("how", ["cancel", "abort", "timeout"])
async def test_a_stopped_run_goes_on_and_the_stop_is_spent(
    app: testing.SkippingApp, how: str
) -> None:
    @task(timeout=HOUR)
    async def works(ctx: TaskContext[None]) -> list[Any]:
        value = await ctx.wait("go")
        assert ctx.deadline is not None
        return [value, ctx.stop_reason, ctx.deadline.isoformat()]

    run = await works.start(None)
    await app.advance(MINUTE)
    error: type[Exception]
    if how == "cancel":
        await run.cancel()
        error = TaskCancelled
    elif how == "abort":
        await run.abort()
        error = TaskAborted
    else:
        await app.advance(HOUR - MINUTE)
        error = TaskTimedOut
    with pytest.raises(error):
        await run.result()
    await app.advance(START + 2 * HOUR - app.now)

    await run.retry()
    await run.signal("go", 7)

    assert (await run.result()).output == [7, None, "2030-01-01T03:00:00+00:00"]


async def test_a_run_that_works_rests_or_has_a_result_is_not_retried(
    app: testing.SkippingApp,
) -> None:
    @task
    async def works(ctx: TaskContext[str]) -> str:
        if ctx.input == "rest":
            await ctx.suspend()
        return str(await ctx.wait("go"))

    for input, told, state in (("a", False, "running"), ("b", True, "completed")):
        run = await works.start(input)
        if told:
            await run.signal("go", 1)
            await run.result()
        with pytest.raises(TaskConflict, match=state):
            await run.retry()
        await run.abort()
    run = await works.start("rest")
    await run.result()
    with pytest.raises(TaskConflict, match="suspended"):
        await run.retry()


async def test_of_two_retries_at_once_one_is_refused(app: testing.SkippingApp) -> None:
    @task
    async def works(ctx: TaskContext[None]) -> str:
        return str(await ctx.wait("go"))

    run = await works.start(None, id="r")
    await run.abort()
    others = [await app.runs.get("r") for _ in range(3)]

    answers = await asyncio.gather(*(other.retry() for other in others), return_exceptions=True)

    assert sum(isinstance(answer, TaskConflict) for answer in answers) == 2
    assert (await types(run)).count("retried") == 1
    await run.abort()


async def test_inputs_that_waited_are_taken_up_after_the_turn(app: testing.SkippingApp) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        return [ctx.input, await ctx.step("work", mended, ctx.input)]

    mended = Mended()
    runs = [await works.start(name, id="r", delay=SECOND) for name in "ab"]
    await app.advance(SECOND)
    for run in runs:
        with pytest.raises(TaskFailed):
            await run.result()
    mended.is_mended = True

    await runs[0].retry()

    assert [(await run.result()).output for run in runs] == [["a", "a"], ["b", "b"]]


async def test_a_later_turn_is_retried_and_the_earlier_ones_stand(
    app: testing.SkippingApp,
) -> None:
    @task
    async def works(ctx: TaskContext[str]) -> list[Any]:
        if ctx.turn == 1:
            return await ctx.suspend(output=["first"])
        return [ctx.input, await ctx.step("work", mended, ctx.input), ctx.previous_input]

    mended = Mended()
    first = await works.start("a", id="r")
    await first.result()
    second = await works.start("b", id="r")
    with pytest.raises(TaskFailed):
        await second.result()
    mended.is_mended = True

    await second.retry()

    assert (await second.result()).output == ["b", "b", "a"]
    assert (await first.result()).output == ["first"]


async def test_a_suspended_run_that_was_cancelled_is_suspended_again(
    app: testing.SkippingApp,
) -> None:
    @task
    async def rests(ctx: TaskContext[str]) -> str:
        if ctx.input == "end":
            return "ended"
        return await ctx.suspend()

    run = await rests.start("a", id="r")
    await run.result()
    await run.cancel()
    await run.retry()
    before = await types(run)
    await app.advance(HOUR)

    assert await status(run) == "suspended"
    assert await types(run) == before  # nobody has looked at it in vain
    assert (await rests.run("end", id="r")).output == "ended"


# Outcomes that nobody knows


async def interrupted(
    app: testing.SkippingApp, gates: Gates
) -> tuple[outlast.TaskRun[Any], list[int]]:
    """Return a run that failed because its payment was interrupted, and how often it was made."""
    paid: list[int] = []

    async def pay(amount: int) -> str:
        paid.append(amount)
        await gates.wait("paying")
        return "paid"

    @task
    async def pays(ctx: TaskContext[int]) -> list[Any]:
        told = await ctx.step.options(at_most_once=True)("pay", pay, ctx.input)
        return [told, await ctx.step("note", str, told)]

    app.resources = pays  # a task lives as long as somebody keeps it
    run = await pays.start(7, id="r")
    await gates.reached("paying")
    await app.restart()
    with pytest.raises(TaskFailed) as failed:
        await run.result()
    assert failed.value.error.type.endswith("StepUnknown")
    return run, paid


async def test_an_unknown_outcome_is_told_and_the_run_goes_on_with_it(
    app: testing.SkippingApp, gates: Gates
) -> None:
    run, paid = await interrupted(app, gates)

    await run.resolve("pay", output="paid by hand")
    with pytest.raises(UsageError, match="'pay' of run 'r' is known"):
        await run.resolve("pay", output="again")
    await run.retry()

    assert (await run.result()).output == ["paid by hand", "paid by hand"]
    assert paid == [7]


async def test_an_unknown_outcome_may_be_an_error(app: testing.SkippingApp, gates: Gates) -> None:
    run, paid = await interrupted(app, gates)

    await run.resolve("pay", error=PermissionError("the bank said no"))
    await run.retry()

    with pytest.raises(TaskFailed, match="PermissionError: the bank said no"):
        await run.result()
    assert paid == [7]


async def test_without_telling_it_a_retry_finds_the_outcome_unknown_again(
    app: testing.SkippingApp, gates: Gates
) -> None:
    run, paid = await interrupted(app, gates)

    await run.retry()

    with pytest.raises(TaskFailed, match="StepUnknown"):
        await run.result()
    assert paid == [7]


async def test_a_result_that_could_not_be_written_is_told(app: testing.SkippingApp) -> None:
    @task
    async def works(ctx: TaskContext[None]) -> Any:
        return await ctx.step("make", make)

    async def make() -> Any:
        made.append(1)
        return object()

    made: list[int] = []
    run = await works.start(None)
    with pytest.raises(TaskFailed, match="CodecError"):
        await run.result()

    await run.resolve("make", output={"x": 1})
    await run.retry()

    assert (await run.result()).output == {"x": 1}
    assert made == [1]


async def test_only_what_is_unknown_of_an_ended_run_is_told(app: testing.SkippingApp) -> None:
    @task
    async def works(ctx: TaskContext[None]) -> None:
        await ctx.step("known", int, 1)
        await ctx.wait("go")
        raise StepUnknown("its own")

    run = await works.start(None, id="r")
    with pytest.raises(TaskConflict, match="run 'r' is running"):
        await run.resolve("known", output=2)
    await run.signal("go")
    with pytest.raises(TaskFailed):
        await run.result()

    for step in ("known", "known#2", "other"):
        with pytest.raises(UsageError, match=f"step '{step}' of run 'r' is known, or"):
            await run.resolve(step, output=2)
    for step in ("", "#2", "a#b"):
        with pytest.raises(UsageError, match="names no step"):
            await run.resolve(step, output=2)
    with pytest.raises(UsageError, match="not both"):
        await run.resolve("known", output=1, error=ValueError())
