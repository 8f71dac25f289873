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
from functools import partial
from typing import Any, TypeVar

import pytest

from outlast.engine.rest import (
    Belongings,
    Held,
    can_see,
    ended_by,
    expect,
    held_by,
    is_stirring,
    settle,
    stop_all,
    survey,
    tasks_of,
    throw,
    turn_of,
)
from outlast.errors import Unwound

T = TypeVar("T")


def _eager() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    return loop


def _python() -> asyncio.AbstractEventLoop:
    """Return a loop whose tasks are not written in C."""

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **details: Any) -> Any:
        return asyncio.tasks._PyTask(coroutine, loop=loop, **details)  # type: ignore[attr-defined]

    loop = asyncio.new_event_loop()
    loop.set_task_factory(make)
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
    pytest.param(_python, id="python"),
    pytest.param(
        _uvloop,
        id="uvloop",
        marks=pytest.mark.skipif(not importlib.util.find_spec("uvloop"), reason="no uvloop"),
    ),
]


NUMBERED = pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0), reason="it names all tasks that a factory makes 'None'"
)


class Turn:
    """What a handler sees, and what a test asks of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.mark = object()
        self.waits: dict[str, asyncio.Future[str]] = {}
        self.cancelled: list[str] = []
        self.closed: list[bool] = []
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
    handler: Callable[[Turn], Coroutine[Any, Any, Any]],
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

        expect(turn.loop, turn.mark, KeyError)

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
    turn: Turn, handler: Callable[[Turn], Coroutine[Any, Any, Any]], hops: int
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


def test_what_is_begun_in_cleaning_up_goes_on(turn: Turn) -> None:
    async def closing(turn: Turn) -> None:
        try:
            await turn.wait("a")
        finally:
            closed.append(await asyncio.gather(*(asyncio.sleep(0.001, name) for name in "ab")))

    closed: list[list[str]] = []

    async def scenario() -> None:
        turn.begin(closing)
        await turn.rest()

        assert not await turn.stop(Unwound())

        assert closed == [["a", "b"]]

    play(turn, scenario)


def test_cleaning_up_is_cancelled_after_the_grace(turn: Turn) -> None:
    async def closing_for_ever(turn: Turn) -> None:
        try:
            await turn.wait("a")
        finally:
            await asyncio.create_task(_until(turn.outside))

    async def scenario() -> None:
        root = turn.begin(closing_for_ever)
        await turn.rest()

        assert not await turn.stop(Unwound(), grace=0.01)

        assert root.cancelled()

    play(turn, scenario)


def test_a_handler_that_swallows_the_error_is_known(turn: Turn) -> None:
    async def suppressing(turn: Turn) -> Any:
        with contextlib.suppress(BaseException):
            await turn.wait("a")

    async def scenario() -> None:
        root = turn.begin(suppressing)
        await turn.rest()

        assert not await turn.stop(Unwound())

        assert root.done()
        assert not ended_by(root, Unwound)

    play(turn, scenario)


@pytest.mark.parametrize("error", [None, Unwound()], ids=["cancelled", "unwound"])
def test_a_handler_that_swallows_once_is_asked_again(
    turn: Turn, error: BaseException | None
) -> None:
    async def stubborn(turn: Turn) -> Any:
        with contextlib.suppress(BaseException):
            await turn.wait("a")
        await turn.outside

    async def scenario() -> None:
        root = turn.begin(stubborn)
        await turn.rest()

        assert not await turn.stop(error, grace=0.01)

        assert root.cancelled()

    play(turn, scenario)


@pytest.mark.parametrize("error", [None, Unwound()], ids=["cancelled", "unwound"])
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

        gc.collect()
        assert not tasks_of(turn.loop, turn.mark)

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
    async def scenario() -> None:
        root = turn.begin(grouped)
        await turn.rest()

        await turn.stop(grace=0)

        assert root.cancelled()

    play(turn, scenario)


def test_an_error_of_its_own_is_logged_as_always(turn: Turn) -> None:
    async def failing(turn: Turn) -> None:
        try:
            await turn.wait("a")
        finally:
            raise ValueError("while tidying up")

    async def scenario() -> None:
        turn.begin(failing)
        await turn.rest()

        await turn.stop(Unwound())

    play(turn, scenario)
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


@pytest.mark.parametrize("error", [None, Unwound()], ids=["cancelled", "unwound"])
def test_a_turn_that_has_ended_takes_no_time(turn: Turn, error: BaseException | None) -> None:
    async def scenario() -> None:
        stopping = turn.stop(error)

        with pytest.raises(StopIteration) as ended:
            stopping.send(None)

        assert ended.value.value == []

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


# How an error is thrown


def test_what_a_task_waited_for_is_given_up(turn: Turn) -> None:
    async def scenario() -> None:
        root = turn.begin(lambda turn: _until(turn.outside))
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
        root = turn.begin(lambda turn: _until(turn.outside))
        turn.outside.add_done_callback(root.set_name)
        await turn.rest()

        throw(root, KeyError())

        with pytest.raises(KeyError):
            await root

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
            held_by(turn.loop, turn.mark, {turn.outside})
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
            held_by(turn.loop, turn.mark, {turn.loop.create_future()})
        assert held_by(turn.loop, turn.mark, {turn.outside}) == {turn.outside}
        await turn.stop()

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
