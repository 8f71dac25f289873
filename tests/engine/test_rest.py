"""Whether nothing but its own waits holds a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from outlast.engine.belongings import Look
from outlast.engine.rest import Held, held_by
from outlast.engine.stopping import throw
from outlast.errors import Unwound
from tests.engine.handlers import ELSE, OWN, asleep, one, waited
from tests.engine.turns import Handler, Turn, named, play

pytestmark = pytest.mark.usefixtures("quick_collections")


@pytest.mark.parametrize(("handler", "names"), OWN.items(), ids=named)
def test_nothing_but_its_waits_holds_it(turn: Turn, handler: Handler, names: str) -> None:
    async def scenario() -> None:
        root = turn.begin(handler)
        for name in names:
            await turn.rest()

            held = turn.look()

            assert held >= set(turn.waits.values())
            assert not any(future.done() and not future.result() for future in held)
            turn.answer(name)
        await turn.rest()
        assert root.done()
        assert root.exception() is None

    play(turn, scenario)


@pytest.mark.parametrize(("handler", "reason"), ELSE.items(), ids=named)
def test_something_else_holds_it(turn: Turn, handler: Handler, reason: str) -> None:
    async def scenario() -> None:
        turn.begin(handler)
        await turn.rest()

        with pytest.raises(Held, match=reason) as held:
            turn.look()

        assert held.value.reason == str(held.value)
        assert not await turn.stop()

    play(turn, scenario)


def test_it_is_not_held_by_nothing(turn: Turn) -> None:
    async def scenario() -> None:
        with pytest.raises(Held, match="it waits for nothing of its own"):
            turn.look()

        turn.begin(asleep)
        await turn.rest()
        turn.waits.clear()
        with pytest.raises(Held, match="it waits for nothing of its own"):
            turn.look()
        turn.waits["a"] = turn.outside
        await turn.stop()

    play(turn, scenario)


def test_it_is_held_where_its_tasks_are_not_to_be_seen(turn: Turn) -> None:
    async def scenario() -> None:
        with pytest.raises(Held, match="its tasks are not to be seen"):
            held_by({turn.outside}, Look(turn.loop).of(turn.scope))

    play(turn, scenario)


def test_it_is_held_while_something_is_on_its_way(turn: Turn) -> None:
    async def error_through_two_gathers(turn: Turn) -> Any:
        async def wrong() -> None:
            raise ValueError(await turn.wait("a"))

        return await asyncio.gather(asyncio.gather(wrong()), turn.wait("b"))

    async def scenario() -> None:
        root = turn.begin(error_through_two_gathers)
        await turn.rest()
        turn.answer("a")

        while not root.done():
            with pytest.raises(Held, match="about to run"):
                turn.look()
            await asyncio.sleep(0)

        assert str(root.exception()) == "<a>"
        turn.answer("b")
        await turn.rest()

    play(turn, scenario)


def test_a_task_that_runs_next_holds_it_even_if_that_is_not_seen(turn: Turn) -> None:
    async def scenario() -> None:
        turn.begin(one)
        await turn.rest()
        waits = set(turn.waits.values())
        found = Look(turn.loop).of(turn.scope)
        turn.answer("a")

        with pytest.raises(Held, match=" is about to run"):
            held_by(waits, found._replace(is_stirring=False))
        await turn.rest()

    play(turn, scenario)


def test_one_look_is_enough_for_all_turns(turn: Turn) -> None:
    async def scenario() -> None:
        turns = [turn, Turn(turn.loop), Turn(turn.loop)]
        for each in turns:
            each.begin(waited)
            await each.rest()

        look = Look(turn.loop)

        for each in turns:
            waits = set(each.waits.values())
            assert held_by(waits, look.of(each.scope)) > waits
        for each in turns:
            await each.stop()

    play(turn, scenario)


def test_what_is_no_future_of_asyncio_is_not_understood(turn: Turn) -> None:
    class Other:
        """As much of a future as a task needs."""

        _asyncio_future_blocking = False

        def __init__(self) -> None:
            self.is_done = False
            self.wake: list[Callable[[Any], object]] = []

        def add_done_callback(self, wake: Callable[[Any], object], **_: Any) -> None:
            self.wake.append(wake)

        def __await__(self) -> Generator[Any, None, None]:
            self._asyncio_future_blocking = True
            yield self

        def get_loop(self) -> asyncio.AbstractEventLoop:
            return turn.loop

        def done(self) -> bool:
            return self.is_done

        def cancel(self, msg: object = None) -> bool:
            self.is_done = True
            turn.loop.call_soon(self.wake.pop(), self)
            return True

        def result(self) -> None:
            raise asyncio.CancelledError

    async def waiting(turn: Turn) -> None:
        await Other()

    async def scenario() -> None:
        root = turn.begin(waiting)
        await turn.rest()

        with pytest.raises(Held, match=r"waits in .*Other.__await__, line "):
            held_by({turn.outside}, Look(turn.loop).of(turn.scope))
        assert not throw(root, KeyError())
        assert not await turn.stop(Unwound(), grace=0.001)
        assert root.cancelled()

    play(turn, scenario)


def test_a_coroutine_without_frames_is_not_understood(turn: Turn) -> None:
    class Odd(Coroutine[Any, Any, None]):
        def __init__(self, future: asyncio.Future[str]) -> None:
            self.waiting = future.__await__()

        def send(self, value: Any) -> Any:
            return self.waiting.send(value)

        def throw(self, *error: Any) -> Any:
            return self.waiting.throw(*error)

        def close(self) -> None:
            self.waiting.close()

        def __await__(self) -> Generator[Any, None, None]:
            raise NotImplementedError

    async def scenario() -> None:
        turn.begin(lambda turn: Odd(turn.outside))
        await turn.rest()

        with pytest.raises(Held, match="waits in what is no coroutine"):
            held_by({turn.loop.create_future()}, Look(turn.loop).of(turn.scope))
        assert held_by({turn.outside}, Look(turn.loop).of(turn.scope)) == {turn.outside}
        await turn.stop()

    play(turn, scenario)
