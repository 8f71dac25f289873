"""Steps: they run once, and what is recorded of them comes back as it was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from outlast import (
    App,
    CodecError,
    InputTooLarge,
    RetryPolicy,
    StepFailed,
    StepUnknown,
    TaskContext,
    TaskFailed,
    UsageError,
    sync,
    task,
)
from outlast.model.decisions import MAX_CHECKPOINTS
from outlast.model.events import Checkpointed, Created, TurnBegan
from outlast.testing import SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.world import DIED, Crash, World, put, run_of, types_of

loop_factory = SkippingLoop

Make = Callable[[], World]


def twice(world: World, drive: Callable[[App], Any], *, write: int) -> Any:
    """Drive a run whose process dies after the write of this number, then once more to its end."""
    assert world.live(drive, crash=Crash(write, after=True)) is DIED
    return world.live(drive)


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


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    name: str
    when: datetime


@dataclass
class Data:
    amount: Decimal
    parts: tuple[int, ...]


MOMENT = datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC)


def a_model() -> Model:
    return Model(name="x", when=MOMENT)


def a_dataclass() -> Data:
    return Data(Decimal("1.10"), (1, 2))


def a_moment() -> datetime:
    return MOMENT


def a_date() -> date:
    return date(2024, 5, 6)


def a_time() -> time:
    return time(7, 8, 9)


def a_duration() -> timedelta:
    return timedelta(days=1, microseconds=1)


def an_id() -> UUID:
    return UUID(int=7)


def a_decimal() -> Decimal:
    return Decimal("1.10")


def some_bytes() -> bytes:
    return b"\x00\xff"


def an_enum() -> Colour:
    return Colour.RED


def a_set() -> set[int]:
    return {3, 1, 2}


def a_frozenset() -> frozenset[str]:
    return frozenset({"a", "b"})


def a_tuple() -> tuple[int, str]:
    return (1, "a")


def a_dict() -> dict[str, list[Model]]:
    return {"a": [a_model()]}


def nothing() -> None:
    return None


def infinity() -> float:
    return float("inf")


VALUES: list[Callable[[], Any]] = [
    a_model,
    a_dataclass,
    a_moment,
    a_date,
    a_time,
    a_duration,
    an_id,
    a_decimal,
    some_bytes,
    an_enum,
    a_set,
    a_frozenset,
    a_tuple,
    a_dict,
    nothing,
    infinity,
]


@pytest.mark.parametrize("make", VALUES, ids=lambda make: make.__name__)
def test_a_result_has_its_type_after_a_recovery(make: Callable[[], Any], make_world: Make) -> None:
    world = make_world()
    seen: list[Any] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        value = await ctx.step("make", make)
        if world.is_heard:
            seen.append(value)
        await ctx.step("go on", abs, 1)

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    twice(world, drive, write=2)

    assert seen == [make()]
    assert type(seen[0]) is type(make())


async def test_an_input_that_cannot_be_encoded_stores_nothing(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[Any]) -> None:
        """Never run."""

    with pytest.raises(CodecError):
        await handler.start({"x": object()}, id="r")

    assert not machine.store._heads


async def test_a_payload_that_is_too_large_is_refused(machine: Machine) -> None:
    async def make(size: int) -> str:
        return "x" * size

    @task
    async def handler(ctx: TaskContext[int]) -> str:
        if ctx.input < 0:
            return "x" * -ctx.input
        return str(len(await ctx.step("make", make, ctx.input)))

    @task
    async def big(ctx: TaskContext[str]) -> None:
        await ctx.emit("x" * 49)

    async with machine.open(max_payload=50):  # as JSON: a text has two quotation marks
        assert (await handler.run(48)).output == "48"
        with pytest.raises(TaskFailed, match="InputTooLarge"):
            await handler.run(49)
        assert len((await handler.run(-48)).output) == 48
        with pytest.raises(TaskFailed, match="InputTooLarge"):
            await handler.run(-49)
        with pytest.raises(TaskFailed, match="InputTooLarge"):
            await big.run("small")
        with pytest.raises(InputTooLarge):
            await big.start("x" * 49)
        run = await big.start("small", delay=timedelta(days=1))
        with pytest.raises(InputTooLarge):
            await run.signal("go", "x" * 49)


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
        ("foreign", (StepFailed, "tests.engine.test_steps.ForeignError: from elsewhere")),
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


# At most once


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
