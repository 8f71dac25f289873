"""What a run emits: accepted once, in one order, and read live or late from any offset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from outlast import (
    App,
    CodecError,
    Retracted,
    RetryPolicy,
    StreamItem,
    TaskContext,
    TaskFailed,
    TaskNotFound,
    TaskRun,
    UsageError,
    task,
)
from outlast.engine.client import _PAGE
from outlast.engine.emission import MAX_BUFFERED
from outlast.journal import Change
from outlast.model.events import Signalled, encode
from outlast.testing import FakeClock, SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.world import DIED, Crash, World, head_of, types_of

loop_factory = SkippingLoop

Make = Callable[[], World]


async def items_of(run: TaskRun[Any], after: int = 0) -> list[StreamItem | Retracted]:
    return [item async for item in run.stream(after)]


async def test_items_have_consecutive_offsets_and_the_name_of_their_step(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        async def speak() -> None:
            await ctx.emit("inside")

        await ctx.emit({"a": 1})
        await ctx.step("speak", speak)
        await ctx.step("speak", speak)
        await ctx.emit(None)

    run = await handler.start(None)

    assert await items_of(run) == [
        StreamItem(1, {"a": 1}, 1, None),
        StreamItem(2, "inside", 1, "speak"),
        StreamItem(3, "inside", 1, "speak#2"),
        StreamItem(4, None, 1, None),
    ]


async def test_an_item_is_accepted_within_50_ms(app: App, clock: FakeClock) -> None:
    emitted: list[float] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        for number in range(3):
            emitted.append(clock.wall())
            await ctx.emit(number)
            await asyncio.sleep(0.02)
        await asyncio.sleep(60)

    run = await handler.start(None)
    seen = [clock.wall() - emitted[item.offset - 1] async for item in run.stream()]

    assert len(seen) == 3
    assert max(seen) < 0.051


async def test_what_is_recorded_carries_the_items_before_it(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.emit(1)
        await ctx.step("a", abs, 1)
        await ctx.emit(2)
        await ctx.sleep("b", timedelta(0))
        await ctx.emit(3)

    await handler.run(None, id="r")

    assert types_of(machine.store, "r") == [
        "created",
        "turn_began",
        "emitted",
        "checkpointed",
        "emitted",
        "timer_set",
        "checkpointed",
        "emitted",
        "ended",
    ]


async def test_items_are_not_lost_where_a_signal_comes_before_the_end(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.emit("last")

    async def signal_first(verb: str, argument: Any) -> None:
        if verb == "commit" and any(
            draft.type == "ended" for change in argument for draft in change.entries
        ):
            machine.wire.before = nothing
            fact = Change(key="run/r", id="s", entries=(encode(Signalled("go", 7)),), fact=True)
            await machine.store.commit(fact)

    nothing, machine.wire.before = machine.wire.before, signal_first
    async with machine.open() as app:
        run = await handler.options(app=app).start(None, id="r")
        await run.result()

        assert [item.offset for item in await items_of(run)] == [1]
    ended = ["created", "turn_began", "signalled", "emitted", "ended"]
    assert types_of(machine.store, "r") == ended


async def test_a_value_that_is_no_json_is_refused_with_its_place(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> str:
        try:
            await ctx.emit({"x": object()})
        except CodecError as error:
            return error.path
        return "?"

    assert "x" in (await handler.run(None)).output


async def test_a_flood_of_items_waits_until_they_are_written(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> int:
        most = 0
        begun = head_of(machine.store, "r").revision
        for number in range(MAX_BUFFERED * 3):
            await ctx.emit(number)
            written = head_of(machine.store, "r").revision - begun
            most = max(most, number + 1 - written)
        return most

    result = await handler.run(None, id="r")

    assert result.output == MAX_BUFFERED


# Readers


@pytest.mark.parametrize("after", range(7))
async def test_a_late_reader_goes_on_after_any_offset(app: App, after: int) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        for number in range(1, 6):
            await ctx.emit(number)

    run = await handler.start(None)
    await run.result()

    items = await items_of(run, after)
    assert [item.offset for item in items] == list(range(after + 1, 6))


@pytest.mark.parametrize("after", range(7))
async def test_a_live_reader_goes_on_after_any_offset(app: App, after: int) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        for number in range(1, 6):
            await ctx.emit(number)
            await ctx.sleep("a while", timedelta(seconds=1))

    run = await handler.start(None)
    await asyncio.sleep(2.5)

    items = await items_of(run, after)
    assert [item.offset for item in items] == list(range(after + 1, 6))


async def test_every_reader_gets_every_item_page_by_page(app: App) -> None:
    last = 3 * _PAGE

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        for number in range(last):
            await ctx.emit(number)
            if number % 400 == 399:
                await ctx.sleep("a while", timedelta(seconds=1))

    run = await handler.start(None)
    afters = (0, 0, 2, _PAGE - 1, _PAGE, last - 1)
    readers = await asyncio.gather(*(items_of(run, after) for after in afters))

    offsets = [[item.offset for item in items] for items in readers]
    assert offsets == [list(range(after + 1, last + 1)) for after in afters]


async def test_items_that_come_while_a_reader_looks_for_its_offset_are_not_missed(
    machine: Machine,
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        for number in range(20):
            await ctx.emit(number)
            await ctx.sleep("a moment", timedelta(milliseconds=10))

    async def slowly(verb: str, argument: Any) -> None:
        if verb == "read":
            await asyncio.sleep(0.05)

    async with machine.open(store=None), machine.open(worker=False) as client:
        run = await handler.options(app=client).start(None, id="r")
        await asyncio.sleep(0.1)
        machine.wire.before = slowly
        items = await items_of(run, 2)

    assert [item.offset for item in items] == list(range(3, 21))


async def test_a_stream_ends_with_its_run_however_that_ends(app: App) -> None:
    @task
    async def fails(ctx: TaskContext[None]) -> None:
        await ctx.emit(1)
        raise OSError("no")

    @task
    async def waits(ctx: TaskContext[None]) -> None:
        await ctx.emit(1)
        await ctx.wait("never")

    aborted = await waits.start(None)
    reading = asyncio.ensure_future(items_of(aborted))
    await asyncio.sleep(1)
    await aborted.abort()

    assert len(await reading) == 1
    assert len(await items_of(await fails.start(None))) == 1


async def test_no_offset_is_less_than_nothing(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        """Emit nothing."""

    run = await handler.start(None)
    with pytest.raises(UsageError, match="an offset is 0 or more"):
        await items_of(run, -1)
    assert await items_of(run) == []
    assert await items_of(run, 3) == []


async def test_the_stream_of_a_deleted_run_is_not_found(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        """Emit nothing."""

    run = await handler.start(None, id="r")
    await run.result()
    await asyncio.sleep(0)
    await machine.store.delete("run/r", expect=3)

    for after in (0, 1):
        with pytest.raises(TaskNotFound):
            await items_of(run, after)


# Replay


@pytest.mark.parametrize("write", range(2, 8))
def test_a_replay_emits_nothing_twice(write: int, make_world: Make) -> None:
    world = make_world()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        for number in range(6):
            await ctx.emit(number)
            if number % 2:
                await ctx.step("a", abs, number)
            else:
                await asyncio.sleep(0.06)

    async def drive(app: App) -> list[Any]:
        run = await handler.options(app=app).start(None, id="r")
        return [(item.offset, item.value) async for item in run.stream()]  # type: ignore[union-attr]

    assert world.live(drive, crash=Crash(write, after=True)) is DIED
    assert world.live(drive) == [(number + 1, number) for number in range(6)]


@pytest.mark.parametrize("write", range(2, 8))
def test_items_of_tasks_side_by_side_are_told_apart_by_their_values(
    write: int, make_world: Make
) -> None:
    world = make_world()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        async def speak(label: str, pause: float) -> None:
            for word in ("one", "two", "two"):
                await asyncio.sleep(pause)
                await ctx.emit(f"{label} {word}")

        # Another order each time.
        pauses = [0.3, 0.5] if ctx.entry_mode == "fresh" else [0.5, 0.3]
        await asyncio.gather(speak("a", pauses[0]), speak("b", pauses[1]))

    async def drive(app: App) -> list[Any]:
        run = await handler.options(app=app).start(None, id="r")
        return sorted([item.value async for item in run.stream()])  # type: ignore[union-attr]

    assert world.live(drive, crash=Crash(write, after=True)) is DIED
    assert world.live(drive) == ["a one", "a two", "a two", "b one", "b two", "b two"]


def test_tasks_side_by_side_wait_until_what_was_accepted_is_counted(make_world: Make) -> None:
    world = make_world()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await asyncio.gather(*(ctx.emit(label) for label in "abc"))
        await ctx.sleep("a while", timedelta(seconds=60))

    async def drive(app: App) -> list[Any]:
        async def slowly(verb: str, argument: Any) -> None:
            await before(verb, argument)  # type: ignore[arg-type]
            await asyncio.sleep(0.01)

        before = world.process.store.before
        world.process.store.before = slowly
        run = await handler.options(app=app).start(None, id="r")
        return sorted([item.value async for item in run.stream()])  # type: ignore[union-attr]

    assert world.live(drive, crash=Crash(2, after=True)) is DIED
    assert world.live(drive) == ["a", "b", "c"]


def test_equal_items_of_tasks_side_by_side_are_all_accepted_after_a_crash(
    make_world: Make,
) -> None:
    world = make_world()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        async def speak() -> None:
            for _ in range(3):
                await ctx.emit("again")
                await asyncio.sleep(0.1)

        await ctx.step("first", abs, 1)
        await asyncio.gather(speak(), speak())

    async def drive(app: App) -> int:
        run = await handler.options(app=app).start(None, id="r")
        return len(await items_of(run))

    assert world.live(drive, crash=Crash(2, after=True)) is DIED
    assert world.live(drive) == 6


async def test_a_step_that_is_tried_again_takes_back_what_it_emitted(app: App) -> None:
    tries: list[int] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        async def speak() -> None:
            tries.append(len(tries))
            await ctx.emit(f"try {len(tries)}")
            if len(tries) < 3:
                raise OSError("no")

        await ctx.emit("before")
        policy = RetryPolicy(3, initial_delay=timedelta(seconds=1), jitter=False)
        await ctx.step.options(retry=policy)("speak", speak)

    run = await handler.start(None)

    assert await items_of(run) == [
        StreamItem(1, "before", 1, None),
        StreamItem(2, "try 1", 1, "speak"),
        Retracted(3, 1, 1, "speak"),
        StreamItem(4, "try 2", 1, "speak"),
        Retracted(5, 3, 1, "speak"),
        StreamItem(6, "try 3", 1, "speak"),
    ]


def test_a_step_that_was_interrupted_takes_back_what_it_emitted(make_world: Make) -> None:
    world = make_world()

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        async def speak() -> None:
            await ctx.emit("a")
            await asyncio.sleep(1)
            await ctx.emit("b")

        await ctx.step("speak", speak)

    async def drive(app: App) -> list[Any]:
        return await items_of(await handler.options(app=app).start(None, id="r"))

    assert world.live(drive, crash=Crash(2, after=True)) is DIED
    assert world.live(drive) == [
        StreamItem(1, "a", 1, "speak"),
        Retracted(2, 0, 1, "speak"),
        StreamItem(3, "a", 1, "speak"),
        StreamItem(4, "b", 1, "speak"),
    ]


async def test_a_failed_step_takes_back_what_it_emitted_in_the_next_attempt(app: App) -> None:
    @task(retry=RetryPolicy(2, initial_delay=timedelta(seconds=1)))
    async def handler(ctx: TaskContext[None]) -> None:
        async def speak() -> None:
            await ctx.emit(ctx.attempt)
            if ctx.attempt == 0:
                raise OSError("no")

        await ctx.step("speak", speak)

    run = await handler.start(None)

    assert [type(item).__name__ for item in await items_of(run)] == [
        "StreamItem",
        "Retracted",
        "StreamItem",
    ]


async def test_a_handler_that_was_stopped_emits_nothing_more(machine: Machine) -> None:
    swallowed: list[BaseException] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.emit("before")
        beside = asyncio.ensure_future(asyncio.sleep(60))  # so it waits in memory
        while len(swallowed) < 5:
            try:
                await ctx.sleep("a while", timedelta(seconds=10))
            except BaseException as error:  # noqa: BLE001 - it swallows everything
                swallowed.append(error)
            try:
                await ctx.emit("after")
            except BaseException as error:  # noqa: BLE001 - it swallows everything
                swallowed.append(error)
        assert beside.done()

    async with machine.open():
        run = await handler.start(None)
        await asyncio.sleep(1)
        await run.abort()

    assert [item.offset for item in await _read(machine, run.id)] == [1]
    assert [type(error).__name__ for error in swallowed] == ["CancelledError"] + ["Unwound"] * 5


async def _read(machine: Machine, id: str) -> list[StreamItem | Retracted]:
    async with machine.open(worker=False) as app:
        return await items_of(await app.runs.get(id))


async def test_history_gives_every_entry(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[int]) -> int:
        await ctx.emit("x")
        return await ctx.step("a", abs, ctx.input)

    run = await handler.start(-3)
    await run.result()

    entries = [entry async for entry in run.history()]
    assert [entry.type for entry in entries] == [
        "created",
        "turn_began",
        "emitted",
        "checkpointed",
        "ended",
    ]
    assert [entry.revision for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[3].data["value"] == 3
    assert entries[0].at.tzinfo is not None
    assert [entry.revision async for entry in run.history(after=3)] == [4, 5]


@pytest.mark.parametrize("length", [_PAGE - 1, _PAGE, 2 * _PAGE, 2 * _PAGE + 1])
async def test_history_gives_every_entry_page_by_page(app: App, length: int) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        for number in range(length - 3):
            await ctx.emit(number)

    run = await handler.start(None)
    await run.result()

    assert [entry.revision async for entry in run.history()] == [*range(1, length + 1)]


async def test_an_error_of_the_handler_does_not_hide_what_it_emitted(app: App) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        await ctx.emit("last words")
        raise OSError("no")

    run = await handler.start(None)

    with pytest.raises(TaskFailed):
        await run.result()
    assert await items_of(run) == [StreamItem(1, "last words", 1, None)]
