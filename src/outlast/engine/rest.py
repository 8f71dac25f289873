"""Whether nothing but its own waits holds a turn.

The one rule that must not be broken: a turn is held by its own waits only where every task in it is
*known* to be. What is not understood holds it too: it keeps its memory, and stays right.
"""

from __future__ import annotations

from asyncio import Future, Task, TimerHandle
from collections.abc import Collection, Iterable, Sequence
from types import FrameType
from typing import Any

from outlast.engine import insides
from outlast.engine.belongings import Belongings


class Held(Exception):
    """Something else than its own waits holds the turn, or nothing does.

    Attributes:
        reason: what, for people.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def held_by(waits: Collection[Future[Any]], belongings: Belongings) -> set[Future[Any]]:
    """Return every future that holds the turn, if those are all its own.

    Its own are its `waits`, its tasks, and what asyncio's `gather`, `wait`, `wait_for` without a
    timeout, `TaskGroup`, `shield` and `as_completed` make of them. What runs elsewhere for the
    turn, such as a step, is known to whoever has started it, not here.

    Args:
        waits: the futures that the turn waits for, and that nobody but us ends.
        belongings: what the turn has, by a look after which the loop has not gone on.

    Raises:
        Held: a task waits for something else, or is about to run, a timer may ring, or it waits
            for nothing of its own.
    """
    tasks, timers, is_stirring = belongings
    if not waits:
        raise Held("it waits for nothing of its own")
    if not tasks:
        raise Held("its tasks are not to be seen")
    if is_stirring:
        raise Held("something of it is about to run")
    its_own = {*waits, *tasks}
    held: set[Future[Any]] = set()
    for task, waiter in tasks.items():
        held |= _held_by(task, waiter, its_own, tasks)
    if timers:
        raise Held(f"a timer of it is running: {_name_of(timers[0])}")
    return held


def _held_by(
    task: Task[Any],
    waiter: Future[Any] | None,
    its_own: Collection[Future[Any]],
    tasks: Iterable[Task[Any]],
) -> set[Future[Any]]:
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
