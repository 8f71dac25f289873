"""Steps that overlap, and the order in which a replay hands outcomes over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from datetime import timedelta
from typing import Any

import pytest

import outlast.sync
from outlast import App, StepMismatch, StepUnknown, TaskContext, TaskFailed, task
from outlast.engine import order
from outlast.engine.belongings import settle, turn_of
from outlast.testing import SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.world import DIED, Crash, World, run_of

loop_factory = SkippingLoop

Make = Callable[[], World]
Drive = Callable[[App], Any]

TAKES = {"a": 0.3, "b": 0.1, "c": 0.2, "d": 0.4}


async def output_of(app: App, handler: Any) -> Any:
    return (await (await handler.options(app=app).start(None, id="r")).result()).output


def interrupted(world: World, drive: Drive, crash: Crash) -> Any:
    answer = world.live(drive, crash=crash)
    return world.live(drive) if answer is DIED else answer


def every_crash(writes: int) -> list[Crash]:
    return [Crash(write, after) for write in range(1, writes) for after in (False, True)]


@pytest.mark.parametrize("crash", every_crash(8), ids=str)
@pytest.mark.parametrize("order", ["abcd", "dcba", "bdac"])
def test_overlapping_steps_get_their_own_outcomes_in_whatever_order_they_are_asked_for(
    order: str, crash: Crash, make_world: Make
) -> None:
    world = make_world()

    async def work(label: str) -> str:
        await asyncio.sleep(TAKES[label])
        assert not world.is_heard or label not in world.outcomes("r"), "it is recorded"
        world.does(label)
        return label

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        labels = "abcd" if ctx.entry_mode == "fresh" else order
        found = await asyncio.gather(*(ctx.step("work", work, label) for label in labels))
        assert found == list(labels)
        return sorted(found)

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert interrupted(world, drive, crash) == list("abcd")


def test_equal_arguments_are_interchangeable(make_world: Make) -> None:
    world = make_world()
    numbers = iter(range(100))

    async def draw(name: str) -> int:
        number = next(numbers)
        await asyncio.sleep(0.1 * (number + 1))
        world.does(number)
        return number

    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        return sorted(await asyncio.gather(*(ctx.step("draw", draw, "x") for _ in range(3))))

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert interrupted(world, drive, Crash(3, after=True)) == [0, 1, 3]


def test_a_key_takes_the_place_of_the_arguments(make_world: Make) -> None:
    world = make_world()
    drawn = iter(range(100))

    async def work(label: str, noise: int) -> str:
        await asyncio.sleep(TAKES[label])
        world.does(label)
        return label

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        labels = "abc" if ctx.entry_mode == "fresh" else "cba"
        found = await asyncio.gather(
            *(ctx.step.options(key=label)("work", work, label, next(drawn)) for label in labels)
        )
        assert found == list(labels)
        return sorted(found)

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert interrupted(world, drive, Crash(3, after=True)) == list("abc")
    assert sorted(world.effects) == list("abc")


def test_other_arguments_where_steps_overlapped_are_a_mismatch_once_the_handler_rests(
    make_world: Make,
) -> None:
    world = make_world()
    drawn = iter(range(100))

    async def work(noise: int) -> int:
        await asyncio.sleep(0.1 + noise)
        return noise

    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        return list(await asyncio.gather(*(ctx.step("work", work, next(drawn)) for _ in "ab")))

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert world.live(drive, crash=Crash(2, after=True)) is DIED
    with pytest.raises(TaskFailed, match="StepMismatch: the step 'work' overlapped"):
        world.live(drive)


def test_a_handler_may_catch_a_mismatch_and_go_on(make_world: Make) -> None:
    world = make_world()
    drawn = iter(range(100))

    async def work(noise: int) -> int:
        await asyncio.sleep(0.1 + noise)
        return noise

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await asyncio.gather(*(ctx.step("work", work, next(drawn)) for _ in "ab"))
        except StepMismatch:
            return "mismatch"
        return "no mismatch"

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert interrupted(world, drive, Crash(2, after=True)) == "mismatch"


def test_a_stray_call_waits_for_a_step_in_flight_that_may_ask_for_what_is_recorded(
    make_world: Make,
) -> None:
    world = make_world()

    async def work(label: str) -> str:
        await asyncio.sleep(TAKES[label])
        world.does(label)
        return label

    async def slow() -> None:
        await asyncio.sleep(7)

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        async def late() -> str:
            if ctx.entry_mode != "fresh":
                await asyncio.sleep(3)  # of its own: nobody knows when it ends
            return await ctx.step("work", work, "b")

        return list(await asyncio.gather(ctx.step("work", work, "a"), late()))

    def drive(app: App) -> Any:
        return output_of(app, handler)

    # `b` is recorded, `a` is not: on replay `a` is asked for first.
    assert interrupted(world, drive, Crash(2, after=True)) == ["a", "b"]
    assert sorted(world.effects) == ["a", "b"]


async def test_steps_one_after_the_other_are_recorded_without_a_span(
    app: App, machine: Machine
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        for number in range(3):
            await ctx.step("work", abs, number)
        await asyncio.gather(*(ctx.step("work", abs, number) for number in range(3)))

    await handler.run(None, id="r")

    spans = [old.event.span for old in run_of(machine.store, "r").checkpoints.values()]
    assert spans[:3] == [None] * 3
    assert set(spans[3:]) == {(4, 6)}


async def test_a_call_waits_while_the_one_before_it_is_recorded_as_alone(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        first = asyncio.ensure_future(ctx.step("work", abs, 1))
        await recording.wait()
        second = asyncio.ensure_future(ctx.step("work", abs, 2))
        return [await first, await second]

    recording = asyncio.Event()

    async def slowly(verb: str, argument: Any) -> None:
        if verb == "commit":
            recording.set()
            await asyncio.sleep(0.1)

    async with machine.open():
        run = await handler.start(None, id="r")
        machine.wire.before = slowly
        assert (await run.result()).output == [1, 2]

    checkpoints = run_of(machine.store, "r").checkpoints
    assert [old.event.span for old in checkpoints.values()] == [None, None]


# The order of a replay


@pytest.mark.parametrize("crash", every_crash(8), ids=str)
def test_a_replay_takes_the_branch_of_whoever_came_first(crash: Crash, make_world: Make) -> None:
    world = make_world()
    times = {"a": [0.1, 0.5], "b": [0.5, 0.1], "nothing": [1.0]}

    async def work(label: str) -> str:
        await asyncio.sleep(times[label].pop(0) if len(times[label]) > 1 else times[label][0])
        return label

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        tasks = [asyncio.ensure_future(ctx.step(label, work, label)) for label in "ba"]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(one.result() for one in tasks if one.done())
        await ctx.step(f"{first} was first", str)
        await asyncio.gather(*tasks)
        return first

    async def drive(app: App) -> Any:
        first = await output_of(app, handler)
        names = [slot.name for slot in run_of(world.store, "r").checkpoints]
        assert [name for name in names if "first" in name] == [f"{first} was first"]
        return first

    assert interrupted(world, drive, crash) in ("a", "b")


def test_a_handler_that_never_rests_does_not_hold_up_an_outcome_for_ever(
    make_world: Make,
) -> None:
    world = make_world()

    async def work(label: str) -> str:
        await asyncio.sleep(TAKES[label])
        return label

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        async def spin() -> None:
            while True:  # noqa: ASYNC110 - it is to never rest
                await asyncio.sleep(0)

        spinning = asyncio.ensure_future(spin())
        found = await asyncio.gather(*(ctx.step(label, work, label) for label in "ab"))
        spinning.cancel()
        return list(found)

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert interrupted(world, drive, Crash(3, after=True)) == ["a", "b"]


def test_an_outcome_that_is_not_asked_for_again_holds_up_no_other(make_world: Make) -> None:
    world = make_world()

    async def work(label: str) -> str:
        world.does(label)
        return label

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        labels = "abc" if ctx.entry_mode == "fresh" else "bc"
        return [await ctx.step(label, work, label) for label in labels]

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert interrupted(world, drive, Crash(3, after=True)) == ["b", "c"]
    assert world.effects == ["a", "b", "c"]


@pytest.mark.parametrize("crash", every_crash(8), ids=str)
def test_calls_of_tasks_that_bear_no_mark_of_the_handler_hold_up_nobody(
    crash: Crash, make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()
    looks = 0

    async def look(*args: Any) -> bool:
        nonlocal looks
        looks += 1
        if looks > 1_000:
            world.process.loop.stop()
            await asyncio.sleep(3600)
        return await settle(*args)

    monkeypatch.setattr(order, "settle", look)

    async def work(label: str) -> str:
        await asyncio.sleep(TAKES[label])
        return label

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        calls = (
            asyncio.create_task(ctx.step("work", work, label), context=Context())
            for label in "abcd"
        )
        return list(await asyncio.gather(*calls))

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert interrupted(world, drive, crash) == list("abcd"), "the loop is held"


def test_threads_that_a_plain_handler_makes_get_their_own_outcomes(make_world: Make) -> None:
    world = make_world()

    def work(number: int) -> int:
        world.does(number)
        return 10 * number

    @task
    def handler(ctx: outlast.sync.TaskContext[None]) -> list[int]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda number: ctx.step("work", work, number), range(10)))

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert interrupted(world, drive, Crash(4, after=True)) == [10 * number for number in range(10)]


def test_what_a_thread_of_a_plain_handler_asks_for_belongs_to_its_turn(make_world: Make) -> None:
    world = make_world()
    marks: list[object | None] = []

    async def work() -> None:
        marks.append(turn_of.get())

    @task
    def handler(ctx: outlast.sync.TaskContext[None]) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ctx.step, "there", work).result()
        ctx.step("here", work)

    world.live(lambda app: output_of(app, handler))

    there, here = marks
    assert there is here is not None


def test_a_plain_handler_that_waits_for_a_stray_call_is_at_rest(make_world: Make) -> None:
    world = make_world()
    drawn = iter(range(100))

    async def pay(noise: int) -> int:
        world.does("pay")
        await asyncio.sleep(10)
        return noise

    @task
    def handler(ctx: outlast.sync.TaskContext[None]) -> str:
        try:
            ctx.step.options(at_most_once=True)("pay", pay, next(drawn))
        except StepUnknown:
            return "unknown"
        return "paid"

    async def drive(app: App) -> Any:
        run = await handler.options(app=app).start(None, id="r")
        return (await run.result(timedelta(minutes=5))).output

    assert world.live(drive, crash=Crash(3, after=False)) is DIED
    assert world.live(drive) == "unknown"
    assert world.effects == ["pay"]


def test_what_is_new_does_not_overtake_what_is_recorded_while_a_stray_call_waits(
    make_world: Make,
) -> None:
    world = make_world()

    async def work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        async def ask(after: float, seconds: float) -> None:
            await asyncio.sleep(after)
            await ctx.step("work", work, seconds)

        is_fresh = ctx.entry_mode == "fresh"
        others = asyncio.gather(ask(30 * (not is_fresh), 0.5), ask(0, 100))
        await asyncio.sleep(2)
        tasks = [
            asyncio.create_task(ctx.sleep("deadline", timedelta(seconds=1)), name="deadline"),
            asyncio.create_task(ctx.step("pay", work, 5 if is_fresh else 0.01), name="paid"),
        ]
        first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(others, *tasks)
        return first.pop().get_name()

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert world.live(drive, crash=Crash(4, after=True)) is DIED
    assert [entry["kind"] for type, entry in world.history("r") if type == "checkpointed"] == [
        "step",
        "sleep",
    ]
    assert world.live(drive) == "deadline"


def test_outcomes_of_one_write_are_given_one_by_one_as_to_a_replay(make_world: Make) -> None:
    world = make_world()
    branches: list[list[str]] = []

    async def work() -> None:
        """Do nothing."""

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        tasks = [asyncio.create_task(ctx.step(name, work), name=name) for name in "abc"]
        first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        branches.append(sorted(task.get_name() for task in first))
        await asyncio.gather(*tasks)
        await ctx.step("".join(branches[-1]), work)
        return branches[-1]

    def drive(app: App) -> Any:
        return output_of(app, handler)

    assert world.live(drive, crash=Crash(3, after=True)) is DIED
    assert world.live(drive) == ["a"]
    assert branches == [["a"], ["a"]]


def test_signals_of_one_write_are_given_one_by_one_as_to_a_replay(make_world: Make) -> None:
    world = make_world()
    branches: list[list[str]] = []

    async def work() -> None:
        """Do nothing."""

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        await asyncio.sleep(1)
        tasks = [asyncio.create_task(ctx.wait(name, int), name=name) for name in "abc"]
        first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        branches.append(sorted(task.get_name() for task in first))
        await asyncio.gather(*tasks)
        await ctx.step("".join(branches[-1]), work)
        return branches[-1]

    async def drive(app: App) -> Any:
        run = await handler.options(app=app).start(None, id="r")
        for name in "abc":
            await run.signal(name, 1, id=name)
        return (await run.result()).output

    assert world.live(drive, crash=Crash(6, after=True)) is DIED
    assert [type for type, _ in world.history("r")].count("checkpointed") == 4
    assert world.live(lambda app: output_of(app, handler)) == ["a"]
    assert branches == [["a"], ["a"]]


async def test_a_wait_that_is_cancelled_as_its_turn_comes_gives_its_signal(
    app: App, machine: Machine
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[int]:
        await asyncio.sleep(1)
        waiting = [asyncio.create_task(ctx.wait(name, int)) for name in "ab"]
        waiting[0].add_done_callback(lambda _: waiting[1].cancel())
        return list(await asyncio.gather(*waiting))

    run = await handler.options(app=app).start(None)
    for number, name in enumerate("ab"):
        await run.signal(name, number)

    assert (await run.result()).output == [0, 1]
