"""A machine whose time flies: whenever everything waits, its clock jumps to what comes next.

`SkippingLoop` is an event loop on a `FakeClock`: a sleep of three days takes no time, and a test
waits for nothing. The one rule that must not be broken: time moves only while nothing is ready to
run, so that what happens first does not depend on how fast the test's machine is.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from outlast.engine.clock import System
from outlast.engine.threads import Threads
from outlast.testing.clock import FakeClock

P = ParamSpec("P")
T = TypeVar("T")

_CREEPS: Final = 1e-6
"""Seconds for every look at what is ready: what never rests must not stop the time."""

_THREAD_MAY_TAKE: Final = 0.005
"""Real seconds for which a thread at work holds up the time."""


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop that skips the time in which nothing happens."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock: FakeClock = clock or FakeClock()
        self.threads_at_work: Callable[[], int] = int
        super().__init__(_SkippingSelector(self))

    def time(self) -> float:
        """Return the clock's seconds."""
        return self.clock.boot()


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.clock.advance(_CREEPS)
        ready = super().select(0)
        if not ready and timeout is None:
            return super().select(None)
        if not ready and timeout and self._loop.threads_at_work():
            ready = super().select(_THREAD_MAY_TAKE)
        if not ready and timeout:
            self._loop.clock.advance(timeout)
        return ready


class FakeSystem(System):
    """A machine with a clock of its own, and chance that is the same every time."""

    def __init__(self, loop: SkippingLoop, seed: int = 0) -> None:
        super().__init__()
        self._clock, self._random = loop.clock, random.Random(seed)
        handlers, steps = _CountedThreads(), _CountedThreads()
        self.handlers: Threads = handlers
        self.steps: Threads = steps
        loop.threads_at_work = lambda: handlers.at_work + steps.at_work

    def wall(self) -> float:
        """Return seconds since 1970."""
        return self._clock.wall()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._clock.boot()

    def boot(self) -> float:
        """Return seconds since the machine started."""
        return self._clock.boot()

    def boot_id(self) -> str:
        """Return what tells this start of the machine from the others."""
        return self._clock.boot_id()

    def run_beside(self, work: Callable[[], Awaitable[None]], name: str) -> Awaitable[None]:
        """Run the coroutine in our own loop: there is one time."""

        async def run() -> None:
            await work()

        beside: Coroutine[Any, Any, None] = run()
        return self.spawn(beside, name)


class _CountedThreads(Threads):
    """Threads that say how many of them are at work, abandoned ones included."""

    def __init__(self) -> None:
        super().__init__()
        self._working: set[object] = set()

    @property
    def at_work(self) -> int:
        return len(self._working)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        mark = object()
        self._working.add(mark)

        def call() -> T:
            try:
                return function(*args, **kwargs)
            finally:
                self._working.discard(mark)

        return await super().run(call)
