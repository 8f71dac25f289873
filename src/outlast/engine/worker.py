"""Takes runs that are due, and runs as many at a time as it has places."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlast.engine.attempt import Attempt, Stop, Surroundings
from outlast.engine.definition import TASKS
from outlast.engine.isolation.attempt import IsolatedAttempt
from outlast.engine.isolation.children import Children
from outlast.engine.leases import Leases
from outlast.engine.parking import Parker
from outlast.engine.record import Record
from outlast.errors import StoreError, UsageError
from outlast.journal import Claim, Head
from outlast.model.run import Run
from outlast.store import Hint, Lane

if TYPE_CHECKING:
    from outlast.engine.definition import Definition
    from outlast.engine.isolation.wire import Message

log: Final = logging.getLogger("outlast")

_LOOKS_AGAIN: Final = 5.0
"""Seconds after which a worker looks for work, and its runs for news, without a hint."""

_PAUSE: Final = 0.5
"""Seconds before a store that did not answer is asked again."""

_RESTS_AFTER: Final = 0.05
"""Seconds between two looks, while it shuts down, whether there are new runs to be stopped."""

_ENDS_WITHIN: Final = 15.0
"""Seconds after the grace to stop runs and hand them back; what is left keeps its lease."""


class Worker:
    """The runs at work in this app."""

    owner: str
    lease: float
    grace: float

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        owner: str,
        queues: Sequence[str],
        concurrency: int,
        lease: float,
        grace: float,
        opening: Message | None = None,
    ) -> None:
        """Take nothing yet; `opening` is what processes for isolated handlers are told."""
        self.owner, self.lease, self.grace = owner, lease, grace
        self._around, self._queues, self._concurrency = surroundings, tuple(queues), concurrency
        self._leases = Leases(surroundings.store, surroundings.system, lease)
        self._active: dict[str, tuple[Attempt, asyncio.Task[None]]] = {}
        self._reserved: list[str] = []
        self._may_have_left = True  # there may be work that the last claim did not take
        self._wake = asyncio.Event()
        self._is_closing = False
        self._complaint = ""  # of the store, that was logged last
        self._loop: asyncio.Task[None] | None = None
        self._parker = Parker(surroundings.system)
        self._children = Children(surroundings.system, self._sign, lambda: {"open": opening})
        self._unlisten = surroundings.hints.listen_to_all(self._hear)

    def open(self) -> None:
        """Begin to look for work."""
        self._leases.open()
        self._loop = self._around.system.spawn(self._work(), "outlast-worker")
        self._parker.open()

    async def close(self) -> None:
        """Take nothing new; let what runs end within the grace, and hand the rest back."""
        self._is_closing = True
        self._unlisten()
        self._wake.set()
        if self._loop is not None:
            await self._loop
        system = self._around.system
        ends = system.monotonic() + self.grace
        # A run that is just being made counts, too: it is ours as soon as it is there.
        while (self._active or self._reserved) and system.monotonic() < ends + _ENDS_WITHIN:
            left = ends - system.monotonic()
            for attempt, _ in list(self._active.values()):
                attempt.ask_to_shut_down()
                if left <= 0:
                    attempt.stop(Stop.SHUTDOWN)
            self._wake.clear()
            await system.wait(self._wake, min(left, _RESTS_AFTER) if left > 0 else _RESTS_AFTER)
        self._parker.close()
        await self._children.close()
        await self._leases.close()

    def _sign(self) -> Path | None:
        """Return the file whose lock says that we live."""
        return self._around.store.traits.sign_of(self.owner)

    @property
    def attempts(self) -> Sequence[Attempt]:
        """The runs in memory."""
        return [attempt for attempt, _ in self._active.values()]

    async def renew(self, beyond: float) -> None:
        """Renew the leases of the runs in memory, for so many seconds longer than usual."""
        await self._leases.renew(beyond)

    # New runs, made and taken up in one write

    def reserve(self, key: str, queue: str, name: str) -> Claim | None:
        """Keep a place for a run that is about to be made; None where there is none."""
        is_full = self._free <= 0
        if is_full or self._is_closing or queue not in self._queues or TASKS.find(name) is None:
            return None
        self._reserved.append(key)
        return Claim(self.owner, self.lease, self._around.system.draw_name())

    def unreserve(self, key: str) -> None:
        """Give the place back: the run was not made, or not by us."""
        self._reserved.remove(key)
        self._wake.set()

    def begin_new(self, head: Head, run: Run, asked_at: float) -> None:
        """Run what was made with the claim that `reserve` gave."""
        self._reserved.remove(head.key)
        definition = TASKS.find(run.start.name)
        assert definition is not None  # the starter has it
        self._begin(head, run, definition, asked_at, is_new=True)

    def record_of(self, key: str) -> Record | None:
        """Return the journal of a run that is at work here."""
        active = self._active.get(key)
        return None if active is None else active[0].record

    # Runs that are due

    async def _work(self) -> None:
        system = self._around.system
        patience = _LOOKS_AGAIN * system.looks_rarer_by
        looks_at = system.monotonic() + patience
        while not self._is_closing:
            self._wake.clear()
            try:
                next_in = await self._claim()
            except Exception:  # a bug of ours: the runs at work, and later ones, go on
                log.exception("the worker cannot look for work")
                next_in = None
            pause = patience if next_in is None else min(next_in, patience)
            await system.wait(self._wake, pause)
            # However often it is woken for other work: a hint for one of its runs may be lost.
            if system.monotonic() >= looks_at:
                looks_at = system.monotonic() + patience
                for attempt, _ in self._active.values():
                    attempt.look()

    @property
    def _free(self) -> int:
        return self._concurrency - len(self._active) - len(self._reserved)

    async def _claim(self) -> float | None:
        """Take what is due, and return in how many seconds there may be more."""
        free = self._free
        try:
            definitions = TASKS.by_name()
        except UsageError as error:  # a second task of a name was declared meanwhile
            log.error("no work is taken: %s", error)  # noqa: TRY400 - where does not matter
            return None
        lanes = [Lane(queue, name) for queue in self._queues for name in definitions]
        self._may_have_left = free <= 0
        if free <= 0 or not lanes:
            return None
        system = self._around.system
        asked_at = system.monotonic()
        try:
            claimed = await self._around.store.claim(
                lanes, self.owner, self.lease, free, system.draw_name()
            )
        except StoreError as error:
            if str(error) != self._complaint:
                log.warning("the store gives no work: %s", error)
            self._complaint = str(error)
            return _PAUSE
        self._complaint = ""
        for head in claimed.heads:
            definition = definitions[head.card.name]
            self._begin(head, Run(), definition, asked_at, is_new=False)
        if len(claimed.heads) < free:
            return claimed.next_in
        self._may_have_left = True
        return None

    def _begin(
        self, head: Head, run: Run, definition: Definition, asked_at: float, *, is_new: bool
    ) -> None:
        assert head.lease is not None
        record = Record(self._around.store, self._around.system, head, run)
        until = asked_at + self.lease
        attempt = self._make(head, record, definition, until, is_new=is_new)
        self._leases.keep(
            head.lease,
            asked_at,
            lambda: self._lose(head.key),
            lambda until: self._extend(head.key, until),
        )
        task = self._around.system.spawn(
            self._run(head, definition, record, attempt), f"run {head.key}"
        )
        self._active[head.key] = attempt, task

    def _make(
        self, head: Head, record: Record, definition: Definition, until: float, *, is_new: bool
    ) -> Attempt:
        if definition.is_isolated and self._around.system.isolates:
            return IsolatedAttempt(
                self._around,
                record,
                definition,
                is_new=is_new,
                parker=self._parker,
                head=head,
                children=self._children,
                until=until,
            )
        return Attempt(self._around, record, definition, is_new=is_new, parker=self._parker)

    def _lose(self, key: str) -> None:
        """Stop a run whose lease is over."""
        self._active[key][0].stop(Stop.LEASE_LOST)

    def _extend(self, key: str, until: float) -> None:
        """Take note that a lease was renewed; called in any thread."""
        if (active := self._active.get(key)) is not None:
            active[0].extend(until)

    async def _run(
        self, head: Head, definition: Definition, record: Record, attempt: Attempt
    ) -> None:
        """Run the turn that was taken up, and those that begin where it ends."""
        assert head.lease is not None
        try:
            await attempt.run()
            while attempt.is_followed:
                self._parker.forget(attempt, has_ended=False)
                attempt = self._make(head, record, definition, attempt.until, is_new=True)
                self._active[head.key] = attempt, self._active[head.key][1]
                await attempt.run()
        except StoreError as error:
            log.warning("%s is left to the end of its lease: %s", head.key, error)
        except Exception:
            log.exception("%s is left to the end of its lease: an error of outlast's own", head.key)
        finally:
            self._leases.forget(head.lease)
            self._parker.forget(attempt, has_ended=attempt.has_ended)
            if self._active.get(head.key, (None,))[0] is attempt:
                del self._active[head.key]
            # A run that has ended leaves a place, which is worth a look at the store only if there
            # was too little room before; one that has not may be due again.
            if self._may_have_left or not attempt.has_ended or self._is_closing:
                self._wake.set()

    def _hear(self, hint: Hint) -> None:
        # What our own runs write is no work for us, and neither is what has ended.
        is_own = hint.key in self._active or hint.key in self._reserved
        if not is_own and not hint.closed:
            self._wake.set()
