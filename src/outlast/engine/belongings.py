"""What belongs to a turn, and whether it stirs.

There is no task factory and no patched loop. Tasks, timers and callbacks inherit the context in
which they were made, and `turn_of` says there whose they are; so what is not to belong to a turn is
made in another context. The one rule that must not be broken: what a look says holds for as long as
the loop does not go on, and no longer.

Most turns do one thing at a time, in their first task, and of these it is known at once. For any
other one all tasks, timers and ready callbacks of the loop are gone through, once for all turns.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, Handle, Task, TimerHandle
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary, ref

from outlast.engine import insides


class Mark:
    """What the context of everything that a turn makes has in it."""

    __slots__ = ("__weakref__", "scope")

    scope: Scope

    def __init__(self, scope: Scope) -> None:
        self.scope = scope


turn_of: Final[ContextVar[Mark | None]] = ContextVar("turn_of", default=None)
"""Whose turn the code belongs to that runs."""


class Scope:
    """All that a turn makes.

    Attributes:
        loop: where it is made.
        context: of the first task, and of nothing else that we make.
        first: the first task, once it is there.
    """

    loop: AbstractEventLoop
    context: Context
    first: Task[Any] | None

    def __init__(self, loop: AbstractEventLoop, variables: Context | None = None) -> None:
        """Begin with a copy of these variables, or of our own."""
        self.loop, self.first = loop, None
        self.context = variables.copy() if variables else copy_context()
        self.context.run(turn_of.set, Mark(self))

    def close(self) -> None:
        """Let go of what belongs to a turn that is over: each refers to the others."""
        self.first, self.context = None, Context()

    @property
    def mark(self) -> Mark:
        """What tells that a context belongs to the turn."""
        mark = self.context[turn_of]
        assert mark is not None
        return mark

    @property
    def is_quiet(self) -> bool:
        """Whether it is certain that nothing is there but the first task, which waits or has ended.

        That costs the same whatever else is in the loop. Where it is not certain, look.
        """
        return self.first is not None and self.has_only([self.first])

    def has_only(self, tasks: Collection[Task[Any]]) -> bool:
        """Say whether it is certain that nothing is there but these, each waiting or at its end.

        That costs the same whatever else is in the loop.
        """
        keepers = [self if it is self.first else _Keeper(insides.context_of(it)) for it in tasks]
        if not all(map(insides.is_alone_with, keepers, tasks)):
            return False
        # Whatever else was made has a copy of one of the contexts, and so the mark. With another
        # one in the contexts themselves, the mark lives on if there is such a copy, and only then.
        before = ref(self.mark)
        _put(Mark(self), keepers)
        mark = before()
        if mark is not None:
            _put(mark, keepers)
        return mark is None


class _Keeper(NamedTuple):
    context: Context | None


def _put(mark: Mark, keepers: Iterable[Scope | _Keeper]) -> None:
    for keeper in keepers:
        assert keeper.context is not None  # else it would not have been alone with its task
        keeper.context.run(turn_of.set, mark)


class Belongings(NamedTuple):
    """What a turn has in a loop.

    Attributes:
        tasks: those that have not ended, in the order in which they were made, and what wakes each.
        timers: those that may still ring.
        is_stirring: whether anything of it is about to run: a task, or another callback.
    """

    tasks: Mapping[Task[Any], Future[Any] | None]
    timers: Sequence[TimerHandle]
    is_stirring: bool

    @property
    def are_at_rest(self) -> bool:
        """Whether the tasks have not run since, and are not about to."""
        return all(
            waiter is not None and not waiter.done() and insides.waiter_of(task) is waiter
            for task, waiter in self.tasks.items()
        )


class TooSoon(Exception):
    """The whole loop would have to be gone through, and that is not to be done again yet."""


class Look:
    """What turns have in a loop, found for all of them at once when the first one needs it.

    Attributes:
        size: how many tasks were gone through.
        took: how many seconds that took.
    """

    size: int
    took: float

    def __init__(self, loop: AbstractEventLoop, *, may_see_all: bool = True) -> None:
        self._loop, self._may_see_all = loop, may_see_all
        self.size, self.took = 0, 0.0
        self._tasks: dict[Scope, list[Task[Any]]] | None = None
        self._timers: dict[Scope, list[TimerHandle]] = {}
        self._stirring: set[Scope] = set()
        self._latest: Handle | None = None  # of those that were ready

    def of(self, scope: Scope) -> Belongings:
        """Return what the turn has; not after the loop has gone on.

        Raises:
            TooSoon: not all may be seen, and that would be needed.
        """
        if scope.is_quiet:
            first = scope.first
            assert first is not None
            waiting = {} if first.done() else {first: insides.waiter_of(first)}
            return Belongings(waiting, (), is_stirring=False)
        if self._tasks is None:
            if not self._may_see_all:
                raise TooSoon
            began = self._loop.time()
            self._tasks = self._look()
            self.took = self._loop.time() - began
        self._see_who_stirs()
        # The loop keeps them in a set; the names that asyncio gives are numbered.
        tasks = sorted(
            (task for task in self._tasks.get(scope, ()) if not task.done()),
            key=lambda task: (len(task.get_name()), task.get_name()),
        )
        return Belongings(
            {task: insides.waiter_of(task) for task in tasks},
            self._timers.get(scope, ()),
            scope in self._stirring,
        )

    def _look(self) -> dict[Scope, list[Task[Any]]]:
        tasks: dict[Scope, list[Task[Any]]] = {}
        for task in asyncio.all_tasks(self._loop):
            self.size += 1
            if scope := scope_of(task):
                tasks.setdefault(scope, []).append(task)
        for timer in insides.timers(self._loop):
            if scope := scope_of(timer):
                self._timers.setdefault(scope, []).append(timer)
        return tasks

    def _see_who_stirs(self) -> None:
        """Take note of whose callbacks came since the last time; who stirred then still counts."""
        ready = insides.ready(self._loop)
        for it in reversed(ready):
            if it is self._latest:
                break
            if not it.cancelled() and (scope := scope_of(it)):
                self._stirring.add(scope)
        self._latest = ready[-1] if ready else None


_looks: WeakKeyDictionary[AbstractEventLoop, Look] = WeakKeyDictionary()


def glance(scope: Scope) -> Belongings:
    """Return what a turn has, by a look that all who ask in the same round of the loop share.

    Whatever has run since that look was about to run. So where a turn is not stirring, all that it
    has is there; else what was begun in this round may be missing.
    """
    loop = scope.loop
    look = _looks.get(loop)
    if look is None:
        look = _looks[loop] = Look(loop)
        loop.call_soon(_looks.pop, loop, None, context=Context())
    return look.of(scope)


def is_stirring(scope: Scope) -> bool:
    """Say whether anything of the turn is about to run: a task, or another callback."""
    return any(scope_of(it) is scope and not it.cancelled() for it in insides.ready(scope.loop))


async def settle(scope: Scope, patience: float) -> bool:
    """Let the loop go on until nothing of the turn stirs; False if that takes `patience` seconds.

    Then the turn has done all it can do by itself: its tasks have ended or wait for something.
    """
    loop = scope.loop
    end = loop.time() + patience
    while is_stirring(scope):
        if loop.time() >= end:
            return False
        await asyncio.sleep(0)
    return True


def can_see(loop: AbstractEventLoop) -> bool:
    """Say whether we see whose timers and callbacks the loop has; else all answers are wrong."""
    scope = Scope(loop)
    context = scope.context.copy()
    soon = loop.call_soon(int, context=context)
    later = loop.call_later(3600, int, context=context)
    try:
        found = Look(loop).of(scope)
        return found.is_stirring and bool(found.timers)
    finally:
        soon.cancel()
        later.cancel()
        scope.close()


def scope_of(made: Task[Any] | Handle) -> Scope | None:
    """Return what a task, a timer or a callback belongs to; None if that is no turn."""
    context = insides.context_of(made)
    mark = None if context is None else context.get(turn_of)
    return None if mark is None else mark.scope
