"""What belongs to a turn, and whether it stirs."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from outlast.engine.belongings import (
    Belongings,
    Look,
    TooSoon,
    can_see,
    glance,
    is_stirring,
    settle,
)
from tests.engine.handlers import gathered, one, until
from tests.engine.turns import NUMBERED, Handler, Turn, named, play

pytestmark = pytest.mark.usefixtures("quick_collections")

# What belongs to a turn


def test_tasks_are_told_apart_by_their_turn(turn: Turn) -> None:
    async def scenario() -> None:
        other = Turn(turn.loop)
        first, second = turn.begin(gathered), other.begin(one)
        await turn.rest()
        await other.rest()

        look = Look(turn.loop)
        mine = [*glance(turn.scope).tasks]

        assert [*look.of(turn.scope).tasks] == mine
        assert first in mine
        assert len(mine) == 3
        assert [*glance(other.scope).tasks] == [second]
        await turn.stop()
        await other.stop()

    play(turn, scenario)


def test_a_turn_that_has_nothing_has_nothing(turn: Turn) -> None:
    async def scenario() -> None:
        assert Look(turn.loop).of(turn.scope) == Belongings({}, (), is_stirring=False)
        assert not [*glance(turn.scope).tasks]

    play(turn, scenario)


@NUMBERED
def test_tasks_come_in_the_order_in_which_they_were_made(turn: Turn) -> None:
    async def many(turn: Turn) -> None:
        made.append(asyncio.current_task())
        made.extend(turn.task(str(number)) for number in range(20))
        await turn.wait("a")

    made: list[asyncio.Task[Any] | None] = []

    async def scenario() -> None:
        turn.begin(many)
        await turn.rest()

        assert [*glance(turn.scope).tasks] == made
        await turn.stop()

    play(turn, scenario)


def test_live_timers_are_found(turn: Turn) -> None:
    async def timers(turn: Turn) -> None:
        turn.loop.call_later(3600, int).cancel()
        made.append(turn.loop.call_later(3600, int))
        await turn.wait("a")

    made: list[asyncio.TimerHandle] = []

    async def scenario() -> None:
        turn.begin(timers)
        foreign = turn.loop.call_later(3600, int)
        await turn.rest()

        assert [*Look(turn.loop).of(turn.scope).timers] == made
        await turn.stop()
        assert Look(turn.loop).of(turn.scope) == Belongings({}, made, is_stirring=False)
        made[0].cancel()
        foreign.cancel()

    play(turn, scenario)


def test_what_this_loop_will_run_is_seen(turn: Turn) -> None:
    async def scenario() -> None:
        assert can_see(turn.loop)

    play(turn, scenario)


def test_a_loop_that_hides_what_it_will_run_is_known_as_such() -> None:
    class Other:
        def time(self) -> float:
            return 0.0

        def call_soon(self, *_: Any, **__: Any) -> asyncio.Handle:
            return asyncio.Handle(int, (), loop)

        def call_later(self, *_: Any, **__: Any) -> asyncio.TimerHandle:
            return asyncio.TimerHandle(0, int, (), loop)

    loop = asyncio.new_event_loop()
    other: Any = Other()
    assert not can_see(other)
    loop.close()


# Whether it stirs


def test_a_task_that_is_about_to_run_stirs(turn: Turn) -> None:
    async def scenario() -> None:
        root = turn.begin(one)
        other = Turn(turn.loop)
        await turn.rest()
        assert not is_stirring(turn.scope)

        turn.answer("a")

        assert is_stirring(turn.scope)
        assert not is_stirring(other.scope)
        await turn.rest()
        assert root.result() == "<a>"

    play(turn, scenario)


def test_a_callback_of_the_turn_stirs_until_it_is_cancelled(turn: Turn) -> None:
    async def calling(turn: Turn) -> None:
        handles.append(turn.loop.call_soon(int))
        await turn.wait("a")

    handles: list[asyncio.Handle] = []

    async def scenario() -> None:
        turn.begin(calling)
        while not handles:  # noqa: ASYNC110 - between two callbacks there is nothing to wait for
            await asyncio.sleep(0)
        assert is_stirring(turn.scope)

        handles[0].cancel()

        assert not is_stirring(turn.scope)
        await turn.stop()

    play(turn, scenario)


def test_settled_means_that_it_has_done_all_it_can(turn: Turn) -> None:
    async def hopping(turn: Turn) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
            steps.append(1)
        await asyncio.gather(*(turn.wait(name) for name in "abc"))

    steps: list[int] = []

    async def scenario() -> None:
        turn.begin(hopping)

        assert await settle(turn.scope, 5)

        assert len(steps) == 10
        assert sorted(turn.waits) == ["a", "b", "c"]
        await turn.stop()

    play(turn, scenario)


def test_what_never_settles_is_waited_for_with_patience(turn: Turn) -> None:
    async def spinning(turn: Turn) -> None:
        while not turn.outside.done():  # noqa: ASYNC110 - a handler that never rests
            await asyncio.sleep(0)

    async def scenario() -> None:
        root = turn.begin(spinning)

        assert not await settle(turn.scope, 0)
        assert not await settle(turn.scope, 0.01)

        turn.outside.set_result("enough")
        await root

    play(turn, scenario)


def test_settling_takes_no_time_when_nothing_stirs(turn: Turn) -> None:
    async def scenario() -> None:
        settling = settle(turn.scope, 5)

        with pytest.raises(StopIteration) as ended:
            settling.send(None)

        assert ended.value.value is True

    play(turn, scenario)


# Turns that do one thing at a time


async def ended(turn: Turn) -> None:
    """Wait for nothing."""


@pytest.mark.parametrize("handler", [one, ended], ids=named)
def test_of_who_does_one_thing_at_a_time_all_is_known_without_a_look_at_the_loop(
    turn: Turn, handler: Handler
) -> None:
    async def scenario() -> None:
        root = turn.begin(handler)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        look = Look(turn.loop, may_see_all=False)

        assert turn.scope.is_quiet
        assert [*look.of(turn.scope).tasks] == ([] if root.done() else [root])
        assert look.size == 0
        await turn.stop()

    play(turn, scenario)


async def a_task_beside(turn: Turn) -> Any:
    beside = turn.task("b")
    return await turn.wait("a"), await beside


async def a_timer_beside(turn: Turn) -> Any:
    turn.loop.call_later(3600, int)
    return await turn.wait("a")


async def a_callback_beside(turn: Turn) -> Any:
    def again() -> None:
        if not turn.outside.done():
            turn.loop.call_soon(again)

    again()
    return await turn.wait("a")


async def a_task_in_the_same_context(turn: Turn) -> Any:
    beside = asyncio.create_task(until(turn.outside), context=turn.scope.context)
    return await turn.wait("a"), await beside


async def a_timer_in_the_same_context(turn: Turn) -> Any:
    turn.loop.call_later(3600, int, context=turn.scope.context)
    return await turn.wait("a")


async def variables_of_its_own_beside(turn: Turn) -> Any:
    variables = contextvars.copy_context()
    variables.run(contextvars.ContextVar[int]("own").set, 1)
    return await turn.wait("a"), variables


BESIDE = [
    a_task_beside,
    a_timer_beside,
    a_callback_beside,
    a_task_in_the_same_context,
    a_timer_in_the_same_context,
    variables_of_its_own_beside,
]


@pytest.mark.parametrize("handler", BESIDE, ids=named)
def test_what_may_have_something_beside_its_first_task_is_not_quiet(
    turn: Turn, handler: Handler
) -> None:
    async def scenario() -> None:
        root = turn.begin(handler)
        while not turn.waits:  # noqa: ASYNC110 - between two callbacks there is nothing to wait for
            await asyncio.sleep(0)

        assert not turn.scope.is_quiet
        assert not turn.scope.is_quiet  # and to have asked changes nothing
        with pytest.raises(TooSoon):
            Look(turn.loop, may_see_all=False).of(turn.scope)
        found = Look(turn.loop).of(turn.scope)
        assert root in found.tasks
        for timer in found.timers:
            timer.cancel()
        turn.outside.set_result("late")
        await turn.stop()

    play(turn, scenario)


def test_a_first_task_that_runs_or_is_about_to_is_not_quiet(turn: Turn) -> None:
    async def asking(turn: Turn) -> None:
        seen.append(turn.scope.is_quiet)

    seen: list[bool] = []

    async def scenario() -> None:
        assert not turn.scope.is_quiet
        root = turn.begin(asking)
        seen.append(turn.scope.is_quiet)
        await root

        assert True not in seen
        assert turn.scope.is_quiet

    play(turn, scenario)


def test_who_stirs_may_have_begun_something_since_others_looked(turn: Turn) -> None:
    async def scenario() -> None:
        first = turn.begin(a_task_beside)
        before = glance(turn.scope)
        later = turn.begin(lambda turn: turn.wait("c"))

        assert glance(turn.scope) == before
        assert before.is_stirring
        assert [*before.tasks] == [first]
        await turn.rest()
        await asyncio.sleep(0)
        now = glance(turn.scope)
        assert not now.is_stirring
        assert {first, later} < {*now.tasks}
        await turn.stop()

    play(turn, scenario)
