"""Whether a handler only waits: then it leaves memory, and is entered again when that is over.

The one rule that must not be broken: what could wake the handler in any other way keeps it in
memory, whether it is understood or not.

What one look costs does not depend on how many other runs are in memory, as long as a handler does
one thing at a time. For the others the whole loop is gone through, for many of them at once, and
never for more than a share of the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final

from outlast.engine.belongings import Belongings, Look, TooSoon, can_see
from outlast.engine.rest import Held
from outlast.model.events import Parked

if TYPE_CHECKING:
    from outlast.engine.attempt import Attempt, Calls, Stop
    from outlast.engine.clock import System

log: Final = logging.getLogger("outlast")

LINGER: Final = 0.05
"""Seconds that a handler waits in memory before it is parked: about what a replay takes."""

MAX_KEPT: Final = 1_000
"""Runs of which a worker remembers that they do not let themselves be parked."""

_PATIENCE: Final = 10.0
"""Seconds, at most, between two looks at a handler that waits and that something else may wake."""

_TICK: Final = 0.02
"""Seconds within which looks are one: runs that are parked together are written together."""

_AT_ONCE: Final = 100
"""Handlers that are looked at in one round of the loop, which they share with others."""

_AT_ONCE_OF_ALL: Final = 1_000
"""The same, where the whole loop had to be gone through, which is to be worth it."""

_SHARE: Final = 20
"""Times as long as it took to go through the whole loop, nobody does so again."""


class Parking:
    """What one entry into a handler waits for."""

    def __init__(self, calls: Calls) -> None:
        self._calls, self._turn = calls, calls.turn
        self._is_reason_said = False

    @property
    def is_waiting(self) -> bool:
        """Whether the handler, or a part of it, waits for what the engine ends."""
        return bool(self._turn.order.waits)

    def look(self, belongings: Belongings) -> Parked | None:
        """Return what the handler waits for; None if something else may wake it.

        Args:
            belongings: what the turn has, by a look after which the loop has not gone on.
        """
        try:
            return self._awaits(belongings)
        except Held as held:
            if not self._is_reason_said and not belongings.is_stirring:
                self._is_reason_said = True
                log.info("%s waits in memory: %s", self._turn.record.key, held.reason)
            return None

    def is_long(self, parked: Parked) -> bool:
        """Say whether it has waited for a while, and its time does not come at once."""
        system = self._turn.system
        if system.monotonic() - self._turn.order.waits_since < LINGER:
            return False
        return parked.due is None or parked.due - system.wall() > LINGER

    @property
    def is_at_work(self) -> bool:
        """Whether something goes on that ends by itself: a step, or a write."""
        calls = self._calls
        return (
            calls.steps.under_way > 0
            or calls.emission.is_buffered
            or calls.waits.is_settling
            or self._turn.record.is_busy
        )

    def _awaits(self, belongings: Belongings) -> Parked:
        watching = [future for future in _waiters(self._turn.cancel) if not future.done()]
        awaited = self._turn.order.awaits(watching, belongings)
        ends = [wait.until for wait in awaited if wait.until is not None]
        signals = sorted(wait.signal for wait in awaited if wait.signal is not None)
        asks = self._calls.steering.asked
        return Parked(min(ends, default=None), tuple(signals), bool(watching), asks)


def _waiters(event: asyncio.Event) -> Sequence[asyncio.Future[Any]]:
    """Return what waits for the event; asyncio keeps it to itself."""
    waiters: Sequence[asyncio.Future[Any]] = getattr(event, "_waiters", ())
    return waiters


class Parker:
    """Looks at the handlers of a worker that wait, and stops those that do nothing else.

    Attributes:
        most_kept: of how many runs it remembers that they do not let themselves be parked.
    """

    def __init__(self, system: System) -> None:
        self.most_kept: int = MAX_KEPT
        self._system, self._loop = system, asyncio.get_running_loop()
        # A heap: when, and the pause. What was looked at often already comes after what was not.
        self._looks: list[tuple[float, float, int, Attempt]] = []
        self._valid: dict[Attempt, int] = {}  # the one look that is to come, by its number
        self._numbers = count()
        self._news = asyncio.Event()
        self._wakes_at = -inf  # by itself, where it waits
        self._sees_all_at = 0.0  # not before, it goes through the whole loop again
        self._kept: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look."""
        if can_see(self._loop):
            self._task = self._system.spawn(self._work(), "outlast-parker")
        else:
            log.warning("runs that wait stay in memory: this event loop does not show its timers")

    def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    def may_park(self, key: str) -> bool:
        """Say whether the run has let itself be parked, as far as is remembered."""
        return key not in self._kept

    def keep(self, key: str) -> None:
        """Do not park this run again.

        Only the latest are remembered: what is forgotten is unwound, and entered, in vain again.
        """
        self._kept.pop(key, None)
        self._kept[key] = None
        if len(self._kept) > self.most_kept:
            del self._kept[next(iter(self._kept))]

    def forget(self, attempt: Attempt, *, has_ended: bool) -> None:
        """Look no more at this attempt, which is over; nor remember its run if that has ended."""
        self._valid.pop(attempt, None)
        if has_ended:
            self._kept.pop(attempt.record.key, None)

    def notice(self, attempt: Attempt, seconds: float = LINGER) -> None:
        """Look at an attempt soon: its handler begins to wait, or is asked to stop."""
        if self._task is not None:
            self._look_in(seconds, attempt, LINGER)

    def _look_in(self, seconds: float, attempt: Attempt, pause: float) -> None:
        number = next(self._numbers)
        at = _TICK * (1 + (self._system.monotonic() + seconds) // _TICK)
        self._valid[attempt] = number
        heappush(self._looks, (at, pause, number, attempt))
        if at < self._wakes_at:
            self._news.set()

    async def _work(self) -> None:
        while True:
            pause = self._looks[0][0] - self._system.monotonic() if self._looks else None
            if pause is not None and pause <= 0:
                await asyncio.sleep(0)  # the others have their turn in between
            else:
                self._wakes_at = self._looks[0][0] if self._looks else inf
                self._news.clear()
                await self._system.wait(self._news, pause)
                self._wakes_at = -inf
            self._look()

    def _look(self) -> None:
        """Stop what only waits, of those whose time has come, and look again at the others."""
        now = self._system.monotonic()
        look = Look(self._loop, may_see_all=now >= self._sees_all_at)
        stops: list[tuple[Attempt, Stop]] = []
        looked = 0
        while self._looks and self._looks[0][0] <= now:
            if looked >= (_AT_ONCE_OF_ALL if look.size > _AT_ONCE else _AT_ONCE):
                break
            _, pause, number, attempt = heappop(self._looks)
            if self._valid.get(attempt) == number:
                del self._valid[attempt]
                looked += 1
                if stop := self._look_at(attempt, look, pause):
                    stops.append((attempt, stop))
        if look.size:
            self._sees_all_at = now + _SHARE * look.took
        # Not before all were looked at: whoever is stopped stirs.
        for attempt, stop in stops:
            attempt.stop(stop)

    def _look_at(self, attempt: Attempt, look: Look, pause: float) -> Stop | None:
        if not attempt.is_waiting:
            return None  # it is noticed when it waits again
        try:
            stop = attempt.rests(look)
        except TooSoon:
            self._look_in(self._sees_all_at - self._system.monotonic(), attempt, pause)
            return None
        except Exception:  # a bug of ours: what waits stays in memory
            log.exception("the worker cannot look at what waits")
            stop = None
        if stop is None:
            self._look_in(pause, attempt, min(2 * pause, _PATIENCE))
        return stop
