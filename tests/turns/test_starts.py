"""What a start does, by what is stored under its id: the rows of the table in the reference."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import outlast
from outlast import (
    LastInputMismatch,
    SteeringQueueFull,
    TaskConflict,
    TaskContext,
    task,
    testing,
)
from tests.turns.asking import status, types

HOUR = timedelta(hours=1)


@task(name="starts.once")
async def once(ctx: TaskContext[Any]) -> Any:
    return [ctx.input, await ctx.wait("go")]


@task(name="starts.rests")
async def rests(ctx: TaskContext[Any]) -> Any:
    """Rest after every turn, until the input says to end."""
    if ctx.input == "end":
        return [ctx.turn, ctx.entry_mode]
    return await ctx.suspend("for more", [ctx.input, ctx.entry_mode])


@task(name="starts.queues", steering="queue", max_pending=2)
async def queues(ctx: TaskContext[Any]) -> Any:
    return [ctx.input, ctx.entry_mode, await ctx.wait("go")]


# Nothing is stored


async def test_nothing_is_there_a_run_is_made(app: testing.SkippingApp) -> None:
    run = await once.start(1, id="r", input_id="i")

    assert (run.input_id, run.turn, run.is_queued, run.status) == ("i", 1, False, "running")
    await run.signal("go", 2)
    assert (await run.result()).output == [1, 2]


async def test_a_delayed_run_waits_for_its_time(app: testing.SkippingApp) -> None:
    run = await queues.start(1, id="r", delay=HOUR)
    await run.signal("go", "a")
    second = await queues.start(2, id="r")
    await second.signal("go", "b")

    await app.advance(HOUR - timedelta(seconds=1))
    assert await status(run) == "pending"
    assert (run.is_queued, run.turn) == (True, 0)
    await app.advance(timedelta(seconds=1))

    assert (await run.result()).output == [1, "fresh", "a"]
    assert (await second.result()).output == [2, "steered", "b"]


# Suspended


async def test_suspended_a_new_input_begins_the_next_turn(app: testing.SkippingApp) -> None:
    first = await rests.start(1, id="r")
    result = await first.result()
    assert (result.is_suspended, result.suspension_reason) == (True, "for more")
    assert result.output == [1, "fresh"]
    assert await status(first) == "suspended"

    second = await rests.start(2, id="r")

    assert second.is_queued
    assert (await second.result()).output == [2, "resumed"]
    assert (await second.refresh()).turn == 2
    assert (await first.result()).output == [1, "fresh"]


async def test_suspended_an_equal_input_begins_a_turn_of_its_own(app: testing.SkippingApp) -> None:
    for _ in range(2):
        await (await rests.start(1, id="r")).result()

    assert (await rests.run("end", id="r")).output == [3, "resumed"]


async def test_suspended_a_known_input_id_joins_its_turn(app: testing.SkippingApp) -> None:
    await rests.run(1, id="r", input_id="a")
    await rests.run(2, id="r", input_id="b")

    for input, id, turn in ((1, "a", 1), (2, "b", 2)):
        again = await rests.start(input, id="r", input_id=id)
        assert (again.input_id, again.turn, again.is_queued) == (id, turn, False)
        assert (await again.result()).output == [input, "fresh" if id == "a" else "resumed"]
    assert (await types(again)).count("turn_began") == 2


async def test_suspended_of_two_equal_inputs_at_once_the_second_joins(
    app: testing.SkippingApp,
) -> None:
    await rests.run(1, id="r")

    first, second = await asyncio.gather(*(rests.start(2, id="r") for _ in range(2)))

    assert first.input_id == second.input_id
    assert (await first.result()).output == (await second.result()).output == [2, "resumed"]
    assert (await types(first)).count("turn_began") == 2


# Running or pending


@pytest.mark.parametrize("input_id", [None, "i"])
async def test_running_what_was_said_before_joins_it(
    app: testing.SkippingApp, input_id: str | None
) -> None:
    first = await once.start({"x": 1}, id="r", input_id="i")
    again = await once.start({"x": 1}, id="r", input_id=input_id)

    await first.signal("go", 2)

    assert again.input_id == "i"
    assert (await again.result()).output == (await first.result()).output == [{"x": 1}, 2]


@pytest.mark.parametrize("is_ended", [False, True])
async def test_running_what_was_said_before_joins_a_turn_that_continued_itself(
    app: testing.SkippingApp, is_ended: bool
) -> None:
    @task
    async def goes_on(ctx: TaskContext[int]) -> Any:
        if ctx.input < 3:
            await ctx.continue_with(ctx.input + 1)
        return [ctx.input, await ctx.wait("go")]

    first = await goes_on.start(1, id="r", input_id="i")
    await app.advance(HOUR)
    if is_ended:
        await first.signal("go", 2)
        await first.result()

    again = await goes_on.start(1, id="r")

    with pytest.raises(TaskConflict):
        await goes_on.start(3, id="r")
    if not is_ended:
        await again.signal("go", 2)
    assert (again.input_id, again.turn) == ("i", 3)
    assert (await again.result()).output == (await first.result()).output == [3, 2]


async def test_running_a_new_input_is_refused_by_a_task_that_rejects(
    app: testing.SkippingApp,
) -> None:
    run = await once.start(1, id="r")

    for input, name in ((2, once), (1, queues)):
        with pytest.raises(TaskConflict, match="run 'r' is"):
            await name.start(input, id="r")

    await run.abort()


async def test_running_a_new_input_is_queued_as_steering_says(app: testing.SkippingApp) -> None:
    runs = [await queues.start(number, id="r") for number in range(3)]
    assert [run.is_queued for run in runs] == [False, True, True]
    for number in range(3):
        await runs[0].signal("go", f"go {number}")

    results = [(await run.result()).output for run in runs]

    modes = ["fresh", "steered", "steered"]
    assert results == [[n, mode, f"go {n}"] for n, mode in enumerate(modes)]
    assert [(await run.refresh()).turn for run in runs] == [1, 2, 3]


async def test_running_one_input_too_many_is_refused(app: testing.SkippingApp) -> None:
    runs = [await queues.start(number, id="r", input_id=f"i{number}") for number in range(3)]

    with pytest.raises(SteeringQueueFull, match="as it may, 2;"):
        await queues.start(3, id="r", input_id="i3")

    assert (await queues.start(2, id="r", input_id="i2")).is_queued  # it was said before
    larger = await queues.options(max_pending=3).start(3, id="r", input_id="i3")
    assert larger.is_queued
    await runs[0].abort()


async def test_how_many_inputs_may_wait_is_stored_with_the_run(app: testing.SkippingApp) -> None:
    run = await queues.options(max_pending=1).start(0, id="r")
    await queues.start(1, id="r")

    for again in (queues, queues.options(max_pending=9)):
        with pytest.raises(SteeringQueueFull, match="as it may, 1;"):
            await again.start(2, id="r")

    await run.abort()


async def test_an_input_may_name_the_one_that_it_follows(app: testing.SkippingApp) -> None:
    run = await queues.start(0, id="r", input_id="i0")
    await queues.start(1, id="r", input_id="i1", if_last_input_id="i0")

    with pytest.raises(LastInputMismatch, match="'i1', not 'i0'") as mismatch:
        await queues.start(2, id="r", input_id="i2", if_last_input_id="i0")

    assert mismatch.value.actual == "i1"
    # One that is said again was accepted, whatever came after it.
    await queues.start(1, id="r", input_id="i1", if_last_input_id="i0")
    await run.abort()


@pytest.mark.parametrize("when", ["running", "suspended", "ended"])
async def test_a_known_input_id_with_another_input_is_a_conflict(
    app: testing.SkippingApp, when: str
) -> None:
    name = once if when == "running" else rests
    run = await name.start("end" if when == "ended" else 1, id="r", input_id="i")
    if when != "running":
        await run.result()

    with pytest.raises(TaskConflict, match="another input under the id 'i'"):
        await name.start(2, id="r", input_id="i")

    await run.abort()


async def test_an_input_that_was_given_long_ago_is_known_again(app: testing.SkippingApp) -> None:
    await rests.run(0, id="r", input_id="i0")
    for number in range(1, 40):
        await rests.run(number, id="r", input_id=f"i{number}")

    for number in (0, 1, 20, 39):
        run = await rests.start(number, id="r", input_id=f"i{number}")
        assert run.turn == number + 1
    with pytest.raises(TaskConflict):
        await rests.start(7, id="r", input_id="i1")
    assert (await types(run)).count("turn_began") == 40


# Ended


@pytest.mark.parametrize("input_id", [None, "i"])
async def test_ended_what_was_said_before_gives_the_same_outcome(
    app: testing.SkippingApp, input_id: str | None
) -> None:
    run = await once.start(1, id="r", input_id="i")
    await run.signal("go", 2)
    await run.result()

    again = await once.start(1, id="r", input_id=input_id)

    assert (again.status, again.turn) == ("completed", 1)
    assert (await again.result()).output == [1, 2]


@pytest.mark.parametrize("name", [once, queues])
async def test_ended_a_new_input_is_a_conflict(
    app: testing.SkippingApp, name: outlast.Task[Any, Any]
) -> None:
    run = await name.start(1, id="r")
    await run.signal("go", 2)
    await run.result()

    with pytest.raises(TaskConflict, match="run 'r' is completed"):
        await name.start(2, id="r")


# Late readers


async def test_a_late_joiner_gets_the_stream_up_to_the_end_of_its_turn(
    app: testing.SkippingApp,
) -> None:
    @task
    async def counts(ctx: TaskContext[int]) -> None:
        for number in range(ctx.input):
            await ctx.emit(f"{ctx.turn}.{number}")
        await ctx.suspend()

    first = await counts.start(2, id="r", input_id="a")
    live = [item.offset async for item in first.stream()]
    second = await counts.start(1, id="r", input_id="b")
    await second.result()

    late = await counts.start(2, id="r", input_id="a")

    assert [item.offset async for item in late.stream()] == live == [1, 2]
    values = [item.value async for item in second.stream() if isinstance(item, outlast.StreamItem)]
    assert values == ["1.0", "1.1", "2.0"]
    turns = [item.turn async for item in second.stream(after=1)]
    assert turns == [1, 2]


async def test_a_handle_by_id_belongs_to_the_current_turn(app: testing.SkippingApp) -> None:
    await rests.run(1, id="r", input_id="a")
    await rests.run(2, id="r", input_id="b")

    run = await app.runs.get("r")
    [listed] = (await app.runs.list()).items

    assert (run.input_id, run.turn, run.status) == ("b", 2, "suspended")
    assert (listed.input_id, listed.turn, listed.is_queued) == (None, 0, False)
    for handle in (run, listed):
        assert (await handle.result()).output == [2, "resumed"]
    assert (listed.input_id, listed.turn) == ("b", 2)
