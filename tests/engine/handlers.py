"""What handlers may do while they wait."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import types
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Any

from tests.engine.turns import Handler, Turn

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
    async def client() -> AsyncGenerator[Any]:
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


OWN: dict[Handler, str] = {
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
    task = asyncio.create_task(until(turn.outside), context=contextvars.Context())
    return await asyncio.gather(turn.wait("a"), task)


async def a_group_with_a_task_of_somebody_else(turn: Turn) -> Any:
    async with asyncio.TaskGroup() as group:
        group.create_task(turn.wait("a"))
        group.create_task(until(turn.outside), context=contextvars.Context())


async def until(future: asyncio.Future[str]) -> str:
    return await future


ELSE: dict[Handler, str] = {
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
