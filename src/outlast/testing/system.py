"""A machine whose time flies: whenever everything waits, its clock jumps to what comes next.

`SkippingLoop` is an event loop on a `FakeClock`: a sleep of three days takes no time, and a test
waits for nothing. The one rule that must not be broken: time moves only while nothing is ready to
run, so that what happens first does not depend on how fast the test's machine is.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import FrameType
from typing import Any, Final, ParamSpec, TypeVar

from outlast.engine.clock import System
from outlast.engine.threads import Threads
from outlast.testing.clock import FakeClock

P = ParamSpec("P")
T = TypeVar("T")

_CREEPS: Final = 1e-6
"""Seconds for every look at what is ready: what never rests must not stop the time."""

_THREAD_MAY_TAKE: Final = 1.0
"""Real seconds for which a thread at work holds up the time."""

_THREAD_MAY_WAIT: Final = 0.01
"""Real seconds for which one holds it up that waits, perhaps for what has just come."""


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop that skips the time in which nothing happens."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock: FakeClock = clock or FakeClock()
        self.held_up_for: Callable[[], float] = float
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
        if not ready and timeout:
            ready = super().select(self._loop.held_up_for())
        if not ready and timeout:
            self._loop.clock.advance(timeout)
        return ready


class SeededSystem(System):
    """A machine that goes by a clock that is moved by hand, and whose chance comes from a seed."""

    isolates = False  # what runs elsewhere has a time of its own

    def __init__(self, clock: FakeClock, seed: int = 0) -> None:
        super().__init__()
        self._clock, self._random = clock, random.Random(seed)

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


class FakeSystem(SeededSystem):
    """The machine of a `SkippingLoop`."""

    def __init__(self, loop: SkippingLoop, seed: int = 0) -> None:
        super().__init__(loop.clock, seed)
        handlers, steps = _CountedThreads(), _CountedThreads()
        self.handlers: Threads = handlers
        self.steps: Threads = steps
        loop.held_up_for = lambda: max(handlers.hold_up_for(), steps.hold_up_for())

    def run_beside(self, work: Callable[[], Awaitable[None]], name: str) -> Awaitable[None]:
        """Run the coroutine in our own loop: there is one time."""

        async def run() -> None:
            await work()

        beside: Coroutine[Any, Any, None] = run()
        return self.spawn(beside, name)


class _CountedThreads(Threads):
    """Threads that say how long the time is to wait for them, abandoned ones included."""

    def __init__(self) -> None:
        super().__init__()
        self._working: dict[object, int] = {}  # by a mark: its identity, 0 before it has begun

    def hold_up_for(self) -> float:
        """Return for how many real seconds a thread may still bring something."""
        if not self._working:
            return 0.0
        frames: Mapping[int, FrameType] = getattr(sys, "_current_frames", dict)()
        for thread in list(self._working.values()):
            frame = frames.get(thread)
            if frame is None or frame.f_code.co_filename != threading.__file__:
                return _THREAD_MAY_TAKE
        return _THREAD_MAY_WAIT

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        mark = object()
        self._working[mark] = 0

        def call() -> T:
            self._working[mark] = threading.get_ident()
            try:
                return function(*args, **kwargs)
            finally:
                del self._working[mark]

        return await super().run(call)
