"""Whatever write a process dies at, a run ends as if nothing had happened, and repeats nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from outlast import (
    App,
    OutlastError,
    Retracted,
    RetryPolicy,
    StreamItem,
    TaskContext,
    TaskRun,
    sync,
    task,
)
from outlast.testing import SkippingLoop
from tests.engine.world import DIED, Crash, Lost, World, head_of, run_of

Drive = Callable[[App], Awaitable[Any]]
Scenario = Callable[[World], Drive]

pytestmark = pytest.mark.slow
loop_factory = SkippingLoop


@dataclass(frozen=True)
class Outcome:
    """What a caller sees of a run."""

    status: str
    output: Any
    stream: tuple[Any, ...]


async def outcome_of(run: TaskRun[Any]) -> Outcome:
    output: Any
    try:
        output = (await run.result()).output
    except OutlastError as error:
        output = f"{type(error).__name__}: {error}"
    standing: list[StreamItem] = []
    offsets = []
    async for item in run.stream():
        offsets.append(item.offset)
        if isinstance(item, Retracted):
            standing = [
                old for old in standing if not (old.step == item.step and old.offset > item.after)
            ]
        else:
            standing.append(item)
    assert offsets == list(range(1, len(offsets) + 1))
    await run.refresh()
    return Outcome(run.status, output, tuple((item.value, item.step) for item in standing))


def does(world: World, label: str) -> str:
    """Do something outside, which gives its own name: once recorded, it is not done again."""
    assert not world.is_heard or label not in world.outcomes("r"), f"{label} is done again"
    world.does(label)
    return label


# Scenarios


def one_thing_after_the_other(world: World) -> Drive:
    async def work(label: str) -> str:
        return does(world, label)

    @task
    async def handler(ctx: TaskContext[list[str]]) -> list[str]:
        done = []
        for label in ctx.input:
            done.append(await ctx.step("work", work, label))
            await ctx.emit(label)
        await ctx.sleep("pause", timedelta(seconds=3))
        done.append(await ctx.step("last", work, "z"))
        return done

    async def drive(app: App) -> Outcome:
        return await outcome_of(await handler.options(app=app).start(["a", "b", "c"], id="r"))

    return drive


def many_at_once(world: World) -> Drive:
    async def work(label: str, takes: float) -> str:
        await asyncio.sleep(takes)
        return does(world, label)

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        first = await asyncio.gather(
            *(
                ctx.step("work", work, label, takes)
                for label, takes in [("a", 0.3), ("b", 0.1), ("c", 0.2), ("d", 0.1)]
            )
        )
        second = [await ctx.step("work", work, "e", 0.0)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step("work", work, label, 0.1)) for label in "fgh"]
        return first + second + [one.result() for one in tasks]

    async def drive(app: App) -> Outcome:
        return await outcome_of(await handler.options(app=app).start(None, id="r"))

    return drive


def whoever_comes_first(world: World) -> Drive:
    """The branch depends on the order, and the order on the first process alone."""
    patience = {"a": [0.2, 0.1], "b": [0.1, 0.3], "c": [0.3, 0.2]}

    async def work(label: str) -> str:
        times = patience[label]
        await asyncio.sleep(times.pop() if len(times) > 1 else times[0])
        return does(world, label)

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        tasks = {asyncio.create_task(ctx.step(label, work, label)) for label in "abc"}
        order: list[str] = []
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                order.append(one.result())
                await ctx.step("after " + "".join(order), str)
        return sorted(order)

    async def drive(app: App) -> Outcome:
        outcome = await outcome_of(await handler.options(app=app).start(None, id="r"))
        branches = [slot.name for slot in run_of(world.store, "r").checkpoints]
        assert len(branches) == 6, branches  # one branch was taken, from the first step to the last
        return outcome

    return drive


def a_step_before_a_signal(world: World) -> Drive:
    """What a replay asks for anew was asked for long ago: it comes no earlier for that."""

    async def work() -> str:
        return does(world, "step")

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        step = asyncio.create_task(ctx.step("step", work))
        signal = asyncio.create_task(ctx.wait("go", str))
        tasks: set[asyncio.Task[str]] = {step, signal}
        order: list[str] = []
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            order.append(" and ".join(sorted(one.result() for one in done)))
        await ctx.step("last", str)
        return order

    async def drive(app: App) -> Outcome:
        run = await handler.options(app=app).start(None, id="r")
        while not run_of(world.store, "r").checkpoints:  # noqa: ASYNC110 - time flies
            await asyncio.sleep(1)
        if (await run.refresh()).status in ("pending", "running"):
            await run.signal("go", "signal", id="go")
        return await outcome_of(run)

    return drive


def as_they_are_completed(world: World) -> Drive:
    async def work(label: str, takes: float) -> str:
        await asyncio.sleep(takes)
        return does(world, label)

    @task
    async def handler(ctx: TaskContext[None]) -> int:
        order: list[str] = []
        calls = [
            ctx.step("work", work, label, takes)
            for label, takes in [("a", 0.3), ("b", 0.1), ("c", 0.2)]
        ]
        for call in asyncio.as_completed(calls):
            order.append(await call)
            await ctx.step("note " + "".join(order), str)
        return len(order)

    async def drive(app: App) -> Outcome:
        outcome = await outcome_of(await handler.options(app=app).start(None, id="r"))
        notes = [
            slot.name
            for slot in run_of(world.store, "r").checkpoints
            if slot.name.startswith("note")
        ]
        assert len(notes) == 3, notes  # one branch was taken, from the first note to the last
        assert all(notes[2].startswith(note) for note in notes), notes
        return outcome

    return drive


def tries_that_fail(world: World) -> Drive:
    async def shaky(label: str) -> str:
        tries = Counter(world.effects)[f"try {label}"]
        world.does(f"try {label}")
        if tries < 2:
            raise OSError(f"{label} is not there yet")
        return does(world, label)

    async def hopeless() -> None:
        raise KeyError("never")

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        patient = ctx.step.options(retry=RetryPolicy(20, initial_delay=timedelta(seconds=1)))
        done = [await patient("shaky", shaky, "a")]
        try:
            await ctx.step("hopeless", hopeless)
        except KeyError as error:
            done.append(repr(error))
        done.append(await patient("shaky", shaky, "b"))
        return done

    async def drive(app: App) -> Outcome:
        return await outcome_of(await handler.options(app=app).start(None, id="r"))

    return drive


def attempts_that_fail(world: World) -> Drive:
    async def work(label: str) -> str:
        return does(world, label)

    @task(retry=RetryPolicy(3, initial_delay=timedelta(seconds=2)))
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        done: list[Any] = [await ctx.step("work", work, "a")]
        await ctx.emit(f"attempt {ctx.attempt}")
        if ctx.attempt == 0:
            raise OSError("not yet")
        done.append(await ctx.step("work", work, "b"))
        if ctx.attempt == 1:
            raise OSError("nearly")
        return [*done, ctx.attempt]

    async def drive(app: App) -> Outcome:
        return await outcome_of(await handler.options(app=app).start(None, id="r"))

    return drive


def no_attempt_succeeds(world: World) -> Drive:
    @task(retry=RetryPolicy(3, initial_delay=timedelta(seconds=2)))
    async def handler(ctx: TaskContext[None]) -> None:
        raise OSError(f"attempt {ctx.attempt}")

    async def drive(app: App) -> Outcome:
        return await outcome_of(await handler.options(app=app).start(None, id="r"))

    return drive


def signals_in_their_order(world: World) -> Drive:
    async def work(label: str) -> str:
        return does(world, label)

    @task
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        first = await ctx.wait("go", int)
        done: list[Any] = [first, await ctx.step("work", work, "a")]
        done.append(await ctx.wait("go", int, timeout=timedelta(seconds=60)))
        try:
            await ctx.wait("never", timeout=timedelta(seconds=3))
        except TimeoutError:
            done.append("timeout")
        both = await asyncio.gather(ctx.wait("go", int), ctx.wait("other", str))
        return [*done, *both]

    async def drive(app: App) -> Outcome:
        run = await handler.options(app=app).start(None, id="r")
        if (await run.refresh()).status in ("pending", "running"):
            for number in (1, 2):
                await run.signal("go", number, id=f"go {number}")
            await asyncio.sleep(5)
            await run.signal("other", "x", id="other")
            await run.signal("go", 3, id="go 3")
        return await outcome_of(run)

    return drive


def steps_that_stream(world: World) -> Drive:
    failed: list[str] = []

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        async def speak(label: str) -> str:
            for word in ("one", "two", "three"):
                await ctx.emit(f"{label} {word}")
                await asyncio.sleep(0.06)
                if word == "two" and label not in failed and world.is_heard:
                    failed.append(label)
                    raise OSError("a slip of the tongue")
            return does(world, label)

        async def beside(label: str) -> None:
            await ctx.emit({"beside": label})
            await ctx.step(f"beside {label}", str, label)
            await ctx.emit({"beside": label})

        patient = ctx.step.options(retry=RetryPolicy(20, initial_delay=timedelta(seconds=1)))
        await ctx.emit("begin")
        await patient("speak", speak, "a")
        await ctx.emit("middle")
        await asyncio.gather(beside("x"), beside("y"))
        await patient("speak", speak, "b")
        await ctx.emit("end")
        return "said"

    async def drive(app: App) -> Outcome:
        return await outcome_of(await handler.options(app=app).start(None, id="r"))

    return drive


def waits_out_of_memory(world: World) -> Drive:
    """Each wait is left, and entered again with others beside it; no branch is taken twice."""

    async def work(label: str) -> str:
        return does(world, label)

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        tasks = {asyncio.create_task(ctx.wait(name, str)) for name in "abc"}
        pause = asyncio.create_task(ctx.sleep("pause", timedelta(seconds=8)))
        order: list[str] = []
        try:
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                order += sorted(one.result() for one in done)
                await ctx.step("after " + "".join(order), str)
            await pause
            await ctx.emit("paused")
        finally:
            tidied = await ctx.step("tidy", work, "tidy")
        return [*sorted(order), tidied]

    async def drive(app: App) -> Outcome:
        run = await handler.options(app=app).start(None, id="r")
        for name in "bac":
            await asyncio.sleep(2)
            if (await run.refresh()).status in ("pending", "running"):
                await run.signal(name, name, id=name)
        outcome = await outcome_of(run)
        slots = run_of(world.store, "r").checkpoints
        branches = [slot.name for slot in slots if slot.name.startswith("after")]
        assert all(branches[-1].startswith(branch) for branch in branches), branches
        return outcome

    return drive


def in_threads(world: World) -> Drive:
    def work(label: str) -> str:
        return does(world, label)

    @task
    def handler(ctx: sync.TaskContext[None]) -> list[Any]:
        done: list[Any] = [ctx.step("work", work, "a")]
        ctx.emit("a")
        ctx.sleep("pause", timedelta(seconds=1))
        done.append(ctx.step("work", work, "b"))
        ctx.emit("b")
        ctx.emit("b")
        try:
            ctx.wait("never", timeout=timedelta(seconds=1))
        except TimeoutError:
            done.append("timeout")
        return done

    async def drive(app: App) -> Outcome:
        return await outcome_of(await handler.options(app=app).start(None, id="r"))

    return drive


def stopped_while_it_works(world: World) -> Drive:
    async def work(label: str) -> str:
        return does(world, label)

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        await ctx.step("work", work, "a")
        await ctx.wait("never")
        return await ctx.step("work", work, "b")

    async def drive(app: App) -> Outcome:
        run = await handler.options(app=app).start(None, id="r")
        await asyncio.sleep(1)
        await run.abort("enough")
        return await outcome_of(run)

    return drive


def cancelled_while_it_waits(world: World) -> Drive:
    async def work(label: str) -> str:
        return does(world, label)

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        await ctx.step("work", work, "a")
        await ctx.wait("never")
        return await ctx.step("work", work, "b")

    async def drive(app: App) -> Outcome:
        run = await handler.options(app=app).start(None, id="r")
        await asyncio.sleep(1)
        await run.cancel("enough")
        return await outcome_of(run)

    return drive


SCENARIOS = [
    one_thing_after_the_other,
    many_at_once,
    whoever_comes_first,
    as_they_are_completed,
    a_step_before_a_signal,
    tries_that_fail,
    attempts_that_fail,
    no_attempt_succeeds,
    signals_in_their_order,
    steps_that_stream,
    waits_out_of_memory,
    in_threads,
    stopped_while_it_works,
    cancelled_while_it_waits,
]


@pytest.fixture(params=SCENARIOS, ids=lambda scenario: scenario.__name__)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    chosen: Scenario = request.param
    return chosen


Sweep = Callable[[World, Drive], Any]
"""Lives a world to its end, with one thing going wrong on the way."""


def sweep(
    scenario: Scenario, make_world: Callable[[], World], ways: Callable[[int], dict[str, Sweep]]
) -> None:
    """Let one thing go wrong, each time another; what comes out in the end must be the same."""
    world = make_world()
    undisturbed = world.live(scenario(world))
    effects = set(world.effects)

    for way, live in ways(world.process.writes).items():
        world = make_world()
        answer = live(world, scenario(world))

        assert answer == undisturbed, f"{way}: {world.history('r')}"
        assert set(world.effects) <= effects, way
        assert head_of(world.store, "r").closed, way
        assert head_of(world.store, "r").lease is None, way


def crashes(writes: int) -> list[Crash]:
    return [Crash(write, after) for write in range(1, writes + 1) for after in (False, True)]


def test_a_crash_at_any_write_changes_nothing(
    scenario: Scenario, make_world: Callable[[], World]
) -> None:
    def live(world: World, drive: Drive, crash: Crash) -> Any:
        answer = world.live(drive, crash=crash)
        return world.live(drive) if answer is DIED else answer

    sweep(
        scenario,
        make_world,
        lambda writes: {str(crash): partial(live, crash=crash) for crash in crashes(writes)},
    )


def test_a_crash_of_whoever_took_over_changes_nothing(
    scenario: Scenario, make_world: Callable[[], World]
) -> None:
    def live(world: World, drive: Drive, first: Crash, second: Crash) -> Any:
        for crash in (first, second):
            if (answer := world.live(drive, crash=crash)) is not DIED:
                return answer
        return world.live(drive)

    def ways(writes: int) -> dict[str, Sweep]:
        halves = [Crash(write, after=True) for write in range(2, writes, 3)]
        return {
            f"{first}, then {second}": partial(live, first=first, second=second)
            for first in halves
            for second in crashes(5)
        }

    sweep(scenario, make_world, ways)


def test_a_process_thawed_after_another_has_gone_on_changes_nothing(
    scenario: Scenario, make_world: Callable[[], World]
) -> None:
    def live(world: World, drive: Drive, crash: Crash) -> Any:
        answer = world.live(drive, crash=crash)
        if answer is not DIED:
            return answer
        frozen, answer = world.process, world.live(drive)
        entries = world.history("r")
        assert frozen.thaw() == answer
        assert world.history("r") == entries
        return answer

    sweep(
        scenario,
        make_world,
        lambda writes: {str(crash): partial(live, crash=crash) for crash in crashes(writes)},
    )


@pytest.mark.parametrize("grace", [timedelta(0), timedelta(seconds=2)], ids=["at once", "grace"])
def test_a_shutdown_at_any_write_changes_nothing_and_is_no_death(
    scenario: Scenario, grace: timedelta, make_world: Callable[[], World]
) -> None:
    def live(world: World, drive: Drive, write: int) -> Any:
        async def leave(app: App) -> Any:
            leaving = asyncio.Event()
            world.process.at_write = lambda number: leaving.set() if number == write else None
            driving = asyncio.ensure_future(drive(app))
            waiting = asyncio.ensure_future(leaving.wait())
            await asyncio.wait({driving, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.cancel():
                return await driving
            driving.cancel()
            return DIED

        answer = world.live(leave, grace=grace)
        if answer is DIED:
            if "run/r" in world.store._heads:
                run, head = run_of(world.store, "r"), head_of(world.store, "r")
                assert run.deaths == 0
                assert head.lease is None
                assert run.status in ("pending", "running") or head.closed
            answer = world.live(drive)
            assert run_of(world.store, "r").deaths == 0
        return answer

    sweep(
        scenario,
        make_world,
        lambda writes: {f"write {n}": partial(live, write=n) for n in range(1, writes + 1)},
    )


def test_a_call_or_an_answer_that_is_lost_changes_nothing(
    scenario: Scenario, make_world: Callable[[], World]
) -> None:
    world = make_world()
    world.live(scenario(world))
    calls, effects = world.process.calls, Counter(world.effects)

    def live(world: World, drive: Drive, lost: Lost) -> Any:
        answer = world.live(drive, lost=lost)
        assert Counter(world.effects) == effects, lost
        assert run_of(world.store, "r").recoveries == 0, lost
        return answer

    sweep(
        scenario,
        make_world,
        lambda _: {
            str(lost): partial(live, lost=lost)
            for call in range(1, calls + 1)
            for lost in (Lost(call, after=False), Lost(call, after=True))
        },
    )
