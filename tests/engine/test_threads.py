from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from queue import Empty
from typing import Any, NoReturn

import pytest

from outlast.engine.insides import context_of, ready
from outlast.engine.threads import Threads, _Call

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


@pytest.fixture
def door() -> Iterator[threading.Event]:
    """Yield what a function waits for; it is opened in the end."""
    door = threading.Event()
    yield door
    door.set()


@pytest.fixture(autouse=True)
async def said() -> AsyncIterator[list[dict[str, Any]]]:
    """Fail a test whose loop logs something."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    yield said
    assert not said


def me() -> threading.Thread:
    return threading.current_thread()


def hold(started: asyncio.Event, door: threading.Event, loop: asyncio.AbstractEventLoop) -> str:
    loop.call_soon_threadsafe(started.set)
    door.wait()
    return "late"


def wrong() -> NoReturn:
    raise ValueError("wrong")


async def begin(threads: Threads, door: threading.Event) -> asyncio.Task[str]:
    """Return a task whose function has been entered, and waits at the door."""
    started = asyncio.Event()
    task = asyncio.create_task(threads.run(hold, started, door, asyncio.get_running_loop()))
    await started.wait()
    return task


async def test_it_returns_what_the_function_returns(threads: Threads) -> None:
    def told(a: int, *, b: int) -> tuple[int, int]:
        return a, b

    assert await threads.run(told, 1, b=2) == (1, 2)


async def test_arguments_may_have_any_name(threads: Threads) -> None:
    def told(**named: int) -> dict[str, int]:
        return named

    assert await threads.run(told, self=1, function=2) == {"self": 1, "function": 2}


async def test_it_raises_what_the_function_raises(threads: Threads) -> None:
    with pytest.raises(ValueError, match="wrong") as caught:
        await threads.run(wrong)

    assert caught.traceback[-1].name == "wrong"


async def test_it_raises_what_is_no_exception_either(threads: Threads) -> None:
    class Gone(BaseException):
        pass

    def go() -> NoReturn:
        raise Gone

    with pytest.raises(Gone):
        await threads.run(go)


async def test_stop_iteration_is_the_cause_of_a_runtime_error(threads: Threads) -> None:
    nothing: Iterator[int] = iter(())

    with pytest.raises(RuntimeError) as caught:
        await threads.run(next, nothing)

    assert isinstance(caught.value.__cause__, StopIteration)


async def test_a_function_sees_a_copy_of_the_callers_variables(threads: Threads) -> None:
    def change() -> str:
        before = WHO.get()
        WHO.set("the thread")
        return before

    WHO.set("the caller")

    assert await threads.run(change) == "the caller"
    assert await threads.run(WHO.get) == "the caller"
    assert WHO.get() == "the caller"


async def test_one_call_after_the_other_needs_one_thread(threads: Threads) -> None:
    names = {(await threads.run(me)).name for _ in range(50)}

    assert len(names) == 1
    assert names.pop().startswith("outlast-")


async def test_calls_at_once_run_at_once(threads: Threads) -> None:
    together = threading.Barrier(5)

    places = await asyncio.gather(*(threads.run(together.wait) for _ in range(5)))

    assert sorted(places) == [0, 1, 2, 3, 4]


async def test_the_thread_that_was_busy_last_is_used_first(threads: Threads) -> None:
    together = threading.Barrier(5)
    await asyncio.gather(*(threads.run(together.wait) for _ in range(5)))

    names = {(await threads.run(me)).name for _ in range(10)}

    assert len(names) == 1


async def test_threads_are_daemons(threads: Threads) -> None:
    assert (await threads.run(me)).daemon


async def test_calls_beyond_the_limit_wait_for_their_turn(door: threading.Event) -> None:
    threads = Threads(limit=2)
    first, second = await begin(threads, door), await begin(threads, door)
    order: list[int] = []
    others = [asyncio.create_task(threads.run(order.append, number)) for number in range(5)]
    await asyncio.sleep(0)
    assert len(threads._waiting) == 5

    door.set()
    await asyncio.gather(first, second, *others)

    assert sorted(order) == [0, 1, 2, 3, 4]
    assert len(threads._idle) <= 2
    threads.close()


async def test_calls_come_first_that_have_waited_longest(door: threading.Event) -> None:
    threads = Threads(limit=1)
    first = await begin(threads, door)
    order: list[int] = []
    others = [asyncio.create_task(threads.run(order.append, number)) for number in range(5)]
    await asyncio.sleep(0)

    door.set()
    await asyncio.gather(first, *others)

    assert order == [0, 1, 2, 3, 4]
    threads.close()


async def test_a_call_that_is_cancelled_before_its_turn_never_runs(door: threading.Event) -> None:
    threads = Threads(limit=1)
    holding = await begin(threads, door)
    ran: list[str] = []
    cancelled = asyncio.create_task(threads.run(ran.append, "cancelled"))
    later = asyncio.create_task(threads.run(ran.append, "later"))
    await asyncio.sleep(0)

    cancelled.cancel()
    await asyncio.wait({cancelled})
    door.set()
    await asyncio.gather(holding, later)

    assert cancelled.cancelled()
    assert ran == ["later"]
    threads.close()


async def test_a_cancelled_caller_does_not_wait_for_the_function(
    threads: Threads, door: threading.Event
) -> None:
    task = await begin(threads, door)

    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert not door.is_set()


async def test_an_abandoned_thread_takes_up_no_place(door: threading.Event) -> None:
    threads = Threads(limit=1)
    stuck = await begin(threads, door)
    waiting = asyncio.create_task(threads.run(me))
    await asyncio.sleep(0)

    stuck.cancel()
    await asyncio.wait({stuck})

    assert (await waiting).is_alive()
    assert (await threads.run(me)).is_alive()
    threads.close()


@pytest.mark.parametrize("late", [lambda: "late", wrong])
async def test_what_an_abandoned_thread_brings_back_is_dropped(
    threads: Threads, door: threading.Event, late: Any
) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    ran_in: list[threading.Thread] = []

    def work() -> None:
        ran_in.append(me())
        hold(started, door, loop)
        late()

    task = asyncio.create_task(threads.run(work))
    await started.wait()
    task.cancel()
    await asyncio.wait({task})
    door.set()
    ran_in[0].join()  # it is not used again
    await asyncio.sleep(0)
    gc.collect()

    assert not threads._idle


async def test_a_result_that_comes_with_the_cancellation_is_dropped(threads: Threads) -> None:
    thread = await threads.run(me)
    task = asyncio.create_task(threads.run(lambda: None))
    await asyncio.sleep(0)
    while not threads._idle:  # the loop stands still meanwhile: the result is on its way to it
        pass

    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert await threads.run(me) is thread


async def test_another_error_thrown_into_the_caller_abandons_the_thread(
    threads: Threads, door: threading.Event
) -> None:
    started = asyncio.Event()
    coroutine = threads.run(hold, started, door, asyncio.get_running_loop())
    coroutine.send(None)
    await started.wait()

    with pytest.raises(KeyError):
        coroutine.throw(KeyError())

    assert not threads._at_work


async def test_a_call_that_is_collected_as_garbage_is_abandoned(
    threads: Threads, door: threading.Event
) -> None:
    started = asyncio.Event()
    coroutine = threads.run(hold, started, door, asyncio.get_running_loop())
    coroutine.send(None)
    await started.wait()

    with threads._lock:  # garbage is collected at any time
        del coroutine

    assert not threads._at_work


def test_a_thread_may_come_back_when_the_loop_is_closed(door: threading.Event) -> None:
    threads = Threads()
    ran_in: list[threading.Thread] = []

    async def leave() -> None:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            ran_in.append(me())
            hold(started, door, loop)

        coroutine = threads.run(work)
        coroutine.send(None)
        await started.wait()
        left.append(coroutine)

    left: list[Any] = []
    asyncio.run(leave())
    threads.close()
    door.set()
    ran_in[0].join()
    left.pop().close()


async def test_idle_threads_end() -> None:
    threads = Threads(idle=0.001)

    (await threads.run(me)).join()

    assert not threads._idle
    assert (await threads.run(me)).name == "outlast-2"


async def test_a_call_at_the_last_moment_keeps_a_thread(threads: Threads) -> None:
    class Inbox:
        """One whose thread has waited long enough when the call comes."""

        def get(self, timeout: float | None = None) -> str:
            if timeout:
                raise Empty
            return "call"

    assert threads._receive(Inbox()) == "call"  # type: ignore[arg-type, comparison-overlap]


async def test_close_ends_idle_threads(threads: Threads) -> None:
    thread = await threads.run(me)

    threads.close()
    threads.close()

    thread.join()


async def test_close_ends_threads_at_work_when_they_are_done(door: threading.Event) -> None:
    threads = Threads()
    task = await begin(threads, door)
    thread = next(thread for thread in threading.enumerate() if thread.name == "outlast-1")

    threads.close()
    door.set()

    assert await task == "late"
    thread.join()
    later = await threads.run(me)
    later.join()


async def test_no_more_threads_is_said_to_who_asked(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await asyncio.gather(threads.run(me), threads.run(me))

    assert not threads._at_work
    assert (await threads.run(me)).name == "outlast-3"


async def test_a_result_does_not_outlive_its_last_user(threads: Threads) -> None:
    class Thing:
        pass

    gc.disable()
    try:
        thing = weakref.ref(await threads.run(Thing))
        for _ in range(100_000):  # its thread comes to rest meanwhile
            if thing() is None:
                break
            await asyncio.sleep(0)
        assert thing() is None
    finally:
        gc.enable()


async def test_an_error_does_not_outlive_its_last_user(threads: Threads) -> None:
    class Wrong(Exception):
        pass

    def fail() -> NoReturn:
        raise Wrong

    async def error_of_a_call() -> weakref.ref[Wrong]:
        try:
            await threads.run(fail)
        except Wrong as error:
            return weakref.ref(error)

    gc.disable()
    try:
        error = await error_of_a_call()
        await threads.run(me)
        assert error() is None
    finally:
        gc.enable()


async def test_what_comes_back_belongs_to_whom_the_call_belongs(threads: Threads) -> None:
    WHO.set("the caller")
    call = _Call(lambda: None)
    thread = threading.Thread(target=call.hand_back)

    thread.start()
    thread.join()

    (handle,) = ready(asyncio.get_running_loop())
    context = context_of(handle)
    await call.ended
    assert context is not None
    assert context[WHO] == "the caller"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_child_begins_with_no_threads(threads: Threads) -> None:
    thread = await threads.run(me)
    assert thread.name == "outlast-1"
    threads._lock.acquire()  # as if another thread held it at the fork
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage sees no children
        asyncio.events._set_running_loop(None)
        asyncio.set_event_loop(None)
        loop = asyncio.new_event_loop()
        there = loop.run_until_complete(threads.run(me))
        os._exit(0 if there.name == "outlast-2" else 1)
    threads._lock.release()

    _, status = await asyncio.to_thread(os.waitpid, child, 0)

    assert status == 0
    assert await threads.run(me) is thread


async def test_another_process_id_is_a_new_beginning(threads: Threads) -> None:
    thread = await threads.run(me)
    idle = threads._idle

    threads._pid = -1

    assert await threads.run(me) is not thread
    idle.pop().put(None)


STUCK = """
import asyncio, threading
from outlast.engine.insides import context_of, ready
from outlast.engine.threads import Threads

async def main():
    threads, started, loop = Threads(), asyncio.Event(), asyncio.get_running_loop()
    await threads.run(int)

    def stick():
        loop.call_soon_threadsafe(started.set)
        threading.Event().wait()

    stuck = asyncio.create_task(threads.run(stick))
    await started.wait()
    stuck.cancel()

asyncio.run(main())
print("over")
"""


def test_a_stuck_thread_does_not_keep_the_process_alive() -> None:
    process = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=30, check=True
    )

    assert process.stdout == "over\n"
    assert not process.stderr
