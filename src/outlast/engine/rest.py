"""What belongs to a turn, whether it stirs, what holds it, and how it is stopped.

The one rule that must not be broken: a turn is held by its own waits only where every task in it is
*known* to be. What is not understood holds it too: it keeps its memory, and stays right.

There is no task factory and no patched loop. Tasks, timers and callbacks inherit the context in
which they were made, and `turn_of` says there whose they are; so what is not to belong to a turn is
made in another context. Every look goes through all tasks, or all ready callbacks, of the loop: it
is for moments when something waits, never for a step. Whoever looks stands outside the turn.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, Task, TimerHandle
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from copy import copy
from types import FrameType
from typing import Any, Final, NamedTuple, TypeAlias, cast
from weakref import WeakKeyDictionary

from outlast.engine import insides
from outlast.errors import Unwound

_Kind: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

turn_of: Final[ContextVar[object | None]] = ContextVar("turn_of", default=None)
"""The mark of a turn, an object that is its own alone: set where its first task is made."""

_PATIENCE: Final = 0.05
"""Seconds for which a turn that never rests keeps an error from being thrown into it."""

_looks: WeakKeyDictionary[AbstractEventLoop, set[object]] = WeakKeyDictionary()


class Held(Exception):
    """Something else than its own waits holds the turn, or nothing does.

    Attributes:
        reason: what, for people.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Belongings(NamedTuple):
    """What a turn has in a loop: the tasks that have not ended, the timers that may still ring."""

    tasks: Sequence[Task[Any]]
    timers: Sequence[TimerHandle]


class Survey(dict[object, Belongings]):
    """The belongings of each turn, by its mark; it holds until the loop goes on."""

    def __missing__(self, mark: object) -> Belongings:
        return Belongings((), ())


# What belongs to it


def survey(loop: AbstractEventLoop) -> Survey:
    """Return, in one pass for all turns, what each of them has in the loop."""
    tasks: dict[object, list[Task[Any]]] = {}
    timers: dict[object, list[TimerHandle]] = {}
    for task in asyncio.all_tasks(loop):
        tasks.setdefault(_mark_of(task), []).append(task)
    for timer in insides.timers(loop):
        timers.setdefault(_mark_of(timer), []).append(timer)
    return Survey(
        (mark, Belongings(tasks.get(mark, ()), timers.get(mark, ())))
        for mark in tasks.keys() | timers.keys()
        if mark is not None
    )


def tasks_of(loop: AbstractEventLoop, mark: object) -> list[Task[Any]]:
    """Return the tasks of a turn that have not ended, in the order in which they were made."""
    # The loop keeps them in a set; the names that asyncio gives are numbered.
    mine = (task for task in asyncio.all_tasks(loop) if _mark_of(task) is mark)
    return sorted(mine, key=lambda task: (len(task.get_name()), task.get_name()))


def is_stirring(loop: AbstractEventLoop, mark: object) -> bool:
    """Say whether anything of the turn is about to run: a task, or another callback."""
    return any(_mark_of(it) is mark and not it.cancelled() for it in insides.ready(loop))


def can_see(loop: AbstractEventLoop) -> bool:
    """Say whether we see whose timers and callbacks the loop has; else all answers are wrong."""
    mark, context = object(), copy_context()
    context.run(turn_of.set, mark)
    soon = loop.call_soon(int, context=context)
    later = loop.call_later(3600, int, context=context)
    try:
        return is_stirring(loop, mark) and bool(survey(loop)[mark].timers)
    finally:
        soon.cancel()
        later.cancel()


async def settle(loop: AbstractEventLoop, mark: object, patience: float) -> bool:
    """Let the loop go on until nothing of the turn stirs; False if that takes `patience` seconds.

    Then the turn has done all it can do by itself: its tasks have ended or wait for something.
    """
    end = loop.time() + patience
    while is_stirring(loop, mark):
        if loop.time() >= end:
            return False
        await asyncio.sleep(0)
    return True


def _mark_of(made: Task[Any] | asyncio.Handle) -> object | None:
    context = insides.context_of(made)
    return None if context is None else context.get(turn_of)


# What holds it


def held_by(
    loop: AbstractEventLoop,
    mark: object,
    waits: Collection[Future[Any]],
    belongings: Belongings | None = None,
) -> set[Future[Any]]:
    """Return every future that holds the turn, if those are all its own.

    Its own are its `waits`, its tasks, and what asyncio's `gather`, `wait`, `wait_for` without a
    timeout, `TaskGroup`, `shield` and `as_completed` make of them. What runs elsewhere for the
    turn, such as a step, is known to whoever has started it, not here.

    Args:
        loop: the turn's loop.
        mark: the turn's mark.
        waits: the futures that the turn waits for, and that nobody but us ends.
        belongings: what the turn has, of a survey after which the loop has not gone on.

    Raises:
        Held: a task waits for something else, or is about to run, a timer may ring, or it waits
            for nothing of its own.
    """
    tasks, timers = survey(loop)[mark] if belongings is None else belongings
    if not waits:
        raise Held("it waits for nothing of its own")
    if not tasks:
        raise Held("its tasks are not to be seen")
    if is_stirring(loop, mark):
        raise Held("something of it is about to run")
    its_own = {*waits, *tasks}
    held: set[Future[Any]] = set()
    for task in tasks:
        held |= _held_by(task, its_own, tasks)
    if timers:
        raise Held(f"a timer of it is running: {_name_of(timers[0])}")
    return held


def _held_by(
    task: Task[Any], its_own: Collection[Future[Any]], tasks: Sequence[Task[Any]]
) -> set[Future[Any]]:
    waiter = insides.waiter_of(task)
    if waiter is None or waiter.done():
        raise Held(f"{task.get_name()} is about to run")
    frames = insides.frames_of(task)
    held = {waiter}
    causes = [*insides.causes_of(waiter, frames, tasks)]
    while causes:
        future = causes.pop()
        held.add(future)
        # A task of its own is looked at by itself.
        if not future.done() and future not in its_own:
            inner = insides.inner_of(future)
            if not inner:
                raise Held(f"{task.get_name()} waits in {_place(frames)}")
            causes += inner
    return held


def _place(frames: Sequence[FrameType]) -> str:
    if not frames:
        return "what is no coroutine"
    return f"{frames[-1].f_code.co_qualname}, line {frames[-1].f_lineno}"


def _name_of(timer: TimerHandle) -> str:
    callback = getattr(timer, "_callback", timer)
    return getattr(callback, "__qualname__", type(callback).__name__)


# How it is stopped


async def stop_all(
    loop: AbstractEventLoop, mark: object, error: BaseException | None, grace: float
) -> list[Task[Any]]:
    """End every task of the turn; return those that would not end.

    With an error, a copy of it is raised wherever the turn waits, and what `finally` and `async
    with` do then has `grace` seconds. After that its tasks are cancelled, and have as long again.
    Without an error they are cancelled, and cancelled once more where they have swallowed that.
    An async generator that was left early is closed meanwhile, and cancelled only in the end.

    A task that would not end is given up: it may go on, and the log will not mention it. What else
    a task raises while it is stopped is logged by asyncio, as always, unless somebody awaits it.
    """
    left = await _left(loop, mark)
    if error is None:
        left = await _wait_for_end(loop, mark, left, grace, _cancel_early)
    elif left:
        with _patient_groups(left):
            _hear(left, type(error))
            # Where all wait, each sees the error there, or gets it from those it waits for.
            await settle(loop, mark, min(grace, _PATIENCE))
            left = await _left(loop, mark)
            with _patient_groups(left):
                _throw_into(left, error)
                left = await _wait_for_end(loop, mark, left, grace, _leave_alone)
    left = await _wait_for_end(loop, mark, left, grace, _cancel)
    for task in left:
        cast("Any", task)._log_destroy_pending = False  # noqa: SLF001 - nobody else can say so
        task.add_done_callback(_retrieve)
    return left


def expect(loop: AbstractEventLoop, mark: object, kind: type[BaseException]) -> None:
    """Keep asyncio from logging an error of this kind in a task of the turn that nobody awaits."""
    _hear(tasks_of(loop, mark), kind)


def throw(task: Task[Any], error: BaseException) -> bool:
    """Raise the error where the task waits; return False, and do nothing, if it does not wait.

    What it waited for is given up as when the task is cancelled; but what a `gather` or a `shield`
    waits for goes on.
    """
    waiter, waker = insides.waiter_of(task), insides.waker_of(task)
    if waiter is None or waiter.done() or waker is None:
        return False
    # Woken by a future of ours, the task sees this error, whatever becomes of its waiter.
    thrown = task.get_loop().create_future()
    thrown.set_exception(error)
    wake, context = waker
    waiter.remove_done_callback(wake)
    if not insides.inner_of(waiter):
        waiter.cancel()
    task.get_loop().call_soon(wake, thrown, context=context)
    return True


def ended_by(task: Future[Any], kind: _Kind) -> bool:
    """Say whether a task has let an error of this kind through, alone or in a group of its kind."""
    return _is_only(insides.error_of(task), kind)


def _is_only(error: BaseException | None, kind: _Kind) -> bool:
    if isinstance(error, BaseExceptionGroup):
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return all(_is_only(part, kind) for part in parts)
    return isinstance(error, kind)


def _others(loop: AbstractEventLoop, mark: object) -> list[Task[Any]]:
    """Return the tasks of a turn without the one that asks."""
    asking = asyncio.current_task(loop)
    return [task for task in tasks_of(loop, mark) if task is not asking]


def _passes_on(task: Task[Any], told: Collection[Future[Any]]) -> bool:
    """Say whether the error will reach the task through those that it waits for."""
    return insides.waiter_of(task) in told or insides.closes_group(insides.frames_of(task))


def _throw_into(tasks: Sequence[Task[Any]], error: BaseException) -> None:
    told = {*tasks}
    # What a task waits for was mostly made after it, and is to end first.
    for task in reversed(tasks):
        if not _passes_on(task, told) and not insides.closes_generator(task):
            throw(task, copy(error))


def _leave_alone(_: Task[Any]) -> None:
    pass


def _cancel_early(task: Task[Any]) -> None:
    if not insides.closes_generator(task):
        task.cancel()


def _cancel(task: Task[Any]) -> None:
    task.cancel()


async def _left(loop: AbstractEventLoop, mark: object) -> list[Task[Any]]:
    """Return the tasks of a turn without the one that asks; few turns leave any behind."""
    tasks = _others(loop, mark) if mark in _marks_of_tasks(loop) else []
    if not tasks and is_stirring(loop, mark):
        # An async generator that was left early is about to get a task that closes it.
        await settle(loop, mark, _PATIENCE)
        tasks = _others(loop, mark)
    return tasks


def _marks_of_tasks(loop: AbstractEventLoop) -> Collection[object]:
    """Return the marks of all tasks, as they were when this was first asked in the loop's round.

    Turns that end at the same time share this look: a write that ends many of them is one write.
    A turn that had no task then has none now, if what stirs of it is asked for: nothing else makes
    tasks for it.
    """
    marks = _looks.get(loop)
    if marks is None:
        marks = _looks[loop] = {_mark_of(task) for task in asyncio.all_tasks(loop)}
        loop.call_soon(_looks.pop, loop, None, context=Context())
    return marks


async def _wait_for_end(
    loop: AbstractEventLoop,
    mark: object,
    left: list[Task[Any]],
    grace: float,
    ask: Callable[[Task[Any]], object],
) -> list[Task[Any]]:
    """Ask each task of the turn once, and return those that have not ended after `grace`."""
    end = loop.time() + grace
    asked: set[Task[Any]] = set()
    while left:
        new = [task for task in left if task not in asked]
        asked.update(new)
        _hear(new)
        # Oldest first: a group cancels its tasks before they have begun to tidy up.
        for task in new:
            ask(task)
        await asyncio.wait(left, timeout=max(0.0, end - loop.time()))
        left = await _left(loop, mark)
        if loop.time() >= end:
            break
    return left


def _hear(tasks: Iterable[Task[Any]], *kinds: type[BaseException]) -> None:
    """Keep asyncio from logging that nobody has heard of what we raise in these tasks."""
    ours: _Kind = (asyncio.CancelledError, Unwound, *kinds)

    def hear(future: Future[Any]) -> None:
        if ended_by(future, ours):
            _retrieve(future)

    heard: set[Future[Any]] = set()
    futures: list[Future[Any]] = [*tasks]
    while futures:
        future = futures.pop()
        if future not in heard:
            heard.add(future)
            futures += insides.outer_of(future)
            future.add_done_callback(hear)


def _retrieve(future: Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


@contextmanager
def _patient_groups(tasks: Iterable[Task[Any]]) -> Generator[None]:
    """Keep task groups from cancelling what is thrown into anyway, and is tidying up."""
    groups = [group for group in insides.groups_of(tasks) if group.get("_aborting") is False]
    for group in groups:
        group["_aborting"] = True
    try:
        yield
    finally:
        for group in groups:
            group["_aborting"] = False
