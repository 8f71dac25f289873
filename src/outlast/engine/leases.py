"""Keeps the leases of a worker, from a thread of its own: a blocked event loop does not lose them.

The one rule that must not be broken: a run whose lease could not be kept is stopped before the
lease ends.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from outlast.engine.clock import System
from outlast.errors import StoreError, Unavailable
from outlast.journal import Fence, Lease
from outlast.store import Store

log: Final = logging.getLogger("outlast")

BLOCKED_FOR: Final = 300.0
"""Seconds without an answer after which an event loop is given up, and its leases run out."""

_BEATS: Final = 3
"""Renewals within one `ttl`."""

_MARGIN: Final = 0.2
"""The share of `ttl`, before a lease's end, at which its run is stopped."""


_Place: TypeAlias = tuple[str, Fence]
"""Which lease it is: runs that were claimed together have fences that are equal."""


@dataclass(slots=True)
class _Kept:
    lease: Lease
    until: float  # by our monotonic clock, counted from before the store was asked
    lost: Callable[[], None]
    renewed: Callable[[float], object]


class Leases:
    """The leases that a worker holds."""

    def __init__(self, store: Store, system: System, ttl: float) -> None:
        self.ttl = ttl
        self._store, self._system = store, system
        self._lock = threading.Lock()
        self._kept: dict[_Place, _Kept] = {}
        self._loop = asyncio.get_running_loop()
        self._asked: float | None = None  # since when the worker's loop owes us an answer
        self._is_given_up = False
        self._closing = threading.Event()
        self._wake: Callable[[], object] = lambda: None
        self._companion: Awaitable[None] | None = None

    def open(self) -> None:
        """Begin to renew."""
        self._companion = self._system.run_beside(self._keep, "outlast-leases")

    async def close(self) -> None:
        """Renew no more; leases that are still kept run out."""
        self._closing.set()
        self._wake()
        if self._companion is not None:
            await self._companion

    def keep(
        self,
        lease: Lease,
        asked_at: float,
        lost: Callable[[], None],
        renewed: Callable[[float], object] = lambda _: None,
    ) -> None:
        """Renew the lease from now on, and call `lost` in the worker's loop when that fails.

        Args:
            lease: as it was taken.
            asked_at: our monotonic clock before the store was asked for it.
            lost: called at most once, and not after `forget`.
            renewed: called in the thread that renews, with the new end by our monotonic clock; it
                may be called once more after `forget`.
        """
        with self._lock:
            self._kept[_place(lease)] = _Kept(lease, asked_at + self.ttl, lost, renewed)

    def forget(self, lease: Lease) -> None:
        """Renew this lease no more; it was given back, or is left to its end."""
        with self._lock:
            self._kept.pop(_place(lease), None)

    async def _keep(self) -> None:
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(wake.set)
        pause = self.ttl / _BEATS
        while not self._closing.is_set():
            await self._system.wait(wake, pause)
            wake.clear()
            if self._closing.is_set():
                return
            if self._is_loop_silent():
                continue
            renewed = await self.renew()
            # While the store does not answer, ask more often: an answer just in time keeps the
            # runs.
            pause = self.ttl / _BEATS if renewed else self.ttl / _BEATS / 10

    def _is_loop_silent(self) -> bool:
        """Ask the worker's loop for an answer, and say whether it has given none for too long."""
        now = self._system.monotonic()
        asked = self._asked
        if asked is None:
            asked = self._asked = now
        silent = now - asked
        if silent <= BLOCKED_FOR:
            self._is_given_up = False
        elif not self._is_given_up:
            self._is_given_up = True
            log.error(
                "the event loop has not answered for %.0f s: something in a handler blocks it; the "
                "leases of its runs are left to their end, and other workers take over",
                silent,
            )
        self._tell(self._answer)
        return self._is_given_up

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed, and its runs with it
            self._loop.call_soon_threadsafe(callback, *args)

    def _answer(self) -> None:
        self._asked = None

    async def renew(self, beyond: float = 0.0) -> bool:
        """Renew all leases in one write; return whether the store answered.

        Args:
            beyond: seconds for which they last longer than usual.
        """
        with self._lock:
            asked = {place: kept.lease for place, kept in self._kept.items()}
        if not asked:
            return True
        now = self._system.monotonic()
        try:
            async with asyncio.timeout(self._patience(asked, now)):
                held = await self._store.renew(list(asked.values()), self.ttl + beyond)
        except (StoreError, TimeoutError) as error:
            log.warning("the leases of %d runs could not be renewed: %s", len(asked), error)
            is_final = isinstance(error, Unavailable) and error.is_final
            self._drop(place for place in asked if is_final or self._ends_soon(place))
            return False
        still = {*map(_place, held)}
        with self._lock:
            renewed = [kept for place in still if (kept := self._kept.get(place))]
            for kept in renewed:
                kept.until = now + self.ttl
        for kept in renewed:
            kept.renewed(now + self.ttl)
        self._drop(place for place in asked if place not in still)
        return True

    def _patience(self, places: Iterable[_Place], now: float) -> float:
        """Return how long to wait for an answer: not so long that a lease ends meanwhile."""
        with self._lock:
            ends = [self._kept[place].until for place in places if place in self._kept]
        left = min(ends, default=now) - _MARGIN * self.ttl - now
        return min(max(left, _MARGIN * self.ttl / 2), self.ttl / _BEATS)

    def _ends_soon(self, place: _Place) -> bool:
        with self._lock:
            kept = self._kept.get(place)
            return kept is not None and self._system.monotonic() >= kept.until - _MARGIN * self.ttl

    def _drop(self, places: Iterable[_Place]) -> None:
        for place in list(places):
            self._tell(self._lose, place)

    def _lose(self, place: _Place) -> None:
        with self._lock:
            kept = self._kept.pop(place, None)
        if kept:
            kept.lost()


def _place(lease: Lease) -> _Place:
    return lease.key, lease.fence
