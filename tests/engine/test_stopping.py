"""How a turn is stopped, and what would not be."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest

from outlast.engine.belongings import Look, glance
from outlast.engine.stopping import ended_by, stop_all
from outlast.errors import Unwound
from tests.engine.handlers import (
    ELSE,
    OWN,
    a_group_with_a_task_of_somebody_else,
    gathered,
    gathered_with_errors_as_values,
    gathers_in_a_gather,
    grouped,
    one,
    shielded,
    task_in_the_background,
    until,
)
from tests.engine.turns import Handler, Turn, named, observed, play

pytestmark = pytest.mark.usefixtures("quick_collections")


in_both_ways = pytest.mark.parametrize("error", [None, Unwound()], ids=["cancelled", "unwound"])


async def until_outside(turn: Turn) -> str:
    return await until(turn.outside)


def stopped(
    turn: Turn, handler: Handler, error: BaseException | None = None, grace: float = 5
) -> asyncio.Task[Any]:
    """Stop a handler once it rests, so that nothing of it is left; return its own task."""

    async def scenario() -> asyncio.Task[Any]:
        root = turn.begin(handler)
        await turn.rest()
        assert not await turn.stop(error, grace)
        return root

    return play(turn, scenario)


@pytest.mark.parametrize("handler", [*OWN, *ELSE], ids=named)
def test_a_turn_is_cancelled(turn: Turn, handler: Handler) -> None:
    async def scenario() -> None:
        seen: list[BaseException] = []
        root = turn.begin(observed(handler, seen))
        await turn.rest()

        assert await turn.stop() == []

        assert root.cancelled() or handler in {gathered_with_errors_as_values, gathers_in_a_gather}
        assert not Look(turn.loop).of(turn.scope).tasks
        if not turn.outside.done():
            turn.outside.set_result("late")

    play(turn, scenario)


@pytest.mark.parametrize("handler", [*OWN, *ELSE], ids=named)
def test_a_turn_is_unwound(turn: Turn, handler: Handler) -> None:
    async def scenario() -> None:
        seen: list[BaseException] = []
        root = turn.begin(observed(handler, seen))
        await turn.rest()

        grace = 0.01 if handler is a_group_with_a_task_of_somebody_else else 5
        assert await turn.stop(Unwound(), grace) == []

        assert ended_by(root, Unwound)
        assert len(seen) == 1
        assert not turn.cancelled
        if not turn.outside.done():
            turn.outside.set_result("late")

    play(turn, scenario)


def test_what_is_begun_in_cleaning_up_goes_on(turn: Turn) -> None:
    async def closing(turn: Turn) -> None:
        try:
            await turn.wait("a")
        finally:
            closed.append(await asyncio.gather(*(asyncio.sleep(0.001, name) for name in "ab")))

    closed: list[list[str]] = []

    stopped(turn, closing, Unwound())

    assert closed == [["a", "b"]]


def test_cleaning_up_is_cancelled_after_the_grace(turn: Turn) -> None:
    async def closing_for_ever(turn: Turn) -> None:
        try:
            await turn.wait("a")
        finally:
            await asyncio.create_task(until(turn.outside))

    root = stopped(turn, closing_for_ever, Unwound(), grace=0.01)

    assert root.cancelled()


def test_a_handler_that_swallows_the_error_is_known(turn: Turn) -> None:
    async def suppressing(turn: Turn) -> Any:
        with contextlib.suppress(BaseException):
            await turn.wait("a")

    root = stopped(turn, suppressing, Unwound())

    assert root.done()
    assert not ended_by(root, Unwound)


@in_both_ways
def test_a_handler_that_swallows_once_is_asked_again(
    turn: Turn, error: BaseException | None
) -> None:
    async def stubborn(turn: Turn) -> Any:
        with contextlib.suppress(BaseException):
            await turn.wait("a")
        await turn.outside

    root = stopped(turn, stubborn, error, grace=0.01)

    assert root.cancelled()


@in_both_ways
def test_a_handler_that_swallows_everything_is_given_up(
    turn: Turn, error: BaseException | None
) -> None:
    async def deaf(turn: Turn) -> Any:
        while not enough:
            with contextlib.suppress(BaseException):
                await turn.loop.create_future()
        raise ValueError("nobody hears of it")

    enough: list[bool] = []

    async def scenario() -> None:
        root = turn.begin(deaf)
        await turn.rest()
        turn.waits["a"] = turn.outside

        assert await turn.stop(error, grace=0.001) == [root]
        assert not root.done()

        enough.append(True)
        root.cancel()
        await asyncio.wait({root})

    play(turn, scenario)


def test_a_task_that_is_given_up_may_end_after_all(turn: Turn) -> None:
    async def slow(turn: Turn) -> Any:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await turn.loop.create_future()
        await turn.outside

    async def scenario() -> None:
        root = turn.begin(slow)
        await turn.rest()
        assert await turn.stop(grace=0.001) == [root]

        assert await turn.stop() == []

        assert root.cancelled()

    play(turn, scenario)


def test_a_task_that_is_given_up_may_be_forgotten(turn: Turn) -> None:
    async def deaf(turn: Turn) -> Any:
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await turn.loop.create_future()

    async def scenario() -> None:
        turn.begin(deaf)
        await turn.rest()

        assert len(await turn.stop(grace=0.001)) == 1
        turn.scope.first = None

        gc.collect()
        assert not [*glance(turn.scope).tasks]

    play(turn, scenario)


def test_a_spinning_handler_is_cancelled(turn: Turn) -> None:
    async def spinning(turn: Turn) -> Any:
        while True:  # noqa: ASYNC110 - a handler that never rests
            await asyncio.sleep(0)

    async def scenario() -> None:
        root = turn.begin(spinning)
        other = turn.begin(one)

        assert not await turn.stop(Unwound(), grace=0.01)

        assert root.cancelled()
        assert ended_by(other, Unwound)

    play(turn, scenario)


def test_a_grace_of_nothing_lets_everything_run_once(turn: Turn) -> None:
    root = stopped(turn, grouped, grace=0)

    assert root.cancelled()


def test_an_error_of_its_own_is_logged_as_always(turn: Turn) -> None:
    async def failing(turn: Turn) -> None:
        try:
            await turn.wait("a")
        finally:
            raise ValueError("while tidying up")

    stopped(turn, failing, Unwound())
    turn.scope.first = None
    gc.collect()

    assert [str(said["exception"]) for said in turn.said] == ["while tidying up"]
    turn.said.clear()


def test_who_asks_is_not_stopped(turn: Turn) -> None:
    async def asking(turn: Turn) -> list[asyncio.Task[Any]]:
        task = turn.task("a")
        await asyncio.sleep(0)
        left = await turn.stop()
        assert task.cancelled()
        return left

    async def scenario() -> None:
        assert await turn.begin(asking) == []

    play(turn, scenario)


@in_both_ways
def test_a_turn_that_has_ended_takes_no_time(turn: Turn, error: BaseException | None) -> None:
    async def scenario() -> None:
        stopping = turn.stop(error)

        with pytest.raises(StopIteration) as ended:
            stopping.send(None)

        assert ended.value.value == []

    play(turn, scenario)


@pytest.mark.parametrize("handler", [one, until_outside], ids=named)
@in_both_ways
def test_who_does_one_thing_at_a_time_is_stopped_without_a_look_at_the_loop(
    turn: Turn, handler: Handler, error: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_: object) -> set[asyncio.Task[Any]]:
        raise AssertionError("it goes through all tasks")

    async def scenario() -> None:
        root = turn.begin(handler)
        await turn.rest()

        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "all_tasks", look)
            assert not await turn.stop(error)

        assert root.cancelled() if error is None else ended_by(root, Unwound)

    play(turn, scenario)


@pytest.mark.parametrize("handler", [gathered, grouped, shielded], ids=named)
def test_what_was_seen_at_rest_is_unwound_without_another_look(
    turn: Turn, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_: object) -> set[asyncio.Task[Any]]:
        raise AssertionError("it goes through all tasks")

    async def scenario() -> None:
        root = turn.begin(handler)
        await turn.rest()
        found = Look(turn.loop).of(turn.scope)

        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "all_tasks", look)
            assert not await stop_all(turn.scope, Unwound(), 5, found)

        assert ended_by(root, Unwound)
        assert not turn.cancelled

    play(turn, scenario)


def test_what_has_run_since_it_was_seen_at_rest_is_looked_at_again(turn: Turn) -> None:
    async def scenario() -> None:
        root = turn.begin(task_in_the_background)
        await turn.rest()
        found = Look(turn.loop).of(turn.scope)
        before = found.are_at_rest
        turn.answer("a")
        await turn.rest()

        assert (before, found.are_at_rest) == (True, False)
        assert not await stop_all(turn.scope, Unwound(), 5, found)

        assert ended_by(root, Unwound)

    play(turn, scenario)


def test_turns_that_end_at_the_same_time_look_once(
    turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
        looks.append(loop)
        return all_tasks(loop)

    looks: list[asyncio.AbstractEventLoop] = []
    all_tasks = asyncio.all_tasks
    monkeypatch.setattr(asyncio, "all_tasks", look)

    async def scenario() -> None:
        for _ in range(10):
            assert not await Turn(turn.loop).stop()
        assert len(looks) == 1

        await asyncio.sleep(0)
        assert not await turn.stop()
        assert len(looks) == 2

    play(turn, scenario)


def test_who_looks_with_others_finds_what_is_left(turn: Turn) -> None:
    async def scenario() -> None:
        left = [turn.begin(one)]
        await turn.rest()
        assert not await Turn(turn.loop).stop()
        left.append(turn.begin(lambda turn: turn.wait("b")))

        assert not await turn.stop()

        assert [task.cancelled() for task in left] == [True, True]

    play(turn, scenario)


def test_other_turns_go_on(turn: Turn) -> None:
    async def scenario() -> None:
        other = Turn(turn.loop)
        mine, others = turn.begin(shielded), other.begin(shielded)
        await turn.rest()
        await other.rest()

        await turn.stop()

        assert mine.cancelled()
        other.answer("a")
        assert await others == "<a>"

    play(turn, scenario)
