"""Steps that fail: what they raise, how often they are tried, and how long they may take."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from outlast import (
    App,
    CodecError,
    RetryPolicy,
    StepFailed,
    TaskContext,
    TaskFailed,
    UsageError,
    task,
)
from outlast.testing import SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.world import World, twice, types_of

loop_factory = SkippingLoop

Make = Callable[[], World]


# Errors


class OwnError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class ForeignError(Exception):
    pass


async def fails_with(error: str) -> None:
    match error:
        case "builtin":
            raise KeyError("gone")
        case "ours":
            raise UsageError("not like that")
        case "own":
            raise OwnError(7)
        case _:
            raise ForeignError("from elsewhere")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("builtin", (KeyError, "'gone'")),
        ("ours", (UsageError, "not like that")),
        ("own", (OwnError, "code 7")),
        ("foreign", (StepFailed, "tests.engine.test_tries.ForeignError: from elsewhere")),
    ],
)
def test_an_error_is_the_same_live_and_on_replay(
    kind: str, expected: tuple[type[Exception], str], make_world: Make
) -> None:
    world = make_world()
    caught: list[Exception] = []

    @task(errors=[OwnError])
    async def handler(ctx: TaskContext[None]) -> None:
        try:
            await ctx.step("fails", fails_with, kind)
        except Exception as error:  # noqa: BLE001
            caught.append(error)
        await ctx.step("go on", abs, 1)

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    twice(world, drive, write=3)

    assert len(caught) == 2
    assert [(type(error), str(error)) for error in caught] == [expected, expected]
    if kind == "own":
        assert [vars(error) for error in caught] == [{"code": 7}, {"code": 7}]


def test_a_result_that_cannot_be_encoded_is_an_error_for_ever(make_world: Make) -> None:
    world = make_world()

    async def opaque() -> Any:
        world.does("opaque")
        return object()

    @task(retry=RetryPolicy(2, initial_delay=timedelta(0)))
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await ctx.step("opaque", opaque)
        except CodecError as error:
            if ctx.attempt == 0:
                raise OSError("again") from error
            return type(error).__name__
        return "no error"

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    assert world.live(drive) == "CodecError"
    assert world.effects == ["opaque"]


def test_a_failure_is_read_again_only_within_its_attempt(make_world: Make) -> None:
    world = make_world()

    async def fails() -> None:
        world.does("fails")
        raise OSError("no")

    @task(retry=RetryPolicy(2, initial_delay=timedelta(0)))
    async def handler(ctx: TaskContext[None]) -> None:
        try:
            await ctx.step("fails", fails)
        finally:
            await ctx.step("note", abs, 1)

    async def drive(app: App) -> Any:
        run = await handler.options(app=app).start(None, id="r")
        with pytest.raises(TaskFailed) as caught:
            await run.result()
        return caught.value.error.attempts

    # Once in each attempt, and not again after the crash between the failure and the note.
    assert twice(world, drive, write=2) == 2
    assert world.effects == ["fails", "fails"]


async def test_a_system_exit_in_a_step_fails_the_step_not_the_worker(app: App) -> None:
    async def leaves() -> None:
        raise SystemExit(3)

    @task
    async def handler(ctx: TaskContext[None]) -> list[str]:
        errors = await asyncio.gather(
            ctx.step("leaves", leaves), ctx.step("exit", exit, 4), return_exceptions=True
        )
        return [repr(error) for error in errors]

    result = await handler.run(None)

    assert result.output == [
        "RuntimeError(\"the step 'leaves' raised SystemExit(3)\")",
        "RuntimeError(\"the step 'exit' raised SystemExit(4)\")",
    ]


# Tries and timeouts


def test_tries_are_counted_over_a_crash(make_world: Make) -> None:
    world = make_world()

    async def fails() -> None:
        world.does("try")
        raise OSError("no")

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        patient = ctx.step.options(retry=RetryPolicy(4, initial_delay=timedelta(seconds=1)))
        try:
            await patient("fails", fails)
        except OSError as error:
            return str(error)
        return "?"

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    assert twice(world, drive, write=3) == "no"  # after the second try was recorded
    assert world.effects == ["try"] * 4


def test_attempts_are_counted_over_a_crash(make_world: Make) -> None:
    world = make_world()

    @task(retry=RetryPolicy(2))
    async def handler(ctx: TaskContext[None]) -> None:
        world.does(ctx.attempt)
        await ctx.step(f"attempt {ctx.attempt}", abs, 1)
        raise OSError("no")

    async def drive(app: App) -> Any:
        run = await handler.options(app=app).start(None, id="r")
        with pytest.raises(TaskFailed) as failed:
            await run.result()
        return failed.value.error.attempts

    assert twice(world, drive, write=5) == 2  # in the middle of the second attempt
    assert world.effects == [0, 1, 1]


def test_the_wait_between_two_tries_goes_on_after_a_crash(make_world: Make) -> None:
    world = make_world()
    times: list[float] = []

    async def fails() -> str:
        if world.is_heard:
            times.append(world.clock.wall())
        if len(times) == 1:
            raise OSError("no")
        return "done"

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        policy = RetryPolicy(
            2, initial_delay=timedelta(minutes=1), max_delay=timedelta(hours=1), jitter=False
        )
        return await ctx.step.options(retry=policy)("fails", fails)

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    assert twice(world, drive, write=2) == "done"
    assert times[1] - times[0] == pytest.approx(60, abs=0.1)


async def test_only_errors_of_the_policy_are_tried_again(app: App) -> None:
    calls: list[str] = []

    async def fails(kind: str) -> None:
        calls.append(kind)
        await fails_with(kind)

    @task
    async def handler(ctx: TaskContext[str]) -> None:
        policy = RetryPolicy(3, initial_delay=timedelta(0), retry_on=(KeyError,))
        await ctx.step.options(retry=policy)("fails", fails, ctx.input)

    for kind in ("builtin", "own"):
        with pytest.raises(TaskFailed):
            await handler.run(kind)

    assert calls == ["builtin"] * 3 + ["own"]


async def test_a_step_that_takes_too_long_raises_a_timeout_error(app: App) -> None:
    tries: list[bool] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            tries.append(True)
            raise

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        options = ctx.step.options(
            timeout=timedelta(seconds=2), retry=RetryPolicy(2, initial_delay=timedelta(0))
        )
        try:
            await options("slow", slow)
        except TimeoutError as error:
            return str(error)
        return "?"

    assert (await handler.run(None)).output == "the step 'slow' took longer than 0:00:02"
    assert len(tries) == 2


async def test_a_timeout_error_of_the_function_is_its_own(app: App) -> None:
    async def impatient() -> None:
        raise TimeoutError("mine")

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await ctx.step.options(timeout=timedelta(seconds=2))("impatient", impatient)
        except TimeoutError as error:
            return str(error)
        return "?"

    assert (await handler.run(None)).output == "mine"


async def test_a_thread_that_takes_too_long_is_abandoned(app: App, machine: Machine) -> None:
    door = threading.Event()

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await ctx.step.options(timeout=timedelta(seconds=1))("wait", door.wait)
        except TimeoutError:
            return "too long"
        return "?"

    try:
        assert (await handler.run(None, id="r")).output == "too long"
        assert types_of(machine.store, "r")[-1] == "ended"
    finally:
        door.set()
