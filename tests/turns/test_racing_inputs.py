"""Inputs that are given, taken back and taken up at one instant: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from typing import Any

from outlast import (
    SteeringQueueFull,
    TaskCancelled,
    TaskConflict,
    TaskContext,
    task,
    testing,
)
from tests.turns.asking import types


async def test_of_inputs_that_are_given_at_once_no_more_wait_than_may(
    app: testing.SkippingApp,
) -> None:
    @task(steering="queue", max_pending=3)
    async def works(ctx: TaskContext[int]) -> list[Any]:
        return [ctx.input, await ctx.wait("go")]

    first = await works.start(0, id="r")
    answers = await asyncio.gather(
        *(works.start(number, id="r") for number in range(1, 9)), return_exceptions=True
    )

    runs = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(runs) == 3
    assert sum(isinstance(answer, SteeringQueueFull) for answer in answers) == 5
    for number in range(4):
        await first.signal("go", number)
    outputs = [(await run.result()).output for run in [first, *runs]]
    assert sorted(told for _, told in outputs) == [0, 1, 2, 3]
    assert len({input for input, _ in outputs}) == 4


async def test_of_equal_inputs_that_are_given_at_once_one_is_taken_up(
    app: testing.SkippingApp,
) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[str]) -> list[Any]:
        return [ctx.input, ctx.turn]

    runs = await asyncio.gather(
        *(works.start(name, id="r", input_id=name) for name in ("a", "b") * 4),
        return_exceptions=True,
    )

    # What comes after the end is refused, and said before it, it is joined.
    taken = [run for run in runs if not isinstance(run, BaseException)]
    assert all(isinstance(run, TaskConflict) for run in runs if isinstance(run, BaseException))
    outputs = {run.input_id: (await run.result()).output for run in taken}
    assert {output[0] for output in outputs.values()} == set(outputs)
    assert (await types(taken[0])).count("turn_began") == len(outputs)


async def test_an_input_is_withdrawn_or_taken_up_and_never_both(
    app: testing.SkippingApp,
) -> None:
    @task(steering="queue")
    async def works(ctx: TaskContext[int]) -> int:
        done.append((ctx.id, ctx.input))
        if ctx.input == 0:
            await ctx.wait("go")
        return ctx.input

    done: list[tuple[str, int]] = []
    withdrawn = 0
    for number in range(8):
        first = await works.start(0, id=f"r{number}")
        second = await works.start(1, id=f"r{number}")

        async def go_on(pauses: int = number, run: Any = first) -> None:
            for _ in range(pauses):
                await asyncio.sleep(0)
            await run.signal("go")

        _, answer = await asyncio.gather(go_on(), second.withdraw(), return_exceptions=True)

        if answer is None:
            withdrawn += 1
            assert (f"r{number}", 1) not in done
            try:
                await second.result()
                raise AssertionError("it was withdrawn, and has a result")
            except TaskCancelled:
                pass
        else:
            assert isinstance(answer, TaskConflict)
            assert (await second.result()).output == 1
        assert (await first.result()).output == 0
    assert withdrawn
