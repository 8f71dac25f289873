"""A turn in miniature, on every loop."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeAlias, TypeVar

import pytest

from outlast.engine.belongings import Look, Scope, settle
from outlast.engine.rest import held_by
from outlast.engine.stopping import stop_all

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
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(_python, id="python"),
    pytest.param(
        _uvloop,
        id="uvloop",
        marks=pytest.mark.skipif(not find_spec("uvloop"), reason="no uvloop"),
    ),
]
if sys.version_info >= (3, 12):  # before that, no task is eager
    LOOPS.append(pytest.param(_eager, id="eager"))


NUMBERED = pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0), reason="it names all tasks that a factory makes 'None'"
)


class Turn:
    """What a handler sees, and what a test asks of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.scope = Scope(loop)
        self.waits: dict[str, asyncio.Future[str]] = {}
        self.cancelled: list[str] = []
        self.closed: list[bool] = []
        self.said: list[dict[str, Any]] = []
        self.door = threading.Event()
        self.outside: asyncio.Future[str] = loop.create_future()
        loop.set_exception_handler(lambda _, context: self.said.append(context))

    def begin(self, handler: Callable[[Turn], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Return a task of the turn; the first one runs in the context of the turn itself."""
        context = self.scope.context if self.scope.first is None else self.scope.context.copy()
        task = self.loop.create_task(handler(self), context=context)
        self.scope.first = self.scope.first or task
        return task

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
        assert await settle(self.scope, 5)

    def look(self) -> set[asyncio.Future[Any]]:
        return held_by(set(self.waits.values()), Look(self.loop).of(self.scope))

    async def stop(
        self, error: BaseException | None = None, grace: float = 5
    ) -> list[asyncio.Task[Any]]:
        return await stop_all(self.scope, error, grace)


Handler: TypeAlias = Callable[[Turn], Coroutine[Any, Any, Any]]


def play(turn: Turn, scenario: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the scenario in the turn's loop."""
    return turn.loop.run_until_complete(scenario())


def observed(handler: Handler, seen: list[BaseException]) -> Handler:
    """Return the handler, which takes note of the errors that it sees."""

    async def observing(turn: Turn) -> Any:
        try:
            return await handler(turn)
        except BaseException as error:
            seen.append(error)
            raise

    return observing


def named(handler: object) -> str | None:
    """Return what a test is called that is about the handler."""
    return getattr(handler, "__name__", None)
