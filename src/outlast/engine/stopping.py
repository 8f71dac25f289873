"""How a turn is stopped: cancelled, or unwound by an error of ours wherever it waits.

The one rule that must not be broken: nothing of the turn is left running unnoticed. Whoever stops
it stands outside of it.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Final, TypeAlias, cast

from outlast.engine import insides
from outlast.engine.belongings import Belongings, Look, Scope, glance
from outlast.errors import Unwound

_Kind: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

_PATIENCE: Final = 0.05
"""Seconds for which a turn that never rests keeps an error from being thrown into it."""


async def stop_all(
    scope: Scope, error: BaseException | None, grace: float, found: Belongings | None = None
) -> list[Task[Any]]:
    """End every task of the turn; return those that would not end.

    With an error, a copy of it is raised wherever the turn waits, and what `finally` and `async
    with` do then has `grace` seconds. After that its tasks are cancelled, and have as long again.
    Without an error they are cancelled, and cancelled once more where they have swallowed that.
    An async generator that was left early is closed meanwhile, and cancelled only in the end.

    A task that would not end is given up: it may go on, and the log will not mention it. What else
    a task raises while it is stopped is logged by asyncio, as always, unless somebody awaits it.

    Args:
        scope: the turn's.
        error: what it is unwound by; None: it is cancelled.
        grace: seconds.
        found: what the turn had when it was seen at rest.
    """
    is_known = found is not None and found.are_at_rest
    left = [*found.tasks] if found and is_known else await _left(scope)
    if error is None:
        left = await _wait_for_end(scope, left, grace, _cancel_early)
    elif left:
        with _patient_groups(left):
            _hear(left, type(error))
            # Where all wait, each sees the error there, or gets it from those it waits for.
            if not is_known:
                left = await _at_rest(scope, min(grace, _PATIENCE))
            with _patient_groups(left):
                _throw_into(left, error)
                left = await _wait_for_end(scope, left, grace, _leave_alone)
    left = await _wait_for_end(scope, left, grace, _cancel)
    for task in left:
        cast("Any", task)._log_destroy_pending = False  # noqa: SLF001 - nobody else can say so
        task.add_done_callback(_retrieve)
    return left


def expect(tasks: Iterable[Task[Any]], kind: type[BaseException]) -> None:
    """Keep asyncio from logging an error of this kind in one of the tasks that nobody awaits."""
    _hear(tasks, kind)


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


async def _left(scope: Scope, known: Collection[Task[Any]] = ()) -> list[Task[Any]]:
    """Return the tasks of a turn without the one that asks; few turns leave any behind.

    What was begun in this round of the loop may be missing, unless it is all that there is.

    Args:
        scope: the turn's.
        known: those that it had a while ago, which may be all.
    """
    known = known or [scope.first] if scope.first else known
    if known and scope.has_only(known):
        return [task for task in known if not task.done()]
    # An async generator that was left early is about to get a task that closes it.
    return _others(scope, glance(scope)) or await _at_rest(scope, _PATIENCE)


async def _at_rest(scope: Scope, patience: float) -> list[Task[Any]]:
    """Return all tasks of a turn without the one that asks, once it has done all it can by itself.

    Of one that never rests they are returned after `patience` seconds.
    """
    loop = scope.loop
    end = loop.time() + patience
    while True:
        found = glance(scope)
        if not found.is_stirring:
            return _others(scope, found)
        if loop.time() >= end:
            return _others(scope, Look(loop).of(scope))
        await asyncio.sleep(0)


def _others(scope: Scope, found: Belongings) -> list[Task[Any]]:
    asking = asyncio.current_task(scope.loop)
    return [task for task in found.tasks if task is not asking]


async def _wait_for_end(
    scope: Scope,
    left: list[Task[Any]],
    grace: float,
    ask: Callable[[Task[Any]], object],
) -> list[Task[Any]]:
    """Ask each task of the turn once, and return those that have not ended after `grace`."""
    loop = scope.loop
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
        left = await _left(scope, asked)
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
