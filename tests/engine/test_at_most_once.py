"""Steps that may run once: interrupted, their outcome is unknown, and nobody runs them again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from outlast import App, RetryPolicy, StepUnknown, TaskContext, TaskFailed, task
from outlast.testing import SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.world import DIED, Crash, World, run_of

loop_factory = SkippingLoop

Make = Callable[[], World]


def test_an_interrupted_step_that_may_run_once_is_unknown(make_world: Make) -> None:
    world = make_world()

    async def pay() -> str:
        world.does("pay")
        await asyncio.sleep(1)
        return "paid"

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        for _ in range(2):  # what is not known stays unknown
            try:
                return await ctx.step.options(at_most_once=True)("pay", pay)
            except StepUnknown as error:
                message = str(error)
        return message

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    crash = Crash(3, after=False)
    assert world.live(drive, crash=crash) is DIED
    assert world.effects == ["pay"]
    answer = world.live(drive)

    assert answer == "paid"  # the second call of the name is another step
    assert world.effects == ["pay", "pay"]
    unknown = run_of(world.store, "r").checkpoints
    assert [old.event.error["type"] if old.event.error else "" for old in unknown.values()] == [  # type: ignore[call-overload, index]
        "outlast.errors.StepUnknown",
        "",
    ]


def test_a_step_that_may_run_once_is_never_run_twice_whatever_write_it_dies_at(
    make_world: Make,
) -> None:
    for write in range(1, 6):
        for after in (False, True):
            world = make_world()

            async def pay(world: World = world) -> str:
                world.does("pay")
                return "paid"

            @task
            async def handler(ctx: TaskContext[None]) -> str:
                try:
                    return await ctx.step.options(at_most_once=True)("pay", pay)
                except StepUnknown:
                    return "unknown"

            async def drive(app: App) -> Any:
                run = await handler.options(app=app).start(None, id="r")
                return (await run.result()).output

            answer = world.live(drive, crash=Crash(write, after))
            if answer is DIED:
                answer = world.live(drive)

            assert world.effects in (["pay"], [] if answer == "unknown" else ["pay"])


def test_steps_that_may_run_once_are_not_taken_for_each_other(make_world: Make) -> None:
    """The one that had begun is unknown, whichever of the two a replay asks for first."""
    world = make_world()
    orders = [["begun", "other"], ["other", "begun"]]

    async def pay(label: str) -> str:
        world.does(label)
        await asyncio.sleep(10)
        return label

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        step = ctx.step.options(at_most_once=True)
        tasks: list[asyncio.Task[str]] = []
        for label in orders.pop(0):
            tasks.append(asyncio.create_task(step("pay", pay, label)))
            await asyncio.sleep(1)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return sorted(str(outcome) or repr(outcome) for outcome in outcomes)

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    assert world.live(drive, crash=Crash(3, after=False)) is DIED
    assert world.effects == ["begun"]
    answer: Any = world.live(drive)

    assert world.effects == ["begun", "other"]
    assert answer[0] == "other"
    assert "whether it took effect is not known" in answer[1]


def test_an_interrupted_step_is_unknown_with_other_arguments_too(make_world: Make) -> None:
    world = make_world()

    async def pay(at: float) -> float:
        world.does("pay")
        await asyncio.sleep(10)
        return at

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await ctx.step.options(at_most_once=True)("pay", pay, asyncio.get_running_loop().time())
        except StepUnknown:
            return "unknown"
        return "paid"

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    assert world.live(drive, crash=Crash(3, after=False)) is DIED
    assert world.live(drive) == "unknown"
    assert world.effects == ["pay"]


@pytest.mark.parametrize("label", ["other", "begun"])
def test_a_handler_that_never_rests_learns_that_a_step_is_unknown(
    make_world: Make, label: str
) -> None:
    """Whoever comes later with what had begun must not run it, in this process or the next."""
    world = make_world()
    labels = iter(["begun", label, label])

    async def pay(label: str) -> str:
        world.does(label)
        await asyncio.sleep(10)
        return label

    async def tick() -> None:
        while True:  # noqa: ASYNC110 - it waits for nothing
            await asyncio.sleep(0.1)

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        ticking = asyncio.create_task(tick())
        step, outcomes = ctx.step.options(at_most_once=True), list[str]()
        for argument in (next(labels), "begun"):
            try:
                outcomes.append(await step("pay", pay, argument))
            except StepUnknown:
                outcomes.append("unknown")
        ticking.cancel()
        return outcomes

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    assert world.live(drive, crash=Crash(3, after=False)) is DIED
    if label == "other":  # once more, when the first is known to be unknown
        assert world.live(drive, crash=Crash(3, after=False)) is DIED
    answer = world.live(drive)

    assert answer == (["unknown", "unknown"] if label == "other" else ["unknown", "begun"])
    assert world.effects == (["begun"] if label == "other" else ["begun", "begun"])


async def test_a_step_that_may_run_once_is_unknown_when_it_takes_too_long(
    app: App, machine: Machine
) -> None:
    async def pay() -> None:
        await asyncio.sleep(60)

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        once = ctx.step.options(at_most_once=True, timeout=timedelta(seconds=1))
        try:
            await once("pay", pay)
        except StepUnknown as error:
            return repr(error.__cause__)
        return "paid"

    result = await handler.run(None, id="r")

    assert result.output == "TimeoutError(\"the step 'pay' took longer than 0:00:01\")"
    [checkpoint] = run_of(machine.store, "r").checkpoints.values()
    assert checkpoint.event.always


async def test_a_failure_of_a_step_that_may_run_once_is_final(app: App) -> None:
    calls: list[int] = []

    async def pay(attempt: int) -> None:
        calls.append(attempt)
        raise OSError("no")

    @task(retry=RetryPolicy(3, initial_delay=timedelta(0)))
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.step.options(at_most_once=True)("pay", pay, ctx.attempt)

    with pytest.raises(TaskFailed, match="OSError: no"):
        await handler.run(None)

    assert calls == [0]


async def test_a_step_that_may_run_once_takes_no_retry(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        ctx.step.options(at_most_once=True, retry=RetryPolicy(2))

    with pytest.raises(TaskFailed, match="it takes no retry"):
        await handler.run(None)


@pytest.mark.parametrize(
    "options", [{"timeout": timedelta(0)}, {"key": ""}, {"key": "x" * 201}], ids=str
)
async def test_settings_of_a_step_that_are_out_of_range_are_refused(
    app: App, options: dict[str, Any]
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        ctx.step.options(**options)

    with pytest.raises(TaskFailed, match="UsageError"):
        await handler.run(None)
