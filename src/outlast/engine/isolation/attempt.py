"""One attempt at a run whose handler is in a process of its own, as its worker sees it.

The child holds the same journal, under the same fence, and runs the same engine on it; here the run
is taken up, the child stopped, and what its death leaves is written. The one rule that must not be
broken: nothing is written here while the child may still write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from outlast.engine.attempt import PUT_BACK_FOR, Attempt, Stop, Surroundings
from outlast.engine.attempt import STOPS_WITHIN as UNWINDS_WITHIN
from outlast.engine.isolation.desk import Desk
from outlast.engine.isolation.places import Place, place_of
from outlast.errors import Corrupt, StoreError, UsageError
from outlast.journal import Entry, Head
from outlast.model import decisions
from outlast.model.events import FOLDED_TYPES, Event, TurnBegan, encode
from outlast.model.fold import fold
from outlast.store import Hint, Reading

if TYPE_CHECKING:
    from outlast.engine.definition import Definition
    from outlast.engine.isolation.children import Children
    from outlast.engine.isolation.guarded import Child
    from outlast.engine.isolation.wire import Message
    from outlast.engine.parking import Parker
    from outlast.engine.record import Record

log: Final = logging.getLogger("outlast")

STOPS_WITHIN: Final = 4.0
"""Seconds that a child has to unwind its handler and say so; then it is killed."""


_SUPERSEDING: Final = ("interrupt", "rollback")


class IsolatedAttempt(Attempt):
    """An attempt whose handler is elsewhere."""

    is_followed: bool
    until: float
    _streamed: int

    def __init__(
        self,
        surroundings: Surroundings,
        record: Record,
        definition: Definition,
        *,
        is_new: bool,
        parker: Parker,
        head: Head,
        children: Children,
        until: float,
    ) -> None:
        """Begin under a lease that ends at `until`, by the monotonic clock, if nobody renews it."""
        super().__init__(surroundings, record, definition, is_new=is_new, parker=parker)
        self._head, self._children, self.until = head, children, until
        self._place: Place = place_of(f"the task {definition.name!r}", definition.function)
        self._child: Child | None = None
        self._desk: Desk | None = None
        self._has_ended = False  # as the child has said
        self._is_told = False  # the child knows of the run
        self._has_news = False  # that it must be told of then
        self._stopping, self._kill = asyncio.Event(), asyncio.Event()
        self._facts = 0  # as many were there when inputs were looked for

    def extend(self, until: float) -> None:
        """Take note that the lease was renewed; called in any thread."""
        super().extend(until)
        if (child := self._child) is not None:
            self._children.extend(child, until)

    @property
    def has_ended(self) -> bool:
        """Whether the run has, as far as is known."""
        return self._has_ended or super().has_ended

    # From outside

    def stop(self, stop: Stop) -> None:
        """End the attempt from outside; an abort kills the child, whatever came before."""
        super().stop(stop)
        self._stopping.set()
        if stop is Stop.ABORTED:
            self._kill.set()

    def ask_to_shut_down(self) -> None:
        """Tell the handler that its worker wants to stop."""
        is_new = not self._is_asked_to_shut_down
        super().ask_to_shut_down()
        if is_new and self._child is not None and self._is_told:
            self._child.send({"shut_down": True})

    def _hear(self, hint: Hint) -> None:
        if self._desk is None:
            super()._hear(hint)
            return
        if self._is_told:
            self._desk.pass_on(hint)
        self._has_news = not self._is_told
        if hint.closed or not hint.revision:
            self.look()
        elif self._definition.steering in _SUPERSEDING:
            super().look()

    def look(self) -> None:
        """Find out what others have written; the child looks for itself."""
        if self._desk is not None and self._is_told:
            self._desk.pass_on(Hint(self.record.key))
        super().look()

    async def _look(self) -> None:
        desk = self._desk
        if desk is None:
            await super()._look()
            return
        try:
            reading = await self._around.store.read(self.record.key, limit=0)
        except StoreError:
            return  # the lease's end comes anyhow
        head, fence = reading.head, self.record.fence
        if desk is not self._desk or desk.concludes:
            return  # what ends the lease is the child's own doing
        if head is not None and head.closed:
            self.stop(Stop.ABORTED)
        elif head is None or head.first != self.record.first or head.fence != fence:
            self.stop(Stop.LEASE_LOST)
        elif head.facts > max(self._facts, self.record.facts):
            self._facts = head.facts
            if await self._is_superseded():
                grace = self._definition.grace_of(self.record.run) + 2 * UNWINDS_WITHIN
                self._alarms.append(self._around.system.call_later(grace, self._end_superseded))

    async def _is_superseded(self) -> bool:
        """Say whether an input is there that ends the turn; our own record is the child's now."""
        store, key = self._around.store, self.record.key
        try:
            reading = await store.read(key, None, types=FOLDED_TYPES)
            return fold(reading.entries).is_superseded
        except (StoreError, Corrupt):
            return False  # the lease's end comes anyhow

    def _end_superseded(self) -> None:
        """End a child that did not end by itself; unless the input was taken back meanwhile."""
        ending = self._end_if_superseded()
        self._looking = self._around.system.spawn(ending, f"look {self.record.key}")

    async def _end_if_superseded(self) -> None:
        desk = self._desk
        if await self._is_superseded() and desk is self._desk and desk and not desk.concludes:
            self._end_late()

    # The child

    async def _enter(self) -> bool:
        """Have a child run the handler, another one if that dies; return when its code is gone."""
        while True:
            try:
                said = await self._in_child() if self._stop is None else None
            except OSError as error:
                log.error("%s is put back: %s", self.record.key, error)  # noqa: TRY400
                await self._hand_back(PUT_BACK_FOR)
                return True
            if said is not None and said.get("ended"):
                await self._follow(has_begun=said["is_followed"])
                return True
            await self._conclude_without(said)
            if said is not None or self._stop is not None or not self.record.run.is_entered:
                return True
            # The lease is still ours: nobody else needs to find out that the child has died.
            if not await self._take_up():
                return True

    async def _follow(self, *, has_begun: bool) -> None:
        """Have the next turn run, if the child has begun one in the write that ended its own."""
        if has_begun:
            await self.record.catch_up()
            self.is_followed = self.record.run.is_entered and not self._has_lost_lease

    async def _conclude_without(self, said: Message | None) -> None:
        """Write what the end of a child leaves to be written.

        Args:
            said: what it had said of the attempt; None: it was killed, or died.
        """
        if self._stop in (Stop.ABORTED, Stop.LEASE_LOST):
            return
        await self.record.catch_up()
        run = self.record.run
        if run.outcome is not None or not run.is_entered:
            # It had left the lease to its end because of code that would not stop, and is gone now.
            await self.record.decide(lambda _: ())
        elif said is not None and "refused" in said:
            await self._write(self._failed(UsageError(said["refused"])), releases=True)
        elif self._stop is Stop.ASKED:
            self._streamed = await self.record.newest_offset()
            await self._write(lambda run: decisions.left(run, self._terms(run)), releases=True)
        elif said is not None or self._stop is not None:
            await self._hand_back()

    async def _in_child(self) -> Message | None:
        """Return what a child says at the attempt's end; None if it died, or was killed.

        Then nothing is left of it, and nothing that it wrote is under way.

        Raises:
            OSError: no child could be started.
        """
        child = await self._take_child()
        if child is None:
            return None
        ended: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._child, self._desk = child, Desk(self._around, self.record, child.wire)
        self._desk.refused = self.look
        child.hear = lambda message: self._take(message, ended)
        child.lost = lambda: None if ended.done() else ended.set_result(None)
        said, is_clean = None, False
        try:
            self._children.bind(child, self.until)
            self.record.forget_newest()  # the child emits
            self._set_limit()
            if await self._tell(child):
                said = await self._wait_for(ended, child)
                is_clean = said is not None and bool(said.get("is_clean"))
            else:
                is_clean = child.is_alive
            if said is not None and "ended" in said:
                self._has_ended = said["has_ended"]
                if not said["may_park"]:
                    self._parker.keep(self.record.key)
        finally:
            self._is_told, self._child = False, None
            if not is_clean:
                await self._children.end(child)
            await self._desk.close()
            self._desk = None
            if is_clean:
                await self._children.give_back(child)
        return said

    def _set_limit(self) -> None:
        """Kill a child whose code has not ended when its turn's time, and its grace, are over.

        It sees to both by itself, unless its event loop is blocked.
        """
        run, system = self.record.run, self._around.system
        if run.deadline is not None:
            limit = run.deadline + self._definition.grace_of(run) + 2 * UNWINDS_WITHIN
            self._alarms.append(system.call_at(limit, self._end_late))

    def _end_late(self) -> None:
        self.stop(Stop.ASKED)
        self._kill.set()

    async def _take_child(self) -> Child | None:
        """Return a child without a run; None if the attempt was stopped before there was one.

        Raises:
            OSError: none could be started.
        """
        taking = self._around.system.spawn(self._children.take(), "child")
        await self._unless_stopped(taking)
        if taking.done():
            return taking.result()
        taking.cancel()
        await asyncio.wait([taking])
        return None

    async def _wait_for(
        self, ended: asyncio.Future[Message | None], child: Child
    ) -> Message | None:
        """Return what the child says at its end; None if it did not end when it was stopped."""
        await self._unless_stopped(ended)
        if not ended.done():
            assert self._stop is not None
            child.send({"stop": self._stop.value})
            system = self._around.system
            killed = system.spawn(system.wait(self._kill, STOPS_WITHIN), "kill")
            await _first_of(ended, killed)
            killed.cancel()
        return ended.result() if ended.done() else None

    async def _unless_stopped(self, future: asyncio.Future[Any]) -> None:
        """Return when the future is done, or the attempt stopped."""
        stopped = self._around.system.spawn(self._stopping.wait(), "stopped")
        await _first_of(future, stopped)
        stopped.cancel()

    async def _tell(self, child: Child) -> bool:
        """Give the child the run, as it is; return whether it was: not if the attempt is stopped.

        What nobody wants any more is not begun.
        """
        self._has_news = False
        reading = self._just_made() or await self.record.read_all()
        if self._stop is not None:
            return False
        child.send(
            {
                "enter": self._definition.name,
                "place": self._place,
                "head": reading.head,
                "entries": reading.entries,
                "floor": reading.floor,
                # Two that write under one fence must not give two changes one id.
                "writer": self._around.system.draw_name(),
                "may_park": self._may_park,
            }
        )
        self._is_told = True
        if self._has_news:
            child.send({"hint": Hint(self.record.key)})
        if self._is_asked_to_shut_down:
            child.send({"shut_down": True})
        return True

    def _just_made(self) -> Reading | None:
        """Return the run without asking the store, if it was made a moment ago, by this worker."""
        run, head = self.record.run, self._head
        began = TurnBegan(1, run.start.input_id, deadline=run.deadline)
        events: Sequence[Event] = (run.start, began)
        if not self._is_new or run.entries > 1 or run.revision != head.first + len(events) - 1:
            return None
        entries = [
            Entry(revision, *encode(event)[:2], run.created_at, "")
            for revision, event in enumerate(events, head.first)
        ]
        return Reading(head, entries, 0)

    def _take(self, message: Message, ended: asyncio.Future[Message | None]) -> None:
        if "ask" in message:
            assert self._desk is not None
            self._desk.hear(message)
        elif not ended.done():
            ended.set_result(message)


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
