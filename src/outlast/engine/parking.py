"""Whether a handler only waits: then it leaves memory, and is entered again when that is over.

The one rule that must not be broken: what could wake the handler in any other way keeps it in
memory, whether it is understood or not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from outlast.engine.rest import Belongings, Held, is_stirring
from outlast.model.events import Parked

if TYPE_CHECKING:
    from outlast.engine.attempt import Calls

log: Final = logging.getLogger("outlast")

LINGER: Final = 0.05
"""Seconds that a handler waits in memory before it is parked: about what a replay takes."""


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
            belongings: what the turn has, of a survey after which the loop has not gone on.
        """
        if self._is_at_work():
            return None
        try:
            return self._awaits(belongings)
        except Held as held:
            if not self._is_reason_said and not is_stirring(self._turn.loop, self._turn):
                self._is_reason_said = True
                log.info("%s waits in memory: %s", self._turn.record.key, held.reason)
            return None

    def is_long(self, parked: Parked) -> bool:
        """Say whether it has waited for a while, and its time does not come at once."""
        system = self._turn.system
        if system.monotonic() - self._turn.order.waits_since < LINGER:
            return False
        return parked.due is None or parked.due - system.wall() > LINGER

    def _is_at_work(self) -> bool:
        """Say whether something goes on that ends by itself: a step, or a write."""
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
        return Parked(min(ends, default=None), tuple(signals), bool(watching))


def _waiters(event: asyncio.Event) -> Sequence[asyncio.Future[Any]]:
    """Return what waits for the event; asyncio keeps it to itself."""
    waiters: Sequence[asyncio.Future[Any]] = getattr(event, "_waiters", ())
    return waiters
