"""The machine of an app in a test: its clock is moved by hand, and what runs on it can be killed.

The one rule that must not be broken: what was killed does nothing any more until it is unwound, and
then records nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, NamedTuple, TypeVar

from outlast.engine import insides
from outlast.engine.belongings import turn_of
from outlast.engine.clock import Timer
from outlast.engine.threads import Threads
from outlast.errors import Unwound
from outlast.testing.clock import FakeClock
from outlast.testing.system import FakeSystem, SeededSystem, SkippingLoop

T = TypeVar("T")

machine_of: Final[ContextVar[object | None]] = ContextVar("machine_of", default=None)
"""The machine on which the code runs, where that is one that can be killed."""


_MAY_ASK_FOR: Final = 10.0
"""Real seconds for which a request to a store holds up the time."""


_POLLS_EVERY: Final = 1_000.0
"""Times as long nobody looks without a hint, where time flies: there none is lost."""


class Machine(SeededSystem):
    """A machine whose clock stands still until it is moved.

    By the clock it counts what runs have set a time for; its own buffers and polls go by the event
    loop. On a `SkippingLoop` both are one, and time flies. Back-offs have no jitter here, so that a
    test knows when they are over.

    Args:
        clock: by which it goes.
        seed: what its ids are drawn from; None: they are new every time.
    """

    clock: FakeClock
    handlers: Threads
    steps: Threads

    def __init__(self, clock: FakeClock, seed: int | None) -> None:
        super().__init__(clock)
        self.clock, self._seed = clock, seed
        self._random = random.Random(seed)
        self._alarms: list[tuple[float, int, _Alarm]] = []  # a heap
        self._numbers = count()
        self._ahead = 0.0
        self._frozen: list[_Frozen] = []

    def go_by(self, loop: SkippingLoop, is_asking: Callable[[], bool]) -> None:
        """Go by the time of this loop; hold it up while a thread, or a store, is at work."""
        threads, others = FakeSystem(loop), loop.held_up_for
        self.clock = self._clock = loop.clock
        self.looks_rarer_by = _POLLS_EVERY
        self.handlers, self.steps = threads.handlers, threads.steps
        loop.held_up_for = lambda: max(others(), _MAY_ASK_FOR if is_asking() else 0.0)

    def start_anew(self) -> Machine:
        """Return the machine after its next start: its clock and its threads, and nothing else."""
        self._seed = None if self._seed is None else self._seed + 1
        machine = Machine(self.clock, self._seed)
        machine.handlers, machine.steps = self.handlers, self.steps
        machine.looks_rarer_by = self.looks_rarer_by
        return machine

    # Time

    def monotonic(self) -> float:
        """Return the event loop's seconds."""
        return asyncio.get_running_loop().time() + self._ahead

    @contextmanager
    def ahead(self, seconds: float) -> Generator[None]:
        """Let so many seconds have passed for the machine itself; not for runs, nor the loop."""
        self._ahead = seconds
        try:
            yield
        finally:
            self._ahead = 0.0

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call back when the clock shows `when`."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, SkippingLoop):
            return super().call_at(when, callback)
        alarm = _Alarm(callback)
        heappush(self._alarms, (when, next(self._numbers), alarm))
        loop.call_soon(self.ring, context=Context())
        return alarm

    @property
    def next_alarm(self) -> float | None:
        """When the next alarm is to ring, in seconds since 1970; None: there is none."""
        while self._alarms and self._alarms[0][-1].is_cancelled:
            heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def ring(self) -> None:
        """Call back whose time has come, the earliest first."""
        while (when := self.next_alarm) is not None and when <= self.wall():
            heappop(self._alarms)[-1].callback()

    # Chance

    def draw_factor(self, share: float) -> float:  # noqa: ARG002 - nothing is drawn
        """Return 1."""
        return 1.0

    # Life and death

    def spawn(
        self, coroutine: Coroutine[Any, Any, T], name: str, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Start a task in the running loop, which dies with the machine."""
        return super().spawn(coroutine, name, context or self.mark(Context()))

    def mark(self, context: Context) -> Context:
        """Let all that runs in the context die with the machine."""
        context.run(machine_of.set, self)
        return context

    def run_beside(self, work: Callable[[], Awaitable[None]], name: str) -> Awaitable[None]:
        """Run the coroutine in our own loop, where it dies with the machine."""

        async def run() -> None:
            await work()

        return self.spawn(run(), name)

    def freeze(self) -> None:
        """Let no task go on that runs on this machine, but those that are just about to run."""
        loop = asyncio.get_running_loop()
        for timer in insides.timers(loop):
            if _machine_of(timer) is self:
                timer.cancel()
        for task in asyncio.all_tasks(loop):
            waiter, waker = insides.waiter_of(task), insides.waker_of(task)
            if _machine_of(task) is self and waiter is not None and waker is not None:
                wake, context = waker
                waiter.remove_done_callback(wake)
                self._frozen.append(_Frozen(waiter, wake, context))

    def thaw(self) -> None:
        """Let the engine's tasks go on, which find out that they are to stop.

        A handler whose waiting has ended meanwhile is not let go on, but unwound where it waits.
        """
        for frozen in self._frozen:
            waiter = frozen.waiter
            if waiter.done() and frozen.context.get(turn_of) is not None:
                waiter = asyncio.get_running_loop().create_future()
                waiter.set_exception(Unwound("the worker was killed"))
            waiter.add_done_callback(frozen.wake, context=frozen.context)
        self._frozen.clear()


@dataclass(eq=False, slots=True)
class _Alarm:
    callback: Callable[[], object]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


class _Frozen(NamedTuple):
    """What a task waits for, and what wakes it."""

    waiter: asyncio.Future[Any]
    wake: Callable[[asyncio.Future[Any]], object]
    context: Context


def _machine_of(made: asyncio.Task[Any] | asyncio.Handle) -> object | None:
    context = insides.context_of(made)
    return None if context is None else context.get(machine_of)
