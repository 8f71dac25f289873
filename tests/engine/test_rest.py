"""A turn in miniature: its waits, and whatever else a handler may do, on every loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import importlib.util
import socket
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, TypeVar

import pytest

from outlast.engine.rest import (
    Belongings,
    Held,
    can_see,
    ended_by,
    held_by,
    is_stirring,
    settle,
    stop_all,
    survey,
    tasks_of,
    turn_of,
)
from outlast.errors import Unwound

T = TypeVar("T")


def _eager() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    return loop


def _uvloop() -> asyncio.AbstractEventLoop:
    return importlib.import_module("uvloop").new_event_loop()  # type: ignore[no-any-return]


LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(
        _eager,
        id="eager",
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are never eager"),
    ),
    pytest.param(
        _uvloop,
        id="uvloop",
        marks=pytest.mark.skipif(not importlib.util.find_spec("uvloop"), reason="no uvloop"),
    ),
]


class Turn:
    """What a handler sees, and what a test asks of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.mark = object()
        self.waits: dict[str, asyncio.Future[str]] = {}
        self.cancelled: list[str] = []
        self.said: list[dict[str, Any]] = []
        self.door = threading.Event()
        self.outside: asyncio.Future[str] = loop.create_future()
        loop.set_exception_handler(lambda _, context: self.said.append(context))

    def begin(self, handler: Callable[[Turn], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Return the first task of the turn."""
        context = contextvars.copy_context()
        context.run(turn_of.set, self.mark)
        return self.loop.create_task(handler(self), context=context)

    async def wait(self, name: str) -> str:
        """Wait until `answer`."""
        self.waits[name] = self.loop.create_future()
        try:
            return await self.waits[name]
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            del self.waits[name]

    def task(self, name: str) -> asyncio.Task[str]:
        """Return a task of the turn that waits."""
        return asyncio.create_task(self.wait(name))

    def answer(self, name: str) -> None:
        self.waits[name].set_result(f"<{name}>")

    async def rest(self) -> None:
        assert await settle(self.loop, self.mark, 5)

    def look(self) -> set[asyncio.Future[Any]]:
        return held_by(self.loop, self.mark, set(self.waits.values()))

    async def stop(
        self, error: BaseException | None = None, grace: float = 5
    ) -> list[asyncio.Task[Any]]:
        return await stop_all(self.loop, self.mark, error, grace)


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Spare the collections after each test what was there before them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=LOOPS)
def turn(request: pytest.FixtureRequest) -> Iterator[Turn]:
    """Yield a turn on each loop; nothing may be logged, and nothing left."""
    loop: asyncio.AbstractEventLoop = request.param()
    turn = Turn(loop)
    yield turn
    turn.door.set()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gc.collect()
    assert not left
    assert not turn.said


def play(turn: Turn, scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return turn.loop.run_until_complete(scenario())


# Handlers that nothing but their waits holds. What each of them waits for at first is in its name's
# place in `OWN`, in the order in which it is answered.


async def one(turn: Turn) -> Any:
    return await turn.wait("a")


async def gathered(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), turn.wait("b"))


async def gathered_with_errors_as_values(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), turn.wait("b"), return_exceptions=True)


async def gathered_twice_the_same(turn: Turn) -> Any:
    task = turn.task("a")
    return await asyncio.gather(task, task)


async def gathers_in_a_gather(turn: Turn) -> Any:
    first = asyncio.gather(turn.wait("a"), turn.wait("b"))
    return await asyncio.gather(first, turn.wait("c"), return_exceptions=True)


async def gathered_and_never_awaited(turn: Turn) -> Any:
    both = asyncio.gather(turn.wait("b"), turn.wait("c"))
    return await turn.wait("a"), both.done(), await both


async def waited(turn: Turn) -> Any:
    done, _ = await asyncio.wait([turn.task("a"), turn.task("b")])
    return sorted(task.result() for task in done)


async def waited_until_the_first(turn: Turn) -> Any:
    tasks = {name: turn.task(name) for name in "ab"}
    await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
    return tasks["a"].done(), await tasks["b"]


async def waited_for_a_shield_and_a_gather(turn: Turn) -> Any:
    futures = asyncio.shield(turn.task("a")), asyncio.gather(turn.wait("b"), turn.wait("c"))
    await asyncio.wait(futures)
    return [future.result() for future in futures]


async def wait_for_without_timeout(turn: Turn) -> Any:
    return await asyncio.wait_for(turn.wait("a"), None)


async def timeout_of_none(turn: Turn) -> Any:
    async with asyncio.timeout(None):
        return await turn.wait("a")


async def timeout_that_is_over(turn: Turn) -> Any:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await turn.wait("never")
    return await turn.wait("a")


async def grouped(turn: Turn) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(turn.wait(name)) for name in "ab"]
    return [task.result() for task in tasks]


async def grouped_with_a_waiting_body(turn: Turn) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(turn.wait("b"))
        first = await turn.wait("a")
    return first, task.result()


async def grouped_in_a_group(turn: Turn) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(grouped(turn)), group.create_task(turn.wait("c"))]
    return [task.result() for task in tasks]


async def grouped_in_a_gather_in_a_shield(turn: Turn) -> Any:
    return await asyncio.shield(asyncio.gather(grouped(turn), turn.wait("c")))


async def shielded(turn: Turn) -> Any:
    return await asyncio.shield(turn.task("a"))


async def shielded_shield(turn: Turn) -> Any:
    return await asyncio.shield(asyncio.shield(asyncio.create_task(gathered(turn))))


async def shielded_and_never_awaited(turn: Turn) -> Any:
    shield = asyncio.shield(turn.task("b"))
    return await turn.wait("a"), await shield


async def shielded_errors_as_values(turn: Turn) -> Any:
    both = asyncio.gather(turn.wait("a"), turn.wait("b"), return_exceptions=True)
    return await asyncio.shield(both)


async def task_in_a_task(turn: Turn) -> Any:
    return await asyncio.create_task(shielded(turn))


async def task_in_the_background(turn: Turn) -> Any:
    task = turn.task("b")
    return await turn.wait("a"), await task


async def as_completed(turn: Turn) -> Any:
    names = iter("abc")
    return [await it for it in asyncio.as_completed([turn.wait(name) for name in names])]


async def as_completed_twice(turn: Turn) -> Any:
    async def each(names: str) -> Any:
        return [await it for it in asyncio.as_completed([turn.wait(name) for name in names])]

    return await asyncio.gather(each("ab"), each("cd"))


async def async_generator(turn: Turn) -> Any:
    async def answers() -> AsyncIterator[str]:
        yield await turn.wait("a")

    return [answer async for answer in answers()]


async def group_in_an_async_generator(turn: Turn) -> Any:
    async def answers() -> AsyncIterator[Any]:
        yield await grouped(turn)

    async def passed_on() -> AsyncIterator[Any]:
        async for answer in answers():
            yield answer

    return [answer async for answer in passed_on()]


async def wait_in_an_async_context_manager(turn: Turn) -> Any:
    @contextlib.asynccontextmanager
    async def client() -> AsyncIterator[Any]:
        yield await waited(turn)

    async with client() as answer:
        return answer


async def awaitable_object(turn: Turn) -> Any:
    class Approval:
        def __await__(self) -> Generator[Any, None, Any]:
            return waited(turn).__await__()

    return await Approval()


async def generator_coroutine(turn: Turn) -> Any:
    @types.coroutine
    def approval() -> Generator[Any, None, Any]:
        return (yield from grouped(turn).__await__())

    return await approval()


async def own_variables(turn: Turn) -> Any:
    return await asyncio.create_task(turn.wait("a"), context=contextvars.copy_context())


OWN: dict[Callable[[Turn], Coroutine[Any, Any, Any]], str] = {
    one: "a",
    gathered: "ab",
    gathered_with_errors_as_values: "ab",
    gathered_twice_the_same: "a",
    gathers_in_a_gather: "abc",
    gathered_and_never_awaited: "abc",
    waited: "ab",
    waited_until_the_first: "ab",
    waited_for_a_shield_and_a_gather: "abc",
    wait_for_without_timeout: "a",
    timeout_of_none: "a",
    grouped: "ab",
    grouped_with_a_waiting_body: "ab",
    grouped_in_a_group: "abc",
    grouped_in_a_gather_in_a_shield: "abc",
    shielded: "a",
    shielded_shield: "ab",
    shielded_and_never_awaited: "ab",
    shielded_errors_as_values: "ab",
    task_in_a_task: "a",
    task_in_the_background: "ab",
    as_completed: "abc",
    as_completed_twice: "abcd",
    async_generator: "a",
    group_in_an_async_generator: "ab",
    wait_in_an_async_context_manager: "ab",
    awaitable_object: "ab",
    generator_coroutine: "ab",
    own_variables: "a",
}


# Handlers that something else holds, beside a wait or instead of one.


async def asleep(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), asyncio.sleep(3600))


async def under_a_timeout(turn: Turn) -> Any:
    async with asyncio.timeout(3600):
        return await turn.wait("a")


async def wait_for(turn: Turn) -> Any:
    return await asyncio.wait_for(turn.wait("a"), 3600)


async def waited_with_timeout(turn: Turn) -> Any:
    return await asyncio.wait([turn.task("a")], timeout=3600)


async def as_completed_with_timeout(turn: Turn) -> Any:
    return [await it for it in asyncio.as_completed([turn.wait("a")], timeout=3600)]


async def timer(turn: Turn) -> Any:
    ring = asyncio.get_running_loop().call_later(3600, int)
    try:
        return await turn.wait("a")
    finally:
        ring.cancel()


async def a_future(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), turn.outside)


async def a_shielded_future(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), asyncio.shield(turn.outside))


async def one_of_which_is_a_future(turn: Turn) -> Any:
    return await asyncio.wait([turn.task("a"), turn.outside])


async def a_future_as_completed(turn: Turn) -> Any:
    return [await it for it in asyncio.as_completed([turn.task("a"), turn.outside])]


async def nothing_but_a_future_as_completed(turn: Turn) -> Any:
    ours = turn.task("a")
    return [await it for it in asyncio.as_completed([turn.outside])], await ours


async def a_generator_on_a_future(turn: Turn) -> Any:
    async def items() -> AsyncIterator[str]:
        yield await turn.outside

    ours = turn.task("a")
    return [item async for item in items()], await ours


async def an_event(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), asyncio.Event().wait())


async def a_queue(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), asyncio.Queue[str]().get())


async def a_lock(turn: Turn) -> Any:
    lock = asyncio.Lock()

    async def locked(name: str) -> str:
        async with lock:
            return await turn.wait(name)

    return await asyncio.gather(locked("a"), locked("b"))


async def a_condition(turn: Turn) -> Any:
    async def notified() -> bool:
        async with (condition := asyncio.Condition()):
            return await condition.wait()

    return await asyncio.gather(turn.wait("a"), notified())


async def a_semaphore(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), asyncio.Semaphore(0).acquire())


async def a_thread(turn: Turn) -> Any:
    return await asyncio.gather(turn.wait("a"), asyncio.to_thread(turn.door.wait))


async def an_executor(turn: Turn) -> Any:
    in_a_thread = turn.loop.run_in_executor(None, turn.door.wait)
    return await asyncio.gather(turn.wait("a"), in_a_thread)


async def a_socket(turn: Turn) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        return await asyncio.gather(turn.wait("a"), turn.loop.sock_recv(ours, 1))


async def a_stream(turn: Turn) -> Any:
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            return await asyncio.gather(turn.wait("a"), reader.readline())
        finally:
            writer.close()


async def a_task_of_somebody_else(turn: Turn) -> Any:
    task = asyncio.create_task(_until(turn.outside), context=contextvars.Context())
    return await asyncio.gather(turn.wait("a"), task)


async def a_group_with_a_task_of_somebody_else(turn: Turn) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(turn.wait("a"))
        group.create_task(_until(turn.outside), context=contextvars.Context())


async def _until(future: asyncio.Future[str]) -> str:
    return await future


ELSE: dict[Callable[[Turn], Coroutine[Any, Any, Any]], str] = {
    asleep: r"waits in sleep, line \d+",
    under_a_timeout: "a timer of it is running: ",
    wait_for: r"a timer of it is running: |waits in wait_for, line \d+",
    waited_with_timeout: "a timer of it is running: ",
    as_completed_with_timeout: "a timer of it is running: ",
    timer: "a timer of it is running: ",
    a_future: "waits in a_future, line ",
    a_shielded_future: "waits in a_shielded_future, line ",
    one_of_which_is_a_future: "waits in _wait, line ",
    a_future_as_completed: "waits in Queue.get, line ",
    nothing_but_a_future_as_completed: "waits in Queue.get, line ",
    a_generator_on_a_future: "waits in a_generator_on_a_future.<locals>.items, line ",
    an_event: "waits in Event.wait, line ",
    a_queue: "waits in Queue.get, line ",
    a_lock: "waits in Lock.acquire, line ",
    a_condition: "waits in Condition.wait, line ",
    a_semaphore: "waits in Semaphore.acquire, line ",
    a_thread: "waits in to_thread, line ",
    an_executor: "waits in an_executor, line ",
    a_socket: r"waits in .*sock_recv, line |waits in a_socket, line ",
    a_stream: "waits in StreamReader._wait_for_data, line ",
    a_task_of_somebody_else: "waits in a_task_of_somebody_else, line ",
    a_group_with_a_task_of_somebody_else: "waits in TaskGroup._?_aexit",
}


def named(handler: object) -> str | None:
    return getattr(handler, "__name__", None)


# What belongs to a turn


def test_tasks_are_told_apart_by_their_turn(turn: Turn) -> None:
    async def scenario() -> None:
        other = Turn(turn.loop)
        first, second = turn.begin(gathered), other.begin(one)
        await turn.rest()
        await other.rest()

        found = survey(turn.loop)
        mine = tasks_of(turn.loop, turn.mark)

        assert set(found) == {turn.mark, other.mark}
        assert set(found[turn.mark].tasks) == set(mine)
        assert first in mine
        assert len(mine) == 3
        assert tasks_of(turn.loop, other.mark) == [second]
        await turn.stop()
        await other.stop()

    play(turn, scenario)


def test_a_turn_that_has_nothing_has_nothing(turn: Turn) -> None:
    async def scenario() -> None:
        found = survey(turn.loop)

        assert found[turn.mark] == Belongings((), ())
        assert not found
        assert not tasks_of(turn.loop, turn.mark)

    play(turn, scenario)


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="it names all eager tasks 'None'")
def test_tasks_come_in_the_order_in_which_they_were_made(turn: Turn) -> None:
    async def many(turn: Turn) -> None:
        made.append(asyncio.current_task())
        made.extend(turn.task(str(number)) for number in range(20))
        await turn.wait("a")

    made: list[asyncio.Task[Any] | None] = []

    async def scenario() -> None:
        turn.begin(many)
        await turn.rest()

        assert tasks_of(turn.loop, turn.mark) == made
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

        assert [*survey(turn.loop)[turn.mark].timers] == made
        await turn.stop()
        assert survey(turn.loop)[turn.mark] == Belongings((), made)
        made[0].cancel()
        foreign.cancel()

    play(turn, scenario)


def test_what_this_loop_will_run_is_seen(turn: Turn) -> None:
    async def scenario() -> None:
        assert can_see(turn.loop)
        assert not survey(turn.loop)

    play(turn, scenario)


def test_a_loop_that_hides_what_it_will_run_is_known_as_such() -> None:
    class Other:
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
        assert not is_stirring(turn.loop, turn.mark)

        turn.answer("a")

        assert is_stirring(turn.loop, turn.mark)
        assert not is_stirring(turn.loop, other.mark)
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
        assert is_stirring(turn.loop, turn.mark)

        handles[0].cancel()

        assert not is_stirring(turn.loop, turn.mark)
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

        assert await settle(turn.loop, turn.mark, 5)

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

        assert not await settle(turn.loop, turn.mark, 0)
        assert not await settle(turn.loop, turn.mark, 0.01)

        turn.outside.set_result("enough")
        await root

    play(turn, scenario)


def test_settling_takes_no_time_when_nothing_stirs(turn: Turn) -> None:
    async def scenario() -> None:
        settling = settle(turn.loop, turn.mark, 5)

        with pytest.raises(StopIteration) as ended:
            settling.send(None)

        assert ended.value.value is True

    play(turn, scenario)


# What holds it


@pytest.mark.parametrize(("handler", "names"), OWN.items(), ids=named)
def test_nothing_but_its_waits_holds_it(
    turn: Turn, handler: Callable[[Turn], Coroutine[Any, Any, Any]], names: str
) -> None:
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
def test_something_else_holds_it(
    turn: Turn, handler: Callable[[Turn], Coroutine[Any, Any, Any]], reason: str
) -> None:
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
            held_by(turn.loop, turn.mark, {turn.outside})

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
        found = survey(turn.loop)[turn.mark]
        turn.answer("a")

        # Asked for the ready callbacks of nobody, it sees none.
        with pytest.raises(Held, match=" is about to run"):
            held_by(turn.loop, object(), waits, found)
        await turn.rest()

    play(turn, scenario)


def test_one_survey_is_enough_for_all_turns(turn: Turn) -> None:
    async def scenario() -> None:
        turns = [turn, Turn(turn.loop), Turn(turn.loop)]
        for each in turns:
            each.begin(waited)
            await each.rest()

        found = survey(turn.loop)

        for each in turns:
            waits = set(each.waits.values())
            assert held_by(turn.loop, each.mark, waits, found[each.mark]) > waits
        for each in turns:
            await each.stop()

    play(turn, scenario)


# How it is stopped


def observed(
    handler: Callable[[Turn], Coroutine[Any, Any, Any]], seen: list[BaseException]
) -> Callable[[Turn], Coroutine[Any, Any, Any]]:
    async def observing(turn: Turn) -> Any:
        try:
            return await handler(turn)
        except BaseException as error:
            seen.append(error)
            raise

    return observing


@pytest.mark.parametrize("handler", [*OWN, *ELSE], ids=named)
def test_a_turn_is_cancelled(
    turn: Turn, handler: Callable[[Turn], Coroutine[Any, Any, Any]]
) -> None:
    async def scenario() -> None:
        seen: list[BaseException] = []
        root = turn.begin(observed(handler, seen))
        await turn.rest()

        assert await turn.stop() == []

        assert root.cancelled() or handler in {gathered_with_errors_as_values, gathers_in_a_gather}
        assert not survey(turn.loop)[turn.mark].tasks
        if not turn.outside.done():
            turn.outside.set_result("late")

    play(turn, scenario)


@pytest.mark.parametrize("handler", [*OWN, *ELSE], ids=named)
def test_a_turn_is_unwound(turn: Turn, handler: Callable[[Turn], Coroutine[Any, Any, Any]]) -> None:
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
