"""With what a run may be started, and where: arguments, delays, queues, priorities, retries."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from outlast import App, RetryPolicy, TaskContext, TaskFailed, UsageError, task
from outlast.testing import FakeClock, SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.tasks import echo, patient
from tests.engine.world import Wire, types_of

loop_factory = SkippingLoop

MINUTE = timedelta(minutes=1)


# Arguments


@pytest.mark.parametrize("id", ["", "x" * 201, 7])
async def test_what_is_no_id_is_refused(app: App, id: Any) -> None:
    with pytest.raises(UsageError, match="an id is a str of 1 to 200 characters"):
        await echo.start(1, id=id)
    with pytest.raises(UsageError):
        await app.runs.get(id)


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_id": ""},
        {"session_id": "x" * 201},
        {"delay": timedelta(seconds=-1)},
        {"delay": 1},
        {"tags": {"outlast.x": "1"}},
        {"tags": {"": "1"}},
        {"tags": {"a": 1}},
        {"tags": {"a": "x" * 257}},
        {"tags": {str(number): "x" for number in range(33)}},
        {"tags": {str(number): "x" * 200 for number in range(11)}},
    ],
    ids=str,
)
async def test_an_argument_out_of_range_is_refused(app: App, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        await echo.start(1, **arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"title": "x" * 201},
        {"title": lambda input, id: 7},
        {"description": "x" * 4097},
        {"source": "x" * 257},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_a_label_out_of_range_is_refused(app: App, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        await echo.options(**options).start(1)


async def test_labels_are_texts_or_functions_of_input_and_id(app: App) -> None:
    @task(
        title=lambda input, id: f"{id}: {input}",
        description="what it does",
        source="tests",
        tags=lambda input, id: {"input": str(input), "a": "task"},
    )
    async def handler(ctx: TaskContext[int]) -> list[Any]:
        return [dict(ctx.tags), ctx.session_id, ctx.name, ctx.turn, ctx.token, ctx.input_id]

    run = await handler.start(7, id="r", tags={"a": "start"}, session_id="s", input_id="i")
    output = (await run.result()).output

    assert (run.title, run.source, run.session_id) == ("r: 7", "tests", "s")
    assert run.tags == {"input": "7", "a": "start"}
    assert output[:2] == [run.tags, "s"]
    assert output[3:] == [1, 1, "i"]


async def test_an_option_of_zero_replaces_that_of_the_task(app: App, machine: Machine) -> None:
    @task(priority=5)
    async def handler(ctx: TaskContext[None]) -> None:
        """Do nothing."""

    run = await handler.options(priority=0).start(None)

    head = (await machine.store.read(f"run/{run.id}")).head
    assert head is not None
    assert head.card.priority == 0


async def test_the_error_of_a_label_reaches_the_caller(app: App, machine: Machine) -> None:
    def title(input: Any, id: str) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await echo.options(title=title).start(1)
    assert not machine.store._heads


@pytest.mark.parametrize(
    "options",
    [
        {"queue": ""},
        {"priority": "high"},
        {"retry": 3},
        {"retry": RetryPolicy(2, retry_on=(OSError,))},
        {"retry": RetryPolicy(2, backoff=lambda retry: MINUTE)},
    ],
    ids=["queue", "priority", "number", "classes", "function"],
)
def test_an_option_that_cannot_be_stored_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        echo.options(**options)


@pytest.mark.parametrize(
    "settings",
    [
        {"queue": ""},
        {"name": ""},
        {"name": "x" * 201},
        {"max_recoveries": 0},
        {"priority": "high"},
        {"retry": 3},
        {"errors": OSError},
        {"errors": ["OSError"]},
    ],
    ids=str,
)
def test_a_setting_of_a_task_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):

        @task(**settings)
        async def handler(ctx: TaskContext[None]) -> None:
            """Never run."""


# Delays, queues, priorities, retries


async def test_a_delayed_run_begins_when_it_is_due(app: App, clock: FakeClock) -> None:
    before = clock.wall()
    result = await echo.run(7, delay=MINUTE)

    assert result.output == 7
    assert clock.wall() - before == pytest.approx(60, abs=0.1)


async def test_a_signal_to_a_delayed_run_does_not_begin_it(
    app: App, machine: Machine, clock: FakeClock
) -> None:
    before = clock.wall()
    run = await patient.start(1, id="r", delay=MINUTE)
    await run.signal("go", 2)
    await asyncio.sleep(1)
    assert types_of(machine.store, "r") == ["created", "signalled"]

    assert (await run.result()).output == [1, 2]
    assert clock.wall() - before == pytest.approx(60, abs=0.1)


async def test_a_worker_takes_runs_of_its_queues_only(machine: Machine) -> None:
    async with machine.open(queues=["a"]) as one:
        run = await echo.options(app=one, queue="b").start(7)
        await asyncio.sleep(10)
        assert (await run.refresh()).status == "pending"
        async with machine.open(queues=["b", "c"], store=Wire(machine.store)):
            assert (await run.result()).output == 7


async def test_a_worker_takes_larger_priorities_first(machine: Machine) -> None:
    order: list[int] = []

    @task
    async def handler(ctx: TaskContext[int]) -> None:
        order.append(ctx.input)

    async with machine.open(worker=False) as client:
        for priority in (0, 5, -5, 9):
            await handler.options(app=client, priority=priority).start(priority)
    async with machine.open(concurrency=1):
        await asyncio.sleep(10)

    assert order == [9, 5, 0, -5]


async def test_a_retry_policy_given_at_the_start_holds_wherever_the_run_runs(
    machine: Machine, clock: FakeClock
) -> None:
    times: list[float] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        times.append(clock.wall())
        raise OSError("no")

    policy = RetryPolicy(
        3, initial_delay=timedelta(seconds=4), backoff=2.0, jitter=False, max_delay=MINUTE
    )
    async with machine.open(worker=False) as client, machine.open(store=Wire(machine.store)):
        run = await handler.options(app=client, retry=policy).start(None)
        with pytest.raises(TaskFailed, match="failed after 3 attempts"):
            await run.result()

    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == [pytest.approx(4, abs=0.1), pytest.approx(8, abs=0.1)]


async def test_a_place_is_freed_by_a_run_that_waits_for_its_next_attempt(
    machine: Machine,
) -> None:
    @task(retry=RetryPolicy(2, initial_delay=MINUTE, jitter=False))
    async def fails(ctx: TaskContext[None]) -> None:
        raise OSError("no")

    async with machine.open(concurrency=1):
        failing = await fails.start(None)
        await asyncio.sleep(1)
        assert (await echo.run(7)).output == 7
        await failing.cancel()


# Inside a handler


async def test_a_run_started_in_a_handler_needs_an_id_or_a_step(app: App) -> None:
    @task
    async def parent(ctx: TaskContext[None]) -> list[Any]:
        try:
            await echo.start(1)
        except UsageError as error:
            refused = "would start another run" in str(error)
        with_id = await echo.run(2, id="child")

        async def start() -> int:
            value: int = (await echo.run(3)).output
            return value

        return [refused, with_id.output, await ctx.step("start", start)]

    assert (await parent.run(None)).output == [True, 2, 3]


async def test_inside_a_handler_the_app_is_its_own(machine: Machine) -> None:
    @task
    async def parent(ctx: TaskContext[None]) -> Any:
        return [ctx.resources, (await echo.run(2, id="child")).output]

    async with (
        machine.open(resources="mine", queues=["a"]) as one,
        machine.open(resources="other", queues=["b", "default"], store=Wire(machine.store)),
    ):
        result = await parent.options(app=one, queue="a").run(None)

    assert result.output == ["mine", 2]
