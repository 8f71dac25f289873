"""What asyncio and uvloop keep to themselves: who made what, and what waits for what.

The one rule that must not be broken: here things are found, not guessed. Where a version keeps them
elsewhere, nothing is found, and whoever asked takes it for unknown.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from asyncio import AbstractEventLoop, Future, Handle, Queue, Task, TaskGroup, TimerHandle
from asyncio import tasks as _tasks
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from operator import attrgetter, methodcaller
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, Protocol

# What a loop has


def context_of(made: Task[Any] | Handle) -> Context | None:
    """Return the context that a task, a timer or a callback runs in."""
    kind = type(made)
    way = _ways.get(kind)
    if way is None:
        way = _ways[kind] = _way_to_context(kind, made)
    return way(made)


def _way_to_context(kind: type, made: object) -> Callable[[Any], Context | None]:
    if hasattr(kind, "get_context"):
        return methodcaller("get_context")
    if hasattr(made, "_context"):
        return attrgetter("_context")
    # Before Python 3.12, and in uvloop, it is all that is known of what is written in C.
    return _first_context


def _first_context(made: object) -> Context | None:
    # What it refers to first is its own.
    for it in gc.get_referents(made):
        if type(it) is Context:
            return it
    return None


class HasContext(Protocol):
    """What keeps a context, once."""

    @property
    def context(self) -> Context | None:
        """The context, where it is known."""
        ...


def is_alone_with(keeper: HasContext, task: Task[Any]) -> bool:
    """Say whether nothing but the task, which waits or has ended, runs in the keeper's context.

    False where that is not certain.
    """
    if keeper.context is None:
        return False
    holders = 2  # the keeper and the task
    if not task.done():
        waiter, waker = waiter_of(task), waker_of(task)
        if waiter is None or waiter.done() or waker is None or waker[1] is not keeper.context:
            return False
        holders += 1
        del waker  # which holds it, too
    # One more is who asks.
    return _count_holders is not None and _count_holders(keeper.context) == holders + 1


def ready(loop: AbstractEventLoop) -> list[Handle]:
    """Return the callbacks that are about to run."""
    handles: Iterable[Handle] | None = getattr(loop, "_ready", None)
    if handles is not None:
        return [*handles]  # a copy, made at once: other threads add to it
    # uvloop keeps them in its only deque.
    return [handle for it in _referents(loop, deque) for handle in [*it]]


def timers(loop: AbstractEventLoop) -> list[TimerHandle]:
    """Return the timers that may still ring."""
    kept: Iterable[TimerHandle] | None = getattr(loop, "_scheduled", None)
    if kept is None:
        # uvloop keeps them in one of its sets.
        members = (member for it in _referents(loop, set) for member in [*it])
        kept = [member for member in members if hasattr(member, "when")]
    return [timer for timer in kept if not timer.cancelled()]


def _referents(made: object, kind: type) -> Iterator[Any]:
    return (it for it in gc.get_referents(made) if type(it) is kind)


# What waits for what


def waiter_of(task: Task[Any]) -> Future[Any] | None:
    """Return the future whose end wakes the task; None, or one that has ended, if it runs next."""
    waiter: Future[Any] | None = getattr(task, "_fut_waiter", None)
    return waiter


def waker_of(task: Task[Any]) -> tuple[Callable[[Future[Any]], object], Context] | None:
    """Return the callback by which its waiter will wake the task, and its context."""
    for callback, context in _callbacks(waiter_of(task)):
        if getattr(callback, "__self__", None) is task and callback.__name__.endswith("wakeup"):
            return callback, context
    return None


def error_of(future: Future[Any]) -> BaseException | None:
    """Return the error by which a future has ended, which then still counts as not retrieved."""
    error: BaseException | None = getattr(future, "_exception", None)
    return error


def frames_of(task: Task[Any]) -> list[FrameType]:
    """Return the frames through which a task waits, outermost first."""
    frames: list[FrameType] = []
    awaitable: object = task.get_coro()
    while awaitable is not None:
        for frame_of, inner in _SUSPENDED:
            if (frame := getattr(awaitable, frame_of, None)) is not None:
                frames.append(frame)
                awaitable = getattr(awaitable, inner)
                break
        else:
            awaitable = _wrapped(awaitable)
    return frames


def _wrapped(awaitable: object) -> object:
    # Python puts an object of its own, without attributes, around the generator of an `async for`.
    if type(awaitable).__module__ != "builtins":
        return None
    kinds = (AsyncGeneratorType, CoroutineType, GeneratorType)
    return next((it for kind in kinds for it in _referents(awaitable, kind)), None)


def causes_of(
    waiter: Future[Any], frames: Sequence[FrameType], tasks: Iterable[Task[Any]]
) -> Collection[Future[Any]]:
    """Return what alone can end a wait.

    That is the waiter itself, or what a `wait`, a `TaskGroup` or an `as_completed` waits for.

    Args:
        waiter: what a task waits for.
        frames: those of this task.
        tasks: some of which an `as_completed` may wait for.
    """
    causes: Collection[Future[Any]] | None = None
    codes = [frame.f_code for frame in frames[-2:]]
    local = frames[-1].f_locals if frames else {}
    if codes[-1:] == [_WAIT] and local.get("waiter") is waiter:
        causes = local.get("fs")
    elif codes[-1:] == [_CLOSE] and _kept(local, "_on_completed_fut") is waiter:
        causes = _kept(local, "_tasks")
    elif codes == [_NEXT, _GET] and local.get("getter") is waiter:
        causes = _not_completed(frames[-2], tasks)
    return causes or [waiter]


def closes_group(frames: Sequence[FrameType]) -> bool:
    """Say whether a task waits for the tasks of a `TaskGroup` that it leaves."""
    return any(frame.f_code is _CLOSE for frame in frames[-1:])


def closes_generator(task: Task[Any]) -> bool:
    """Say whether all that a task does is to close an async generator that nobody exhausted."""
    return type(task.get_coro()).__name__ == "async_generator_athrow"


def inner_of(future: Future[Any]) -> list[Future[Any]]:
    """Return what alone can end the future that a `gather` or a `shield` has made."""
    if isinstance(future, _GATHERING):
        return [*getattr(future, "_children", ())]
    return _captured(future, _SHIELD, "inner")


def outer_of(future: Future[Any]) -> list[Future[Any]]:
    """Return the futures that a `gather` or a `shield` has made of this one."""
    return _captured(future, _GATHER | _SHIELD, "outer")


def groups_of(tasks: Iterable[Task[Any]]) -> list[dict[str, Any]]:
    """Return the variables of the task groups to which the tasks belong."""
    owners = {getattr(it, "__self__", None) for task in tasks for it, _ in _callbacks(task)}
    return [vars(owner) for owner in owners if isinstance(owner, TaskGroup)]


def _callbacks(future: Future[Any] | None) -> list[tuple[Callable[..., object], Context]]:
    return [*(getattr(future, "_callbacks", None) or ())]


def _captured(future: Future[Any], makers: Collection[CodeType], name: str) -> list[Any]:
    """Return a variable of the functions that have left a callback of their own in the future."""
    values: list[Any] = []
    for callback, _ in _callbacks(future):
        code: CodeType | None = getattr(callback, "__code__", None)
        if code is not None and code in makers and name in code.co_freevars:
            cells: Any = getattr(callback, "__closure__", None)
            values.append(cells[code.co_freevars.index(name)].cell_contents)
    return values


def _kept(local: Mapping[str, Any], name: str) -> Any:
    """Return what the object has to whose method the variables belong."""
    return getattr(local.get("self"), name, None)


def _code(function: object) -> CodeType | None:
    return getattr(function, "__code__", None)


def _codes(function: object) -> dict[str, CodeType]:
    """Return the functions inside a function."""
    constants = getattr(_code(function), "co_consts", ())
    return {it.co_name: it for it in constants if isinstance(it, CodeType)}


_count_holders: Callable[[object], int] | None = getattr(sys, "getrefcount", None)
_ways: dict[type, Callable[[Any], Context | None]] = {}
_SUSPENDED = (("cr_frame", "cr_await"), ("ag_frame", "ag_await"), ("gi_frame", "gi_yieldfrom"))
_GATHERING: Any = getattr(_tasks, "_GatheringFuture", ())
_GATHER = frozenset(_codes(asyncio.gather).values())
_SHIELD = frozenset(_codes(asyncio.shield).values())
_WAIT = _code(getattr(_tasks, "_wait", None))
_CLOSE = _code(getattr(TaskGroup, "_aexit", TaskGroup.__aexit__))
_GET = _code(getattr(Queue, "get", None))

if sys.version_info >= (3, 13):  # pragma: no cover - one run has one version
    _NEXT = _code(getattr(getattr(_tasks, "_AsCompletedIterator", None), "_wait_for_one", None))

    def _not_completed(frame: FrameType, _: object) -> Collection[Future[Any]] | None:
        todo: Collection[Future[Any]] | None = _kept(frame.f_locals, "_todo")
        return todo

else:  # pragma: no cover - one run has one version
    _NEXT = _codes(asyncio.as_completed).get("_wait_for_one")
    _AS_COMPLETED = frozenset(_codes(asyncio.as_completed).values())

    def _not_completed(
        frame: FrameType, tasks: Iterable[Task[Any]]
    ) -> Collection[Future[Any]] | None:
        # Only the callback that it has left in each of its tasks knows all of them.
        for task in tasks:
            queues = _captured(task, _AS_COMPLETED, "done")
            for queue, todo in zip(queues, _captured(task, _AS_COMPLETED, "todo"), strict=True):
                if queue is frame.f_locals.get("done"):
                    left: Collection[Future[Any]] = todo
                    return left
        return None
