"""The order in which a replayed handler gets its outcomes: the one in which they were recorded.

Else a handler that waits for several at once would take another branch than before. Each outcome is
handed over when the handler has done all it can without it; who does one thing at a time pays
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, NamedTuple

from outlast.engine.belongings import Belongings, Look, Scope, settle
from outlast.engine.clock import System
from outlast.engine.rest import Held, held_by
from outlast.model.events import Asked

_PATIENCE: Final = 0.02
"""Seconds for which a handler that never rests holds up an outcome; its order was never certain."""

_LOOK_AGAIN: Final = 1.0
"""Seconds, at most, until a handler that something else holds is looked at again."""


class Awaited(NamedTuple):
    """What ends a wait: a time, in seconds since 1970, a signal, or whichever comes first."""

    until: float | None = None
    signal: Asked | None = None


class Order:
    """What the handler of one turn was given, and what it waits for."""

    handed: int
    waits_since: float

    def __init__(
        self,
        system: System,
        scope: Scope,
        asked: Callable[[], Collection[asyncio.Future[Any]]],
        *,
        is_live: bool,
    ) -> None:
        """Belong to the turn with this scope.

        Args:
            system: the machine.
            scope: the turn's.
            asked: gives what else the turn waits for that ends only after one of its `waits`.
            is_live: whether nothing is there to be replayed.
        """
        self.handed = 0
        self._asked = asked
        self._is_live = is_live  # an outcome was given that nobody had recorded before
        self.waits: dict[asyncio.Future[Any], Awaited | None] = {}
        self.waits_since = 0.0  # by the monotonic clock: when the latest wait began
        self.began: Callable[[], None] = lambda: None
        self._system, self._scope = system, scope
        self._loop = scope.loop
        self._late: set[asyncio.Future[Any]] = set()
        self._by_place: list[tuple[int, int, asyncio.Future[Any]]] = []  # a heap of those
        self._numbers = count()
        self._strays: dict[asyncio.Future[Any], Callable[[], bool]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._is_asked = asyncio.Event()  # for an outcome that is recorded

    @contextmanager
    def waiting(self, awaited: Awaited | None = None) -> Generator[asyncio.Future[Any]]:
        """Give a future that nothing but the engine ends.

        Args:
            awaited: what ends it, where that is recorded, so that it need not be waited for in
                memory; None: something that happens here.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self.waits[future] = awaited
        self.waits_since = self._system.monotonic()
        self.began()
        try:
            yield future
        finally:
            del self.waits[future]

    def asked(self) -> int:
        """Return how many outcomes the handler has been given, as it asks for another one.

        A replay gives at once what took its time before: what the handler asks for meanwhile may
        have been asked for earlier then. So it is -1, which is handed over with care ever after.
        """
        return self.handed if self._is_live else -1

    def give(self, place: int, *, is_replayed: bool = False) -> None:
        """Count the outcome at this place as given."""
        self.handed = max(self.handed, place + 1)
        self._is_live = self._is_live or not is_replayed
        for stray, is_free in self._strays.items():
            if not stray.done() and is_free():
                stray.set_result(True)

    async def hand_over(self, place: int, after: int) -> None:
        """Return when the handler may be given the outcome at `place`.

        Args:
            place: how many outcomes had been recorded before it.
            after: how many the handler had been given when it asked for this one; -1: that is
                not certain.
        """
        # Asked for when all before it had been given, it waits for nothing.
        if not self.handed == place == after:
            await self._wait_for_turn(place)
        self.give(place, is_replayed=True)

    async def hand_over_new(self, place: int) -> None:
        """Return when the handler may be given an outcome that nobody had recorded before."""
        await self._wait_for_turn(place)
        self.give(place)

    async def _wait_for_turn(self, place: int) -> None:
        with self.waiting() as late:
            self._late.add(late)
            heappush(self._by_place, (place, next(self._numbers), late))
            self._is_asked.set()
            self._keep()
            try:
                await late
            finally:
                self._late.discard(late)

    @property
    def is_behind(self) -> bool:
        """Whether an outcome is there that the handler waits for, and may not be given yet."""
        return self._next_late() is not None

    def may_give(self, place: int) -> bool:
        """Say whether nothing that was recorded before it is still to be given before it."""
        return not self.is_behind and (self._is_live or self.handed >= place)

    async def stray(self, is_free: Callable[[], bool], patience: float | None = None) -> bool:
        """Wait until `is_free()`; return False when the handler has come to rest before that.

        Or when `patience` seconds have passed: something may keep a handler from ever resting.
        """
        if is_free():
            return True
        with self.waiting() as stray:
            self._strays[stray] = is_free
            self._keep()
            timer = None
            if patience is not None:
                timer = self._system.call_later(
                    patience, lambda: None if stray.done() else stray.set_result(False)
                )
            try:
                return bool(await stray)
            finally:
                del self._strays[stray]
                if timer is not None:
                    timer.cancel()

    def close(self) -> None:
        """Hand nothing over any more."""
        self._asked = tuple  # the turn, which refers to us
        if self._keeper:
            self._keeper.cancel()

    def _keep(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = self._system.spawn(self._hand_over_late(), "order")

    async def _hand_over_late(self) -> None:
        pause = _PATIENCE
        while self._late or self._strays:
            await settle(self._scope, _PATIENCE)
            if late := self._next_late():
                late.set_result(None)
            elif waiting := [stray for stray in self._strays if not stray.done()]:
                if self._is_at_rest():
                    waiting[0].set_result(False)
                    continue
                # A step in flight, or something of the handler's own, may still ask for what is
                # untaken. Whatever else is recorded does not wait for that: what is new would
                # overtake it.
                self._is_asked.clear()
                await self._system.wait(self._is_asked, pause)
                pause = min(2 * pause, _LOOK_AGAIN)
            else:  # who was let go is still to run, and may stir where the turn's mark is not seen
                await asyncio.sleep(0)

    def _next_late(self) -> asyncio.Future[Any] | None:
        by_place = self._by_place
        while by_place and by_place[0][-1].done():
            heappop(by_place)
        return by_place[0][-1] if by_place else None

    def _is_at_rest(self) -> bool:
        """Say whether the handler waits only for what the engine ends."""
        if self.is_behind:
            return False
        try:
            found = Look(self._loop).of(self._scope)
            held_by({*self.waits, *self._asked()} if self.waits else (), found)
        except Held:
            return False
        return True

    def awaits(
        self, beside: Collection[asyncio.Future[Any]], belongings: Belongings
    ) -> Sequence[Awaited]:
        """Return what the handler waits for, if nothing else could wake it.

        Args:
            beside: other futures that it may wait for as well.
            belongings: what it has, by a look after which the loop has not gone on.

        Raises:
            Held: something else could, or it waits for what happens in memory only.
        """
        awaited = [wait for wait in self.waits.values() if wait is not None]
        if len(awaited) < len(self.waits) or not awaited:
            raise Held("it waits for something that is not recorded")
        held_by({*self.waits, *self._asked(), *beside}, belongings)
        return awaited
