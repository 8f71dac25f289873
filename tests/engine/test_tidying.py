"""What a handler does while it is stopped, which is not disturbed."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator

import pytest

from outlast.engine.stopping import ended_by
from outlast.errors import Unwound
from tests.engine.turns import NUMBERED, Handler, Turn, named, play

pytestmark = pytest.mark.usefixtures("quick_collections")


async def tidying(turn: Turn, name: str) -> None:
    """Wait, and tidy up."""
    try:
        await turn.wait(name)
    finally:
        await tidying_up(turn, name)


async def tidying_up(turn: Turn, name: str) -> None:
    """Take a while, in which nothing of the turn stirs."""
    over = turn.loop.create_future()

    def hop(hops: int) -> None:
        if hops:
            turn.loop.call_soon(hop, hops - 1, context=contextvars.Context())
        elif not over.done():
            over.set_result(None)

    hop(20)
    try:
        await over
    except BaseException as error:
        turn.said.append({"message": f"{name} was disturbed by {error!r}"})
        raise


async def tidying_in_a_task(turn: Turn, name: str) -> None:
    await asyncio.create_task(tidying(turn, name))


async def groups_that_tidy_up(turn: Turn) -> None:
    async with asyncio.TaskGroup() as outer:
        outer.create_task(turn.wait("a"))
        outer.create_task(tidying(turn, "b"))
        outer.create_task(tidying_in_a_task(turn, "c"))
        async with asyncio.TaskGroup() as inner:
            inner.create_task(turn.wait("d"))
            inner.create_task(tidying_in_a_task(turn, "e"))
            await turn.wait("f")


async def closed_groups_that_tidy_up(turn: Turn) -> None:
    async def grouped() -> None:
        async with asyncio.TaskGroup() as inner:
            inner.create_task(turn.wait("c"))
            inner.create_task(tidying_in_a_task(turn, "d"))

    async with asyncio.TaskGroup() as outer:
        outer.create_task(tidying(turn, "a"))
        outer.create_task(turn.wait("b"))
        outer.create_task(grouped())


async def gathers_that_tidy_up(turn: Turn) -> None:
    inner = asyncio.gather(tidying(turn, "a"), tidying_in_a_task(turn, "b"))
    try:
        await asyncio.gather(inner, asyncio.shield(tidying(turn, "c")), turn.wait("d"))
    finally:
        await asyncio.sleep(0)


async def waits_that_tidy_up(turn: Turn) -> None:
    tasks = [asyncio.create_task(tidying_in_a_task(turn, name)) for name in "ab"]
    await asyncio.wait([*tasks, asyncio.shield(tidying(turn, "c"))])


@NUMBERED
@pytest.mark.parametrize(
    "handler",
    [
        groups_that_tidy_up,
        closed_groups_that_tidy_up,
        gathers_that_tidy_up,
        waits_that_tidy_up,
    ],
    ids=named,
)
@pytest.mark.parametrize("error", [None, Unwound()], ids=["cancelled", "unwound"])
def test_tidying_up_is_not_disturbed(
    turn: Turn,
    handler: Handler,
    error: BaseException | None,
) -> None:
    async def scenario() -> None:
        root = turn.begin(handler)
        await turn.rest()

        assert not await turn.stop(error)

        assert root.cancelled() if error is None else ended_by(root, Unwound)
        assert bool(turn.cancelled) == (error is None)

    play(turn, scenario)


async def left_early(turn: Turn) -> None:
    async def answers() -> AsyncIterator[str]:
        task = turn.task("a")
        try:
            yield "one"
        finally:
            await tidying_up(turn, "the generator")
            turn.closed.append(task.done())

    async for _ in answers():
        await turn.wait("b")
        break


@pytest.mark.parametrize("error", [None, Unwound()], ids=["cancelled", "unwound"])
def test_a_generator_that_was_left_early_is_closed(turn: Turn, error: BaseException | None) -> None:
    async def scenario() -> None:
        root = turn.begin(left_early)
        await turn.rest()
        turn.answer("b")
        await asyncio.wait({root})

        assert not await turn.stop(error)

        assert len(turn.closed) == 1

    play(turn, scenario)


@pytest.mark.parametrize("error", [None, Unwound()], ids=["cancelled", "unwound"])
def test_a_generator_that_is_left_because_of_it_is_closed(
    turn: Turn, error: BaseException | None
) -> None:
    async def scenario() -> None:
        turn.begin(left_early)
        await turn.rest()

        assert not await turn.stop(error)

        assert len(turn.closed) == 1

    play(turn, scenario)


@pytest.mark.parametrize("error", [None, Unwound()], ids=["cancelled", "unwound"])
def test_a_generator_that_is_never_closed_is_cancelled(
    turn: Turn, error: BaseException | None
) -> None:
    async def answers() -> AsyncIterator[str]:
        try:
            yield "one"
        finally:
            await turn.outside

    async def closing_never(turn: Turn) -> None:
        async for _ in answers():
            break

    async def scenario() -> None:
        await turn.begin(closing_never)

        assert not await turn.stop(error, grace=0.01)

        assert turn.outside.cancelled()

    play(turn, scenario)


def test_a_group_that_is_made_meanwhile_disturbs_nobody(turn: Turn) -> None:
    async def two_groups(turn: Turn) -> None:
        await turn.wait("g")
        await groups_that_tidy_up(turn)

    async def scenario() -> None:
        root = turn.begin(two_groups)
        await turn.rest()
        turn.answer("g")

        assert not await turn.stop(Unwound())

        assert ended_by(root, Unwound)
        assert not turn.cancelled

    play(turn, scenario)


def test_who_fails_before_the_error_is_thrown_disturbs_nobody(turn: Turn) -> None:
    async def calling(turn: Turn) -> None:
        await turn.wait("a")
        raise Unwound  # as every call does by now

    async def grouped(turn: Turn) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(calling(turn))
            group.create_task(turn.wait("b"))
            await turn.wait("c")

    async def scenario() -> None:
        root = turn.begin(grouped)
        await turn.rest()
        turn.answer("a")

        assert not await turn.stop(Unwound())

        assert ended_by(root, Unwound)
        assert not turn.cancelled

    play(turn, scenario)
