"""What a new input does to a turn under way: the rows of the table in the reference."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import outlast
from outlast import (
    Retracted,
    StreamItem,
    TaskAborted,
    TaskCancelled,
    TaskConflict,
    TaskContext,
    TaskFailed,
    sync,
    task,
    testing,
)
from tests.turns.asking import Gates, cancelled_or_told, status, types

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


@pytest.fixture
def gates() -> Gates:
    return Gates()


def superseded(result: outlast.TaskResult[Any]) -> tuple[Any, bool, str]:
    return result.output, result.is_superseded, result.status


# Queue


async def test_queue_inputs_are_taken_up_first_in_first_out(app: testing.SkippingApp) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        if ctx.turn == 1:
            await ctx.wait("go")
        story = [ctx.turn, ctx.entry_mode, ctx.was_steered, ctx.previous_input]
        return [ctx.input, story, list(ctx.pending_inputs), ctx.cancel.is_set()]

    runs = [await works.start(name, id="r") for name in "abc"]
    assert [run.is_queued for run in runs] == [False, True, True]
    await runs[0].signal("go")

    assert [(await run.result()).output for run in runs] == [
        ["a", [1, "fresh", False, None], ["b", "c"], False],
        ["b", [2, "steered", True, "a"], ["c"], False],
        ["c", [3, "steered", True, "b"], [], False],
    ]
    assert [(await run.refresh()).is_queued for run in runs] == [False] * 3
    assert [(await run.result()).status for run in runs] == ["completed"] * 3


async def test_queue_a_parked_turn_goes_on_undisturbed(app: testing.SkippingApp) -> None:
    @task(steering="queue")
    async def waits(ctx: TaskContext[str]) -> list[Any]:
        return [ctx.input, await ctx.wait("go")]

    first = await waits.start("a", id="r")
    await app.advance(HOUR)
    second = await waits.start("b", id="r")
    await app.advance(HOUR)
    assert ((await second.refresh()).is_queued, second.turn) == (True, 0)
    for word in ("x", "y"):
        await first.signal("go", word)

    assert (await first.result()).output == ["a", "x"]
    assert (await second.result()).output == ["b", "y"]


async def test_queue_a_run_that_fails_takes_what_waits_with_it(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="queue")
    async def fails(ctx: TaskContext[str]) -> None:
        await gates.wait("first")
        raise ValueError("no")

    first = await fails.start("a", id="r")
    second = await fails.start("b", id="r")
    gates.open("first")

    for run in (first, second):
        with pytest.raises(TaskFailed, match="no"):
            await run.result()


# Withdrawing


async def test_an_input_that_waits_can_be_withdrawn(app: testing.SkippingApp, gates: Gates) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> str:
        seen.append(ctx.input)
        if ctx.turn == 1:
            await gates.wait("first")
        return ctx.input

    seen: list[str] = []
    runs = [await works.start(name, id="r") for name in "abc"]
    await runs[1].withdraw()
    await runs[1].withdraw()  # said again, it is as it was
    with pytest.raises(TaskConflict, match="turn 1 has taken it up"):
        await runs[0].withdraw()
    gates.open("first")

    assert (await runs[2].result()).output == "c"
    with pytest.raises(TaskCancelled, match="withdrawn"):
        await runs[1].result()
    with pytest.raises(TaskConflict, match="has taken it up"):
        await runs[2].withdraw()
    assert seen == ["a", "c"]
    assert not runs[1].is_queued


async def test_the_only_input_of_a_pending_run_is_withdrawn_with_its_run(
    app: testing.SkippingApp,
) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> str:
        return ctx.input

    run = await works.start("a", id="r", delay=HOUR)
    await run.withdraw()

    assert await status(run) == "cancelled"
    with pytest.raises(TaskCancelled):
        await run.result()


async def test_a_pending_run_goes_on_with_the_inputs_that_are_left(
    app: testing.SkippingApp,
) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        return [ctx.input, ctx.turn, ctx.entry_mode]

    first = await works.start("a", id="r", delay=HOUR)
    second = await works.start("b", id="r")
    await first.withdraw()
    await app.advance(HOUR)

    assert (await second.result()).output == ["b", 1, "fresh"]
    with pytest.raises(TaskCancelled):
        await first.result()


# Interrupt


async def test_interrupt_the_turn_is_asked_to_end_and_its_result_counts(
    app: testing.SkippingApp,
) -> None:
    @task(steering="interrupt")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        if ctx.input == "a":
            await ctx.cancel.wait()
        return [ctx.input, ctx.stop_reason, ctx.entry_mode, ctx.previous_input]

    first = await works.start("a", id="r")
    second = await works.start("b", id="r")

    assert superseded(await first.result()) == (["a", "steered", "fresh", None], True, "running")
    assert superseded(await second.result()) == (["b", None, "steered", "a"], False, "completed")


async def test_interrupt_a_turn_that_does_not_end_is_stopped_after_its_grace(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="interrupt", cancel_grace=2 * SECOND)
    async def works(ctx: TaskContext[str]) -> str:
        if ctx.input == "a":
            try:
                await gates.wait("never")
            finally:
                asked.append(ctx.stop_reason)
        return ctx.input

    asked: list[Any] = []
    first = await works.start("a", id="r")
    await gates.reached("never")
    second = await works.start("b", id="r")
    await app.advance(1.5 * SECOND)
    assert asked == []
    await app.advance(SECOND)

    assert superseded(await first.result()) == (None, True, "running")
    assert (await second.result()).output == "b"
    assert asked == ["steered"]


async def test_interrupt_a_turn_that_raises_is_over_as_well(app: testing.SkippingApp) -> None:
    @task(steering="interrupt")
    async def works(ctx: TaskContext[str]) -> str:
        if ctx.input == "a":
            await ctx.cancel.wait()
            raise ValueError("stopped")
        return ctx.input

    first = await works.start("a", id="r")
    second = await works.start("b", id="r")

    assert superseded(await first.result()) == (None, True, "running")
    assert (await second.result()).output == "b"


async def test_interrupt_inputs_that_are_overtaken_never_run(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="interrupt")
    async def works(ctx: TaskContext[str]) -> str:
        seen.append(ctx.input)
        if ctx.input == "a":
            await gates.wait("first")
        return ctx.input

    seen: list[str] = []
    runs = [await works.start(name, id="r") for name in "abcd"]
    await gates.reached("first")
    gates.open("first")

    results = [superseded(await run.result()) for run in runs]
    assert results == [
        ("a", True, "running"),
        (None, True, "running"),
        (None, True, "running"),
        ("d", False, "completed"),
    ]
    assert seen == ["a", "d"]
    with pytest.raises(TaskConflict, match="another input has taken its place"):
        await runs[1].withdraw()


async def test_interrupt_a_parked_turn_is_not_entered_again(app: testing.SkippingApp) -> None:
    @task(steering="interrupt")
    async def works(ctx: TaskContext[str]) -> str:
        entered.append(ctx.input)
        if ctx.input == "a":
            await ctx.wait("never")
        return ctx.input

    entered: list[str] = []
    first = await works.start("a", id="r")
    await app.advance(HOUR)
    second = await works.start("b", id="r")

    assert superseded(await first.result()) == (None, True, "running")
    assert (await second.result()).output == "b"
    assert entered == ["a", "b"]


async def test_interrupt_a_parked_turn_that_waits_for_that_is_entered_again(
    app: testing.SkippingApp,
) -> None:
    @task(steering="interrupt")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        if ctx.input == "a":
            await cancelled_or_told(ctx, "never")
            return await ctx.step("tidy", lambda: ["tidied"])
        return [ctx.input]

    first = await works.start("a", id="r")
    await app.advance(HOUR)
    assert (await types(first))[-1] == "parked"
    second = await works.start("b", id="r")

    assert superseded(await first.result()) == (["tidied"], True, "running")
    assert (await second.result()).output == ["b"]


async def test_interrupt_a_plain_handler_sees_it(app: testing.SkippingApp) -> None:
    @task(steering="interrupt")
    def works(ctx: sync.TaskContext[str]) -> list[Any]:
        if ctx.input == "a":
            ctx.cancel.wait()
        return [ctx.input, ctx.stop_reason]

    first = await works.start("a", id="r")
    second = await works.start("b", id="r")

    assert superseded(await first.result()) == (["a", "steered"], True, "running")
    assert (await second.result()).output == ["b", None]


async def test_interrupt_a_turn_that_is_recovered_takes_the_new_input(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="interrupt")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        entered.append((ctx.input, ctx.entry_mode))
        if ctx.entry_mode != "recovered":
            await gates.wait(ctx.input)
        return [ctx.input, ctx.previous_input]

    entered: list[Any] = []
    first = await works.start("a", id="r")
    second = await works.start("b", id="r")
    gates.open("a")
    await gates.reached("b")
    await app.restart()

    assert superseded(await first.result()) == (["a", None], True, "running")
    assert (await second.result()).output == ["b", "a"]
    assert entered == [("a", "fresh"), ("b", "steered"), ("b", "recovered")]


# Rollback


async def test_rollback_the_turn_is_as_if_it_had_not_been(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="rollback")
    async def works(ctx: TaskContext[str]) -> str:
        await ctx.emit(f"{ctx.input} begins")
        if ctx.input == "a":
            await ctx.wait("go")
            await gates.wait("a")
        return ctx.input

    first = await works.start("a", id="r")
    await first.signal("go", 1)
    await gates.reached("a")
    second = await works.start("b", id="r")
    gates.open("a")

    assert superseded(await first.result()) == (None, True, "running")
    assert (await second.result()).output == "b"
    assert [item async for item in second.stream()] == [
        StreamItem(1, "a begins", 1, None),
        Retracted(2, 0, 1, None),
        StreamItem(3, "b begins", 2, None),
    ]
    # Who reads the stream of the turn that is undone is told, and then it ends.
    assert [item async for item in first.stream()] == [
        StreamItem(1, "a begins", 1, None),
        Retracted(2, 0, 1, None),
    ]
    # Signals that it took stay taken.
    assert (await types(first)).count("signalled") == 1


async def test_rollback_a_parked_turn_takes_back_what_it_emitted(
    app: testing.SkippingApp,
) -> None:
    @task(steering="rollback")
    async def works(ctx: TaskContext[str]) -> str:
        if ctx.input == "end":
            return "ended"
        await ctx.emit(ctx.input)
        await ctx.wait("never")
        return "not this"

    runs = [await works.start("a", id="r")]
    for name in ("b", "end"):
        await app.advance(HOUR)
        runs.append(await works.start(name, id="r"))

    assert [superseded(await run.result())[:2] for run in runs] == [
        (None, True),
        (None, True),
        ("ended", False),
    ]
    assert [item async for item in runs[-1].stream()] == [
        StreamItem(1, "a", 1, None),
        Retracted(2, 0, 1, None),
        StreamItem(3, "b", 2, None),
        Retracted(4, 2, 2, None),
    ]


# Inject


async def test_inject_the_turn_takes_the_input_and_answers_its_caller(
    app: testing.SkippingApp,
) -> None:
    @task(steering="inject")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        taken = [await ctx.next_input()]
        await ctx.wait("go")
        taken += [await ctx.next_input(), await ctx.next_input()]
        return [ctx.input, taken, await ctx.next_input(), ctx.was_steered]

    runs = [await works.start("a", id="r")]
    await app.advance(HOUR)
    runs += [await works.start(name, id="r") for name in "bc"]
    await runs[0].signal("go")

    for run in runs:
        assert (await run.result()).output == ["a", [None, "b", "c"], None, False]
        assert ((await run.refresh()).turn, run.is_queued) == (1, False)


async def test_inject_what_was_not_taken_starts_the_next_turn(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="inject")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        if ctx.turn == 1:
            await gates.wait("first")
        return [ctx.input, ctx.entry_mode]

    runs = [await works.start(name, id="r") for name in "ab"]
    gates.open("first")

    assert [(await run.result()).output for run in runs] == [["a", "fresh"], ["b", "steered"]]


async def test_inject_what_was_taken_is_taken_at_the_same_place_after_a_crash(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="inject")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        told: list[Any] = []
        for number in range(3):
            told.append(await ctx.next_input())
            told.append(await ctx.step("think", int, number))
            if number == 1 and ctx.entry_mode != "recovered":
                await gates.wait("second")
        return told

    first = await works.start("a", id="r")
    await gates.reached("second")
    second = await works.start("b", id="r")
    await app.restart()

    assert (await first.result()).output == [None, 0, None, 1, "b", 2]
    assert (await second.result()).output == [None, 0, None, 1, "b", 2]


async def test_inject_an_input_that_was_taken_is_given_again_after_a_crash(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="inject")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        if ctx.entry_mode == "fresh":
            await gates.wait("first")
        told = [await ctx.next_input(), await ctx.next_input()]
        if ctx.entry_mode == "fresh":
            await gates.wait("second")
        return told

    first = await works.start("a", id="r")
    await gates.reached("first")
    second = await works.start("b", id="r")
    gates.open("first")
    await gates.reached("second")
    await app.restart()

    assert (await first.result()).output == ["b", None]
    assert (await types(second)).count("input_taken") == 1


async def test_inject_who_is_answered_waits_on_while_the_turn_goes_on(
    app: testing.SkippingApp,
) -> None:
    @task(steering="inject")
    async def works(ctx: TaskContext[str]) -> str:
        if ctx.turn == 1:
            await ctx.wait("go")
            await ctx.continue_with(f"{ctx.input} and {await ctx.next_input()}")
        if ctx.turn == 2:
            await ctx.suspend("for more", ctx.input)
        return "another answer"

    runs = [await works.start(name, id="r") for name in "ab"]
    await runs[0].signal("go")

    assert [(await run.result()).output for run in runs] == ["a and b"] * 2
    third = await works.start("c", id="r")
    assert (await third.result()).output == "another answer"
    assert [(await run.result()).output for run in runs] == ["a and b"] * 2
    assert [(await run.refresh()).turn for run in runs] == [2, 2]


# What stands in the journal before a turn's end


async def test_an_input_that_comes_while_the_turn_ends_is_not_lost(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[int]) -> int:
        return ctx.input

    for number in range(10):
        first = await works.start(0, id=f"r{number}")
        try:
            second = await works.start(1, id=f"r{number}")
        except TaskConflict:
            assert await status(first) == "completed"
        else:
            assert (await second.result()).output == 1
        assert (await first.result()).output == 0


async def test_an_abort_ends_the_run_and_what_waits(app: testing.SkippingApp, gates: Gates) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> None:
        await gates.wait("never")

    runs = [await works.start(name, id="r") for name in "ab"]
    await runs[1].abort("stop")

    for run in runs:
        with pytest.raises(TaskAborted, match="stop"):
            await run.result()


async def test_a_cancel_ends_the_run_and_what_waits_gets_no_turn(
    app: testing.SkippingApp,
) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> str:
        await ctx.cancel.wait()
        return "a result"

    runs = [await works.start(name, id="r") for name in "ab"]
    await runs[0].cancel()

    assert (await runs[0].result()).output == "a result"
    with pytest.raises(TaskCancelled, match="completed before this input"):
        await runs[1].result()


async def test_a_large_input_steers_and_recovers_like_a_small_one(
    app: testing.SkippingApp, gates: Gates
) -> None:
    @task(steering="interrupt")
    async def works(ctx: TaskContext[str]) -> int:
        if ctx.turn == 2 and ctx.entry_mode != "recovered":
            await gates.wait("second")
        if ctx.turn == 1:
            await ctx.cancel.wait()
        return len(ctx.input) + len(ctx.previous_input or "")

    large = "x" * 1_000_000
    first = await works.start(large, id="r")
    second = await works.start(large + "y", id="r")
    await gates.reached("second")
    await app.restart()

    assert (await first.result()).output == 1_000_000
    assert (await second.result()).output == 2_000_001
    written = [entry async for entry in second.history()]
    assert sum(len(str(entry.data)) > 1_000_000 for entry in written) == 2
