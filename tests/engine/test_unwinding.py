"""How an error is raised wherever a turn waits, and who hears of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from outlast.engine.belongings import glance
from outlast.engine.stopping import ended_by, expect, throw
from outlast.errors import Unwound
from tests.engine.handlers import a_future, one, shielded, until
from tests.engine.turns import NUMBERED, Handler, Turn, named, observed, play

pytestmark = pytest.mark.usefixtures("quick_collections")


@pytest.mark.parametrize("error", [None, Unwound(), KeyError()], ids=repr)
def test_nobody_needs_to_hear_of_what_was_thrown(turn: Turn, error: BaseException | None) -> None:
    async def in_the_background(turn: Turn, name: str) -> None:
        try:
            await turn.wait(name)
        finally:
            raise error or Unwound  # as every call does by now

    async def leaving(turn: Turn) -> None:
        for name in "abc":
            task = asyncio.create_task(in_the_background(turn, name))
            kept.append(asyncio.shield(task) if name == "b" else asyncio.gather(task))
        await turn.wait("d")

    kept: list[asyncio.Future[Any]] = []

    async def scenario() -> None:
        turn.begin(leaving)
        await turn.rest()
        turn.answer("a")
        turn.answer("b")

        await turn.stop(error)

        kept.clear()

    play(turn, scenario)


def test_an_expected_error_is_not_logged(turn: Turn) -> None:
    async def in_the_background(name: str) -> None:
        raise KeyError(await turn.wait(name))

    async def leaving(turn: Turn) -> None:
        left = [asyncio.create_task(in_the_background(name)) for name in "ab"]
        await turn.wait("c")
        left.clear()

    async def scenario() -> None:
        turn.begin(leaving)
        await turn.rest()

        expect([*glance(turn.scope).tasks], KeyError)

        for name in "abc":
            turn.answer(name)
        await turn.rest()

    play(turn, scenario)


@NUMBERED
def test_what_is_waited_for_is_told_first(turn: Turn) -> None:
    async def telling(name: str, *inside: str) -> None:
        try:
            if inside:
                await asyncio.gather(telling(*inside))
            await turn.wait("a")
        finally:
            told.append(name)

    async def nested(turn: Turn) -> None:
        await telling("outer", "middle", "inner")

    told: list[str] = []

    async def scenario() -> None:
        turn.begin(nested)
        await turn.rest()

        await turn.stop(Unwound())

        assert told == ["inner", "middle", "outer"]

    play(turn, scenario)


def test_every_task_gets_an_error_of_its_own(turn: Turn) -> None:
    class Because(Unwound):
        def __init__(self, reason: str) -> None:
            super().__init__(reason)
            self.reason = reason

    async def catching(turn: Turn, name: str) -> Because | None:
        try:
            await turn.wait(name)
        except Because as because:
            return because
        return None

    async def scenario() -> None:
        because = Because("enough")
        tasks = [turn.begin(partial(catching, name=name)) for name in "abc"]
        await turn.rest()

        await turn.stop(because)

        caught = [task.result() for task in tasks]
        assert len({because, *caught}) == 4
        assert {each.reason for each in caught if each} == {"enough"}
        assert because.__traceback__ is None

    play(turn, scenario)


def test_a_task_that_runs_next_is_thrown_into_where_it_waits_then(turn: Turn) -> None:
    async def scenario() -> None:
        seen: list[BaseException] = []
        root = turn.begin(observed(a_future, seen))

        await turn.stop(Unwound())

        assert ended_by(root, Unwound)
        assert [type(error) for error in seen] == [Unwound]

    play(turn, scenario)


async def a_task_then_a_future(turn: Turn) -> Any:
    await asyncio.create_task(shielded(turn))
    await turn.outside


async def a_group_then_a_future(turn: Turn) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(turn.wait("a"))
    await turn.outside


@pytest.mark.parametrize("handler", [a_task_then_a_future, a_group_then_a_future], ids=named)
@pytest.mark.parametrize("hops", range(5))
def test_an_error_does_not_miss_who_waits_for_what_just_ends(
    turn: Turn, handler: Handler, hops: int
) -> None:
    async def scenario() -> None:
        root = turn.begin(handler)
        await turn.rest()
        turn.answer("a")
        for _ in range(hops):
            await asyncio.sleep(0)

        await turn.stop(Unwound())

        assert ended_by(root, Unwound)

    play(turn, scenario)


def test_what_a_task_waited_for_is_given_up(turn: Turn) -> None:
    async def scenario() -> None:
        root = turn.begin(lambda turn: until(turn.outside))
        await turn.rest()

        assert throw(root, KeyError("thrown"))
        assert turn.outside.cancelled()

        with pytest.raises(KeyError, match="thrown"):
            await root

    play(turn, scenario)


def test_an_error_is_thrown_only_where_a_task_waits(turn: Turn) -> None:
    async def scenario() -> None:
        root = turn.begin(one)
        await turn.rest()
        turn.answer("a")

        assert not throw(root, KeyError())
        assert await root == "<a>"
        assert not throw(root, KeyError())

    play(turn, scenario)


def test_what_comes_at_the_same_time_hurts_nobody(turn: Turn) -> None:
    async def scenario() -> None:
        reader = asyncio.StreamReader()
        root = turn.begin(lambda turn: reader.readline())
        await turn.rest()

        throw(root, KeyError())
        reader.feed_data(b"late\n")

        with pytest.raises(KeyError):
            await root
        assert await reader.readline() == b"late\n"

    play(turn, scenario)


def test_a_callback_that_is_another_method_of_the_task_is_left_alone(turn: Turn) -> None:
    async def scenario() -> None:
        root = turn.begin(lambda turn: until(turn.outside))
        turn.outside.add_done_callback(root.set_name)
        await turn.rest()

        throw(root, KeyError())

        with pytest.raises(KeyError):
            await root

    play(turn, scenario)


def test_an_error_within_others_is_not_the_only_one() -> None:
    def ended(error: BaseException) -> asyncio.Future[None]:
        future: asyncio.Future[None] = loop.create_future()
        future.set_exception(error)
        future.exception()
        return future

    loop = asyncio.new_event_loop()
    alone = BaseExceptionGroup("", [Unwound(), BaseExceptionGroup("", [Unwound()])])
    with_others = BaseExceptionGroup("", [Unwound(), BaseExceptionGroup("", [ValueError()])])

    assert ended_by(ended(Unwound()), Unwound)
    assert ended_by(ended(alone), Unwound)
    assert not ended_by(ended(with_others), Unwound)
    assert not ended_by(ended(ValueError()), Unwound)
    assert not ended_by(loop.create_future(), Unwound)
    loop.close()
