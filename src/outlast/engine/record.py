"""A run's journal, as whoever holds its lease knows it.

Everything that the holder writes goes through here, one change after the other; what waits
meanwhile is written together. The one rule that must not be broken: `run` is exactly what the
entries up to its revision add up to, facts of others included, and a decision is taken on nothing
else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from outlast.engine.clock import System, end
from outlast.errors import Conflict, Fenced, StoreError, Unavailable
from outlast.journal import NEVER, Change, Entry, Fence, Head
from outlast.model.events import (
    FOLDED_TYPES,
    STREAM_TYPES,
    Aborted,
    Decision,
    Emitted,
    Ended,
    StreamEvent,
    TakenBack,
    decode,
    encode,
)
from outlast.model.fold import fold, loaded
from outlast.model.run import Input, Run
from outlast.store import Reading, Store

T = TypeVar("T")

_PAUSES: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before a write that got no answer is said again; the last one from then on."""

Written = Decision | StreamEvent
Decide = Callable[[Run], Sequence[Written]]
Late = Callable[[], Decision]
Carry = Callable[[], Sequence[Written]]


class Record:
    """The journal of one run under one lease.

    Attributes:
        run: what its entries amount to.
        facts: how many of them came from outside.
        carry: gives what every write takes along, before its own entries.
        changed: called when entries of others were taken up.
        behind: called when there may be more of them, and nobody reads.
    """

    run: Run
    facts: int
    key: str
    first: int

    def __init__(
        self, store: Store, system: System, head: Head, run: Run, *, writer: str = ""
    ) -> None:
        """Begin under the head's lease.

        Args:
            store: where the journal is.
            system: the machine.
            head: of the journal, with our lease.
            run: what is known of its entries; it is changed in place.
            writer: tells apart those that write under one lease, one after the other.
        """
        assert head.lease is not None
        self.run, self.facts = run, head.facts
        self.key, self.first = head.key, head.first
        self.fence: Fence = head.lease.fence
        self.carry: Carry = tuple
        self.changed: Callable[[], None] = _nothing
        self.behind: Callable[[], None] = _nothing
        self._awaiting_end: set[asyncio.Future[None]] = set()
        self._store, self._system = store, system
        self._ids, self._count = f"{self.fence.id}{writer and '.'}{writer}", 0
        self._ended = 0  # turns
        self._newest: StreamEvent | None = None  # that was emitted, as far as is known
        self._knows_newest = False
        self._waiting: list[tuple[int, tuple[Decision | Late, ...], asyncio.Future[bool]]] = []
        self._turn = asyncio.Lock()  # one write at a time
        self._writer: asyncio.Task[None] | None = None
        self._refused: BaseException | None = None
        self._hinted = 0
        self._heard = 0  # hints
        self._is_stopped = False

    def hint(self, revision: int) -> bool:
        """Take note that the journal may be at this revision; return whether to `catch_up` for it.

        Revision 0: it may be at any. Whoever reads or writes meanwhile sees to it afterwards.
        """
        self._hinted = max(self._hinted, revision or self.run.revision + 1)
        self._heard += 1
        return not self._turn.locked() and self._hinted > self.run.revision

    @property
    def is_busy(self) -> bool:
        """Whether something is being written or read."""
        return self._turn.locked() or bool(self._waiting)

    async def catch_up(self) -> None:
        """Take up what others have written since.

        Raises:
            Fenced: the lease is over.
        """
        heard = -1
        while heard != self._heard:
            async with self._turn:  # in between, who wants to write has its turn
                heard = self._heard
                await self._refresh()

    async def read_all(self) -> Reading:
        """Return what somebody needs who goes on with the run in our place.

        Raises:
            Fenced: the lease is over.
        """
        reading, _ = await self._read(None)
        return reading

    async def _refresh(self) -> None:
        known = self.run.revision
        # From the newest snapshot on, the first time.
        reading, head = await self._read(known or None)
        fold((entry for entry in reading.entries if entry.revision > known), self.run)
        self._reach(head)
        self.changed()

    async def _read(self, after: int | None) -> tuple[Reading, Head]:
        reading = await self._ask(lambda: self._store.read(self.key, after, types=FOLDED_TYPES))
        head = reading.head
        if head is None or head.first != self.first:
            raise Fenced(self.key, self.fence, None)
        # Of the same instant as the entries: a successor's are none of ours to decide on.
        if head.fence != self.fence and not head.closed:
            raise Fenced(self.key, self.fence, head.fence)
        return reading, head

    async def read_stream(
        self, after: int = 0, *, limit: int | None = None, last: int | None = None
    ) -> Sequence[Entry]:
        """Return what was emitted after a revision; `limit` and `last` as of a store."""
        reading = await self._ask(
            lambda: self._store.read(self.key, after, limit=limit, last=last, types=STREAM_TYPES)
        )
        return reading.entries

    async def newest_item(self) -> StreamEvent | None:
        """Return what the run emitted last, at the cost of one entry, once.

        Nobody else emits while we hold the lease.
        """
        if not self._knows_newest:
            for entry in await self.read_stream(last=1):
                newest = decode(entry)
                assert isinstance(newest, Emitted | TakenBack)
                self._newest = newest
            self._knows_newest = True
        return self._newest

    async def newest_offset(self) -> int:
        """Return the stream's offset."""
        newest = await self.newest_item()
        return newest.offset if newest else 0

    def forget_newest(self) -> None:
        """Take note that somebody else emits for us."""
        self._newest, self._knows_newest = None, False

    async def write(self, *events: Decision | Late) -> bool:
        """Write what was decided in mid-turn, with what waits beside it; return when it is durable.

        Return whether nothing else was written with it.

        A function is asked for its event at the last moment, when it is certain to be written next.
        Said together with others, it stands or falls with them: all are refused when the lease is
        over.

        Raises:
            Fenced: the lease is over: stop.
        """
        if self._refused:
            raise self._refused
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.run.turn, events, written))
        if self._writer is None or self._writer.done():
            # A task of its own: who asked may be cancelled, and the others go on.
            self._writer = self._system.spawn(self._write_waiting(), f"write {self.key}")
        return await written

    async def _write_waiting(self) -> None:
        while self._waiting:
            async with self._turn:  # one batch at a time: a decision has its turn in between
                batch = self._take_waiting()
                late = (event for some, _ in batch for event in some)
                try:
                    await self._append([event() if callable(event) else event for event in late])
                except BaseException as error:  # noqa: BLE001 - handed to whoever asked
                    self._refused = error
                    for _, written in batch + self._take_waiting():
                        if not written.done():
                            written.set_exception(error)
                            written.exception()  # who asked may be gone: then nobody looks
                    return
            for _, written in batch:
                if not written.done():
                    written.set_result(len(batch) == 1)
            if not self._waiting:
                await asyncio.sleep(0)  # who goes on at once writes next: another task costs more
        self._see_to_hints()

    def _take_waiting(self) -> list[tuple[tuple[Decision | Late, ...], asyncio.Future[bool]]]:
        """Take what is to be written, but for what was asked in a turn that is over."""
        waiting, self._waiting = self._waiting, []
        for turn, _, written in waiting:
            if turn != self.run.turn:
                written.cancel()
        return [(some, written) for turn, some, written in waiting if turn == self.run.turn]

    def _see_to_hints(self) -> None:
        """Have somebody look at what was hinted at while we wrote."""
        if self.run.is_entered and self._hinted > self.run.revision:
            self.behind()

    async def _append(self, events: Sequence[Decision]) -> None:
        if self._refused:  # while it waited for its turn
            raise self._refused
        written = (*self.carry(), *events)
        if written:
            drafts = tuple(map(encode, written))
            change = Change(key=self.key, id=self._next_id(), entries=drafts, fence=self.fence)
            await self._take_in(await self._say(change), written)

    async def load_inputs(self) -> None:
        """Read the inputs that the turn needs, where they are known by their entries only."""
        run = self.run
        needed = [run.input, run.previous, *run.inputs, *run.taken.values()]
        read = {
            input.revision: await self._load(input)
            for input in needed
            if input is not None and not input.is_loaded
        }

        def known(input: Input) -> Input:
            return input if input.is_loaded else read[input.revision]

        run.input = run.input and known(run.input)
        run.previous = run.previous and known(run.previous)
        run.inputs = tuple(map(known, run.inputs))
        run.taken = {number: known(input) for number, input in run.taken.items()}

    async def _load(self, input: Input) -> Input:
        after = max(input.revision, self.first) - 1
        reading = await self._ask(lambda: self._store.read(self.key, after, limit=1))
        return loaded(input, reading.entries)

    async def decide(self, decide: Decide, *, releases: bool = True) -> Sequence[Written]:
        """Write what `decide` says of the run as it is, at an edge; ask again if a fact came first.

        What rests afterwards gives the lease back, unless it is to be left to its end; what has
        ended is closed.

        Raises:
            Fenced: the lease is over: stop.
            Unavailable: this, or what was to be written before it, may be lost: stop.
        """
        async with self._turn:
            if self._refused:
                # What it would carry comes after what may be lost: a stream would have a gap.
                raise self._refused
            try:
                events = await self._decide(decide, releases=releases)
            except StoreError as error:
                self._refused = error
                raise
        self._see_to_hints()
        return events

    async def _decide(self, decide: Decide, *, releases: bool) -> Sequence[Written]:
        carried: tuple[Written, ...] = ()
        while True:
            carried = (*carried, *self.carry())  # first: what is decided may take items back
            events = tuple(decide(self.run))
            after = self.run.after(events)
            change = Change(
                key=self.key,
                id=self._next_id(),
                entries=tuple(map(encode, (*carried, *events))),
                fence=self.fence,
                card=after.moving_card(),
                close=True if after.outcome else None,
                release=releases and not after.is_entered,
                facts=self.facts,
                closed=self.run.outcome is not None,
            )
            try:
                head = await self._say(change)
            except Conflict:
                await self._refresh()
                continue
            await self._take_in(head, (*carried, *events))
            return events

    async def give_up(self, ended: Ended) -> None:
        """End a run whose entries cannot be read: what they amount to is not asked."""
        change = Change(
            key=self.key,
            id=self._next_id(),
            entries=(encode(ended),),
            fence=self.fence,
            card={"status": ended.status.value, "due": NEVER},
            close=True,
            release=True,
        )
        await self._say(change)

    async def _take_in(self, head: Head, written: Sequence[Written]) -> None:
        """Fold what was written; where others wrote as well, read it all in its order."""
        for event in written:
            if isinstance(event, (Emitted, TakenBack)):
                self._newest, self._knows_newest = event, True
        if max(head.revision, self._hinted) != self.run.revision + len(written):
            await self._refresh()
            return
        for revision, event in enumerate(written, self.run.revision + 1):
            if not isinstance(event, (Emitted, TakenBack)):
                self.run.evolve(event, head.updated_at, revision)
        self._reach(head)

    def _reach(self, head: Head) -> None:
        """Take note that all is taken in up to this head."""
        self.run.revision, self.facts = head.revision, head.facts
        ended = self.run.turn - (not self.run.is_between)
        if self.run.outcome is not None or ended > self._ended:
            self._tell_of_end()
        self._ended = ended

    def _tell_of_end(self) -> None:
        for waiter in self._awaiting_end:
            end(waiter)

    async def outcome_within(self, seconds: float) -> Ended | Aborted | None:
        """Return how the run ended, as soon as that is known here.

        None: a turn has ended and the run goes on, or nothing is known after so many seconds, or
        nothing more is learnt of the run here.
        """
        if self.run.outcome is None and not self._is_stopped:
            waiter = asyncio.get_running_loop().create_future()
            self._awaiting_end.add(waiter)
            timer = self._system.call_later(seconds, lambda: end(waiter))
            try:
                await waiter
            finally:
                timer.cancel()
                self._awaiting_end.remove(waiter)
        return self.run.outcome

    async def _say(self, change: Change) -> Head:
        """Commit the change; say it again, with the same id, while the store does not answer."""
        [head] = await self._ask(lambda: self._store.commit(change))
        return head

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        pauses = iter(_PAUSES)
        while True:
            try:
                return await request()
            except Unavailable as error:
                # The lease's end bounds this: then the run is stopped, and this with it.
                if self._is_stopped or error.is_final:
                    raise
                await self._system.sleep(next(pauses, _PAUSES[-1]))

    def stop(self) -> None:
        """Give up what the store has not answered; what is asked from now on is asked once."""
        self._is_stopped = True
        self._tell_of_end()

    def close(self) -> None:
        """Stop, and call nobody any more.

        What waits to be written is refused: without those who are called, it would lack its items.
        """
        self.stop()
        self._refused = self._refused or Fenced(self.key, self.fence, None)
        self.let_go()

    def let_go(self) -> None:
        """Call nobody any more: who is called refers to us, and would live on by that."""
        self.carry, self.changed, self.behind = tuple, _nothing, _nothing

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._ids}.{self._count}"


def _nothing() -> None:
    pass
