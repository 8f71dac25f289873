"""Steps: they run once, and what is recorded of them comes back as it was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from outlast import App, TaskContext, TaskFailed, UsageError, sync, task
from outlast.model.decisions import MAX_CHECKPOINTS
from outlast.model.events import Checkpointed, Created, TurnBegan
from outlast.testing import SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.world import DIED, Crash, World, put, run_of, twice

loop_factory = SkippingLoop

Make = Callable[[], World]


# Names


async def test_a_name_that_is_used_again_is_told_apart_by_order(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        return [await ctx.step("one", abs, number) for number in (-1, -2, -3)]

    result = await handler.run(None, id="r")

    assert result.output == [1, 2, 3]
    assert [str(slot) for slot in run_of(machine.store, "r").checkpoints] == [
        "one",
        "one#2",
        "one#3",
    ]


@pytest.mark.parametrize("name", ["", "a#2", "#", "x" * 201, 7, None])
async def test_what_is_no_name_is_refused(app: App, name: Any) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await ctx.step(name, abs, 1)
        except UsageError as error:
            return str(error)
        return "not refused"

    result = await handler.run(None)

    assert "the name of a step is a str of 1 to 200 characters without '#'" in result.output


async def test_each_kind_of_call_counts_its_names_for_itself(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.step("x", abs, 1)
        await ctx.sleep("x", timedelta(0))
        await ctx.wait("x")

    run = await handler.start(None, id="r")
    await run.signal("x")
    await run.result()

    slots = run_of(machine.store, "r").checkpoints
    assert [(slot.kind, slot.number) for slot in slots] == [("step", 1), ("sleep", 1), ("wait", 1)]


@pytest.mark.parametrize("call", ["step", "sleep", "wait"])
async def test_a_step_holds_no_other_call(app: App, call: str) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        async def inner() -> None:
            match call:
                case "step":
                    await ctx.step("inner", abs, 1)
                case "sleep":
                    await ctx.sleep("inner", timedelta(0))
                case _:
                    await ctx.wait("inner")

        await ctx.step("outer", inner)

    with pytest.raises(TaskFailed, match=f"ctx.{call} was called inside the step 'outer'"):
        await handler.run(None)


# What may be a step


class Adder:
    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, other: int) -> int:
        return self.number + other


class AsyncAdder(Adder):
    async def __call__(self, other: int) -> int:  # type: ignore[override]
        return self.number + other


async def add(first: int, second: int) -> int:
    return first + second


def lazily_add(first: int, second: int) -> Any:
    return add(first, second)


@pytest.mark.parametrize(
    "function",
    [
        partial(add, 1),
        partial(partial(int.__add__), 1),
        lambda number: 1 + number,
        Adder(1),
        AsyncAdder(1),
        partial(Adder(1)),
        partial(lazily_add, 1),
    ],
    ids=["partial", "partial of partial", "lambda", "object", "async object", "both", "lazy"],
)
async def test_whatever_can_be_called_is_a_step(app: App, function: Any) -> None:
    @task
    async def handler(ctx: TaskContext[int]) -> int:
        value: int = await ctx.step("add", function, ctx.input)
        return value

    assert (await handler.run(2)).output == 3


async def test_a_plain_function_runs_in_a_thread(app: App) -> None:
    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    @task
    async def handler(ctx: TaskContext[None]) -> bool:
        return await ctx.step("where", where)

    assert (await handler.run(None)).output is False


async def test_a_plain_handler_has_the_same_face(app: App) -> None:
    @task
    def handler(ctx: sync.TaskContext[int]) -> list[Any]:
        ctx.emit("begun")
        ctx.sleep("a while", timedelta(seconds=3))
        once = ctx.step.options(at_most_once=True)
        return [ctx.id, ctx.input, once("add", add, ctx.input, 1), ctx.wait("go", int)]

    run = await handler.start(2, id="r")
    await run.signal("go", 7)

    assert (await run.result()).output == ["r", 2, 3, 7]
    assert [item.offset async for item in run.stream()] == [1]


# Replay


def test_a_recorded_outcome_is_read_and_the_function_is_not_called(make_world: Make) -> None:
    world = make_world()

    async def work(label: str) -> str:
        world.does(label)
        return label

    @task
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        first = await ctx.step("work", work, "a")
        return [first, await ctx.step("work", work, "b"), ctx.entry_mode, ctx.recovery_count]

    async def drive(app: App) -> Any:
        run = await handler.options(app=app).start(None, id="r")
        return (await run.result()).output

    assert twice(world, drive, write=2) == ["a", "b", "recovered", 1]
    assert world.effects == ["a", "b"]


def test_what_runs_first_after_a_crash_is_not_recorded_yet(make_world: Make) -> None:
    world = make_world()
    ran: asyncio.Queue[str] = asyncio.Queue()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.step("first", ran.put, "first")
        await ctx.step("second", ran.put, "second")

    async def begin(app: App) -> None:
        await (await handler.options(app=app).start(None, id="r")).result()

    async def go_on(app: App) -> str:
        return await ran.get()

    assert world.live(begin, crash=Crash(2, after=True)) is DIED
    assert ran.get_nowait() == "first"

    assert world.live(go_on) == "second"


def test_steps_that_did_not_overlap_are_never_compared_by_argument(make_world: Make) -> None:
    world = make_world()
    numbers = iter(range(100))

    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        return [await ctx.step("work", abs, next(numbers)) for _ in range(3)]

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    assert twice(world, drive, write=3) == [0, 1, 4]


# Limits


@pytest.mark.slow
def test_no_more_outcomes_are_recorded_than_a_turn_may_have(make_world: Make) -> None:
    world = make_world()

    @task
    async def handler(ctx: TaskContext[None]) -> int:
        for number in range(10):
            try:
                await ctx.step("new", abs, number)
            except UsageError:
                return number
        return 10

    def record(number: int) -> Checkpointed:
        return Checkpointed("step", "old", number, number - 1)

    async def drive(app: App) -> Any:
        begun = Created(handler.name, None, "input", 0.0), TurnBegan(1)
        await put(world.store, "r", [*begun, *map(record, range(1, MAX_CHECKPOINTS - 2))])
        return (await (await app.runs.get("r")).result()).output

    assert world.live(drive) == 3


async def test_plain_handlers_leave_threads_for_their_steps(app: App, machine: Machine) -> None:
    """One pool for both could be full of handlers that wait for their steps, for ever."""
    machine.system.handlers._limit = machine.system.steps._limit = 1

    @task
    def handler(ctx: sync.TaskContext[int]) -> int:
        return ctx.step("double", lambda: 2 * ctx.input)

    runs = [await handler.start(number) for number in range(3)]

    assert [(await run.result()).output for run in runs] == [0, 2, 4]
