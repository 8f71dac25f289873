"""The event loop of a simulated process: it takes a step when the simulation lets it.

Nothing waits for the machine: there are no sockets and no threads, and time is a clock that the
simulation moves. The one rule that must not be broken: what happens depends on the seed alone. So
tasks are numbered, because sets of them are gone through in the order of their hashes, and those
would be addresses.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from itertools import count
from typing import Any, Final, TypeVarTuple

from outlast.testing.clock import FakeClock

ROUND: Final = 20e-6
"""Seconds that a round takes: what never rests must not stop the time."""

_AT_ONCE: Final = 20
"""Rounds of one loop before others have a turn."""

Ts = TypeVarTuple("Ts")


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop that stands still between two steps.

    Args:
        clock: the simulation's.
        chance: draws which of the callbacks that are ready runs first; None: they run in their
            order, as asyncio promises.
        wake: called with the loop, and with the time at which it wants to take a step.
        fail: called with what asyncio would log, say an error that nobody has awaited.

    Attributes:
        held_until: it takes no step before this time.
    """

    held_until: float
    _ready: deque[asyncio.Handle]  # asyncio's own, as long as there is asyncio

    def __init__(
        self,
        clock: FakeClock,
        chance: random.Random | None,
        wake: Callable[[SimulatedLoop, float], None],
        fail: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._selector = _Nothing()
        self._clock, self._chance, self._wake = clock, chance, wake
        self.held_until = 0.0
        self._rounds = 0
        numbers = count()

        def number_task(
            loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any
        ) -> asyncio.Task[Any]:
            return _NumberedTask(next(numbers), coroutine, loop, settings)

        self.set_task_factory(number_task)
        self.set_exception_handler(lambda _, context: fail(_described(context)))

    def time(self) -> float:
        """Return the simulation's seconds."""
        return self._clock.boot()

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call back at the next step, which may come at once."""
        if not self._ready:
            self._wake(self, 0.0)
        return super().call_soon(callback, *args, context=context)

    call_soon_threadsafe = call_soon  # there is one thread

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at the first step after this time."""
        self._wake(self, when)
        return super().call_at(when, callback, *args, context=context)

    @property
    def is_ready(self) -> bool:
        """Whether a callback waits for the next step."""
        return bool(self._ready)

    def step(self) -> None:
        """Run what is ready, and what that makes ready; not for ever."""
        self._rounds = 0
        self.run_forever()

    def _run_once(self) -> None:
        """Run what is ready, once; go on unless nothing is, or others are to have a turn."""
        if self._chance is not None and len(self._ready) > 1:
            ready = list(self._ready)
            self._chance.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        super()._run_once()  # type: ignore[misc] # asyncio's own
        self._clock.advance(ROUND)
        self._rounds += 1
        if not self._ready or self._rounds == _AT_ONCE:
            self.stop()

    def _process_events(self, event_list: object) -> None:
        """There is nothing outside that could bring events."""

    def _write_to_self(self) -> None:
        """Nobody waits for a selector, who would have to be woken."""


class _Nothing:
    """In place of a selector."""

    def select(self, timeout: float | None) -> list[object]:  # noqa: ARG002 - nobody waits
        return []

    def close(self) -> None:
        pass


class _NumberedTask(asyncio.Task[Any]):
    """A task whose hash is the same in every run of the program."""

    def __init__(
        self,
        number: int,
        coroutine: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        settings: Mapping[str, Any],
    ) -> None:
        self._number = number  # first: a task is put into a set while it is made
        super().__init__(coroutine, loop=loop, **settings)

    def __hash__(self) -> int:
        return self._number


def _described(context: Mapping[str, Any]) -> str:
    about = (context[key] for key in ("exception", "task", "future", "handle") if key in context)
    return ": ".join([str(context.get("message")), *map(repr, about)])
