"""What the loops at hand do not show: how it is where things are kept elsewhere."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import Any

import pytest

from outlast.engine import insides


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Made:
    """Something that refers to its context, and says so to nobody."""

    __slots__ = ("context", "other")

    def __init__(self, *contexts: Context) -> None:
        self.context, self.other = (*contexts, None, None)[:2]


class Hidden:
    """A loop that shows neither its callbacks nor its timers."""

    __slots__ = ("names", "soon", "timers")

    def __init__(self, soon: list[asyncio.Handle], timers: list[asyncio.TimerHandle]) -> None:
        self.soon, self.timers, self.names = deque(soon), {*timers}, {"a", "b"}


def test_a_context_is_what_it_is_said_to_be() -> None:
    context = Context()

    class Saying:
        def get_context(self) -> Context:
            return context

    class Having:
        _context = context

    saying: Any = Saying()
    having: Any = Having()

    assert insides.context_of(saying) is context
    assert insides.context_of(having) is context


def test_an_unsaid_context_is_the_first_one_referred_to() -> None:
    context: Context = Context()
    made: Any = Made(context, Context())
    nothing: Any = Made()

    assert insides.context_of(made) is context
    assert insides.context_of(nothing) is None


async def test_who_has_a_context_for_itself_is_known_where_holders_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Keeper:
        def __init__(self, context: Context | None) -> None:
            self.context = context

    keeper = Keeper(Context())
    task = asyncio.create_task(asyncio.sleep(0), context=keeper.context)
    await task

    assert insides.is_alone_with(keeper, task)
    assert not insides.is_alone_with(Keeper(None), task)
    assert not insides.is_alone_with(Keeper(keeper.context), task)
    monkeypatch.setattr(insides, "_count_holders", None)
    assert not insides.is_alone_with(keeper, task)


def test_hidden_callbacks_and_timers_are_found(loop: asyncio.AbstractEventLoop) -> None:
    soon = asyncio.Handle(int, (), loop)
    later, never = (asyncio.TimerHandle(0, int, (), loop) for _ in range(2))
    hidden: Any = Hidden([soon], [later, never])
    never.cancel()

    assert insides.ready(hidden) == [soon]
    assert insides.timers(hidden) == [later]


def test_where_nothing_is_kept_nothing_is_found() -> None:
    nothing: Any = object()

    assert insides.ready(nothing) == []
    assert insides.timers(nothing) == []
    assert insides.waiter_of(nothing) is None
    assert insides.waker_of(nothing) is None
    assert insides.error_of(nothing) is None
    assert insides.inner_of(nothing) == []
    assert insides.outer_of(nothing) == []
    assert insides.groups_of([nothing]) == []
    assert insides.causes_of(nothing, [], []) == [nothing]


async def closing_a_group(name: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait(), name=name)


async def waiting(name: str) -> None:
    await asyncio.wait([asyncio.create_task(asyncio.Event().wait(), name=name)])


async def completing(name: str) -> None:
    task = asyncio.create_task(asyncio.Event().wait(), name=name)
    for following in asyncio.as_completed([task]):
        await following


@pytest.mark.parametrize("combined", [closing_a_group, waiting, completing])
async def test_frames_tell_only_of_what_they_wait_for(
    combined: Callable[[str], Coroutine[Any, Any, None]],
) -> None:
    task = asyncio.create_task(combined("cause"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    frames, tasks = insides.frames_of(task), asyncio.all_tasks()
    waiter = insides.waiter_of(task)
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert waiter is not None

    (cause,) = insides.causes_of(waiter, frames, tasks)

    assert isinstance(cause, asyncio.Task)
    assert cause.get_name() == "cause"
    assert insides.causes_of(other, frames, tasks) == [other]
    cause.cancel()
    task.cancel()
    await asyncio.wait([task, cause])
