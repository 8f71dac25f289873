"""How a turn ends while its run goes on, suspended, continued or failed; what the next one has."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import outlast
from outlast import (
    CodecError,
    RetryPolicy,
    Status,
    TaskCancelled,
    TaskContext,
    TaskFailed,
    UsageError,
    sync,
    task,
    testing,
)
from tests.turns.asking import Gates, status, types

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@task(name="turns.chat")
async def chat(ctx: TaskContext[str]) -> list[str]:
    """Answer every input in a turn of its own, until it is told to stop."""
    said = await ctx.step("say", str.upper, ctx.input)
    if ctx.input == "bye":
        return [said]
    return await ctx.suspend("your turn", [said])


# Suspension


async def test_a_suspended_run_rests_until_its_next_input(app: testing.SkippingApp) -> None:
    run = await chat.start("hello", id="r")
    await run.result()

    await app.advance(100 * HOUR)
    assert await status(run) == "suspended"
    assert (await types(run))[-1] == "turn_ended"

    last = await chat.run("bye", id="r")
    assert (last.output, last.status, last.is_suspended) == (["BYE"], "completed", False)
    assert await status(run) == "completed"


async def test_reason_and_output_are_readable_while_suspended(app: testing.SkippingApp) -> None:
    await chat.run("hello", id="r")

    result = await (await app.runs.get("r")).result()

    assert result == outlast.TaskResult(["HELLO"], Status.SUSPENDED, "your turn")
    assert (result.is_suspended, result.is_completed, result.is_superseded) == (True, False, False)


async def test_a_run_may_be_suspended_without_output_and_reason(app: testing.SkippingApp) -> None:
    @task
    async def rests(ctx: TaskContext[None]) -> int:
        try:
            return await ctx.suspend()
        finally:
            after.append(True)

    after: list[bool] = []
    result: outlast.TaskResult[Any] = await rests.run(None)

    assert (result.output, result.suspension_reason, result.is_suspended) == (None, None, True)
    assert after == [True]


async def test_a_handler_that_swallows_it_is_suspended_and_can_do_nothing_more(
    app: testing.SkippingApp,
) -> None:
    @task
    async def stubborn(ctx: TaskContext[None]) -> str:
        try:
            await ctx.suspend("rest")
        except BaseException:  # noqa: BLE001 - what no handler should do
            said.append("swallowed")
        await ctx.step("late", said.append, "late")
        return "not this"

    said: list[str] = []
    run = await stubborn.start(None)

    assert (await run.result()).suspension_reason == "rest"
    await app.advance()
    assert said == ["swallowed"]
    assert "checkpointed" not in await types(run)


async def test_a_plain_handler_suspends_and_is_resumed(app: testing.SkippingApp) -> None:
    @task
    def plain(ctx: sync.TaskContext[int]) -> list[Any]:
        if ctx.turn == 1:
            ctx.suspend("plain", [ctx.input])
        return [ctx.input, ctx.previous_input, ctx.entry_mode, ctx.was_steered, *ctx.pending_inputs]

    first = await plain.run(1, id="r")
    assert (first.output, first.suspension_reason) == ([1], "plain")

    assert (await plain.run(2, id="r")).output == [2, 1, "resumed", False]


async def test_an_output_that_cannot_be_written_does_not_end_the_turn(
    app: testing.SkippingApp,
) -> None:
    @task
    async def wrong(ctx: TaskContext[None]) -> int:
        with pytest.raises(CodecError):
            await ctx.suspend(output="no int")
        return 7

    assert (await wrong.run(None)).output == 7


@pytest.mark.parametrize("call", ["suspend", "continue_with", "exit_for_recovery", "next_input"])
async def test_a_step_cannot_leave_its_turn(app: testing.SkippingApp, call: str) -> None:
    @task
    async def tries(ctx: TaskContext[None]) -> None:
        leave = getattr(ctx, call)
        await ctx.step("leave", leave, *([None] if call == "continue_with" else []))

    with pytest.raises(TaskFailed) as failed:
        await tries.run(None)
    assert f"ctx.{call} was called inside the step 'leave'" in failed.value.error.message


# A turn of its own


async def test_each_turn_has_checkpoints_attempts_and_a_timeout_of_its_own(
    app: testing.SkippingApp,
) -> None:
    @task(retry=RetryPolicy(2, jitter=False), timeout=MINUTE)
    async def flaky(ctx: TaskContext[str]) -> list[Any]:
        await ctx.step("work", did.append, ctx.input)
        if ctx.attempt == 0:
            raise ValueError("not at first")
        assert ctx.deadline is not None
        return await ctx.suspend(output=[ctx.attempt, ctx.deadline.isoformat()])

    did: list[str] = []
    outputs: list[Any] = []
    for word in ("a", "b"):
        run = await flaky.start(word, id="r")
        await app.advance(timedelta(seconds=1))
        outputs.append((await run.result()).output)
        await app.advance(HOUR)

    assert did == ["a", "b"]
    assert outputs == [[1, "2030-01-01T00:01:00+00:00"], [1, "2030-01-01T01:01:01+00:00"]]


async def test_signals_that_no_turn_took_are_there_for_the_next_one(
    app: testing.SkippingApp,
) -> None:
    @task
    async def takes(ctx: TaskContext[int]) -> list[Any]:
        taken = [await ctx.wait("go") for _ in range(ctx.input)]
        return await ctx.suspend(output=taken)

    run = await takes.start(1, id="r")
    for number in range(3):
        await run.signal("go", number)
    assert (await run.result()).output == [0]

    assert (await takes.run(2, id="r")).output == [1, 2]


async def test_what_no_turn_took_is_there_after_a_crash(app: testing.SkippingApp) -> None:
    @task(steering="queue")
    async def takes(ctx: TaskContext[int]) -> list[Any]:
        if ctx.turn == 2 and ctx.entry_mode != "recovered":
            await ctx.wait("second")
            await gates.wait("second")
        return [ctx.input, await ctx.wait("go"), list(ctx.pending_inputs)]

    gates = Gates()
    runs = [await takes.start(number, id="r") for number in range(3)]
    for number in range(3):
        await runs[0].signal("go", f"go {number}")
    await runs[1].signal("second")
    await gates.reached("second")
    await app.restart()

    assert [(await run.result()).output for run in runs[1:]] == [[1, "go 1", [2]], [2, "go 2", []]]
    assert (await runs[0].result()).output == [0, "go 0", [1, 2]]


async def test_the_stream_goes_on_from_turn_to_turn(app: testing.SkippingApp) -> None:
    @task
    async def emits(ctx: TaskContext[int]) -> None:
        await ctx.emit(ctx.input)
        await ctx.suspend()

    await emits.run(0, id="r")
    await emits.run(1, id="r")
    run = await emits.start(2, id="r")
    await run.result()

    items = [(item.offset, item.turn) async for item in run.stream()]
    assert items == [(1, 1), (2, 2), (3, 3)]


async def test_a_later_turn_is_recovered_with_its_own_input_after_a_crash(
    app: testing.SkippingApp,
) -> None:
    @task
    async def works(ctx: TaskContext[str]) -> list[Any]:
        entered.append((ctx.turn, ctx.input, ctx.previous_input, ctx.entry_mode))
        await ctx.step("once", done.append, ctx.input)
        if ctx.input == "b" and ctx.entry_mode != "recovered":
            await gates.wait("b")
        return await ctx.suspend(output=[ctx.input])

    entered: list[Any] = []
    done: list[str] = []
    gates = Gates()
    await works.run("a", id="r")
    run = await works.start("b", id="r")
    await gates.reached("b")
    await app.restart()

    assert (await run.result()).output == ["b"]
    assert entered == [
        (1, "a", None, "fresh"),
        (2, "b", "a", "resumed"),
        (2, "b", "a", "recovered"),
    ]
    assert done == ["a", "b"]


async def test_an_input_that_was_given_before_a_crash_is_taken_up_after_it(
    app: testing.SkippingApp,
) -> None:
    await chat.run("a", id="r")
    await app.restart()
    run = await chat.start("b", id="r")
    await app.restart()

    assert (await run.result()).output == ["B"]


# Going on with an input of its own


async def test_a_turn_may_continue_itself_and_its_caller_waits_on(
    app: testing.SkippingApp,
) -> None:
    @task
    async def counts(ctx: TaskContext[int]) -> list[Any]:
        await ctx.step("count", seen.append, ctx.input)
        if ctx.input:
            await ctx.continue_with(ctx.input - 1)
        return [ctx.turn, ctx.previous_input, ctx.entry_mode, ctx.input_id]

    seen: list[int] = []
    run = await counts.start(3, id="r", input_id="i")

    assert (await run.result()).output == [4, 1, "resumed", "i"]
    assert seen == [3, 2, 1, 0]
    assert (await run.refresh()).turn == 4


async def test_a_turn_that_continues_itself_comes_before_inputs_that_wait(
    app: testing.SkippingApp,
) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        order.append(ctx.input)
        if ctx.input == "first":
            await gates.wait("first")
            await ctx.continue_with("its own")
        return [ctx.input, list(ctx.pending_inputs)]

    order: list[str] = []
    gates = Gates()
    run = await works.start("first", id="r")
    await gates.reached("first")
    queued = await works.start("queued", id="r")
    gates.open("first")

    assert (await run.result()).output == ["its own", ["queued"]]
    assert (await queued.result()).output == ["queued", []]
    assert order == ["first", "its own", "queued"]


async def test_an_input_that_a_turn_continues_with_survives_a_crash(
    app: testing.SkippingApp,
) -> None:
    @task
    async def works(ctx: TaskContext[str]) -> list[str]:
        if ctx.turn == 1:
            await ctx.continue_with("second")
        if ctx.entry_mode != "recovered":
            await gates.wait("second")
        return [ctx.input, ctx.entry_mode]

    gates = Gates()
    run = await works.start("first")
    await gates.reached("second")
    await app.restart()

    assert (await run.result()).output == ["second", "recovered"]


# A turn that fails


async def test_a_turn_that_fails_fails_its_run(app: testing.SkippingApp) -> None:
    @task
    async def fails(ctx: TaskContext[None]) -> None:
        raise ValueError("no")

    run = await fails.start(None)

    with pytest.raises(TaskFailed, match="ValueError: no"):
        await run.result()
    assert await status(run) == "failed"


async def test_a_turn_that_fails_may_suspend_its_run_instead(app: testing.SkippingApp) -> None:
    @task(on_turn_error="suspend", retry=RetryPolicy(2, jitter=False))
    async def fails(ctx: TaskContext[str]) -> str:
        if ctx.input == "bad":
            raise ValueError(f"no {ctx.attempt}")
        return ctx.entry_mode

    run = await fails.start("bad", id="r")
    await app.advance(MINUTE)
    with pytest.raises(TaskFailed, match="ValueError: no 1") as failed:
        await run.result()

    assert failed.value.error.attempts == 2
    assert await status(run) == "suspended"
    assert (await fails.run("good", id="r")).output == "resumed"
    with pytest.raises(TaskFailed):
        await run.result()


# A stop


@pytest.mark.parametrize("leave", ["suspend", "continue_with"])
async def test_a_turn_that_is_left_after_a_cancel_is_cancelled(
    app: testing.SkippingApp, leave: str
) -> None:
    @task
    async def leaves(ctx: TaskContext[int]) -> None:
        await ctx.cancel.wait()
        await (ctx.suspend() if leave == "suspend" else ctx.continue_with(2))

    run = await leaves.start(1)
    await run.cancel("enough")

    with pytest.raises(TaskCancelled, match="enough"):
        await run.result()
    assert await status(run) == "cancelled"


async def test_a_suspended_run_is_cancelled_by_whoever_cancels_it(
    app: testing.SkippingApp,
) -> None:
    run = await chat.start("hello", id="r")
    await run.result()

    await run.cancel()

    assert await status(run) == "cancelled"
    assert (await run.result()).output == ["HELLO"]  # its turn had ended before


# Giving it back


async def test_a_handler_may_give_its_run_back_and_is_recovered(
    app: testing.SkippingApp,
) -> None:
    @task
    async def gives_back(ctx: TaskContext[None]) -> list[Any]:
        await ctx.step("once", done.append, 1)
        if ctx.recovery_count == 0:
            await ctx.exit_for_recovery()
        return [ctx.entry_mode, ctx.recovery_count, ctx.attempt, done]

    done: list[int] = []
    run = await gives_back.start(None)

    assert (await run.result()).output == ["recovered", 1, 0, [1]]
    assert "handed_back" in await types(run)


def test_settings_of_turns_are_checked() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"timeout": timedelta(0)}, "timeout is a timedelta"),
        ({"timeout": 5}, "timeout is a timedelta"),
        ({"cancel_grace": timedelta(-1)}, "cancel_grace is a timedelta"),
        ({"max_pending": 0}, "max_pending is an int"),
        ({"max_pending": True}, "max_pending is an int"),
        ({"steering": "que"}, "steering is one of reject, queue"),
        ({"on_turn_error": "retry"}, "on_turn_error is one of fail, suspend"),
    ]
    for settings, complaint in wrong:
        with pytest.raises(UsageError, match=complaint):
            task(**settings)
        if settings.keys() <= {"timeout", "cancel_grace", "max_pending"}:
            with pytest.raises(UsageError, match=complaint):
                chat.options(**settings)


async def test_two_callers_of_one_turn_wait_in_one_handle(app: testing.SkippingApp) -> None:
    """A handle may be waited for and read from at once."""
    gates = Gates()

    @task
    async def emits(ctx: TaskContext[None]) -> int:
        await ctx.emit(1)
        await gates.wait("emitted")
        await ctx.emit(2)
        return 3

    run = await emits.start(None)

    async def read() -> list[int]:
        return [item.offset async for item in run.stream()]

    reading = asyncio.gather(run.result(), read(), read(), run.result())
    await gates.reached("emitted")
    gates.open("emitted")
    first, *streams, last = await reading
    assert (first.output, last.output, streams) == (3, 3, [[1, 2], [1, 2]])
