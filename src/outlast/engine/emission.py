"""What a handler emits, on its way into the journal.

An item is accepted when it is written: at the latest 50 ms after it was emitted, and before
anything that the run records later. The one rule that must not be broken: an accepted item is not
emitted again by a replay, and none that was not accepted is left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from outlast.codec import Json, digest
from outlast.engine.turn import inside
from outlast.errors import StoreError
from outlast.model.events import Emitted, Slot, StepStreamed, TakenBack, decode

if TYPE_CHECKING:
    from outlast.engine.record import Written
    from outlast.engine.turn import Turn

BUFFERED_FOR: Final = 0.05
"""Seconds for which an item may wait for others."""

MAX_BUFFERED: Final = 1_000
"""Items that may wait; whoever emits one more waits until they are written."""

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Item:
    value: Json
    slot: Slot | None
    outside: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Retraction:
    slot: Slot
    after: int


class Emission:
    """The stream of one entry into a handler."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._offset = 0
        self._outside = 0
        self._to_skip = 0
        self._beside: Counter[str] | None = None  # accepted of other tasks than the handler's own
        self._counting = asyncio.Lock()
        self._waiting: list[_Item | _Retraction] = []
        self._streaming: set[Slot] = set()  # whose try has begun to emit
        self._retracted: dict[Slot, int] = {}
        self._is_due = False

    @property
    def offset(self) -> int:
        """That of the newest item that was written, or is about to be."""
        return self._offset

    async def resume(self) -> None:
        """Find out what this turn has emitted before, at the cost of one entry."""
        newest = await self._turn.record.newest_item()
        if newest is None:
            return
        self._offset = newest.offset
        if newest.turn == self._turn.run.turn:
            self._outside = self._to_skip = newest.outside
        if isinstance(newest, TakenBack):  # it need not be taken back again
            for slot, after in self._turn.run.streamed.items():
                if (str(slot), after) == (newest.step, newest.after):
                    self._retracted[slot] = after

    def begin(self) -> None:
        """Emit what the handler gives from now on."""
        self._turn.record.carry = self._take

    async def emit(self, value: Json) -> None:
        """Take an item, unless it was accepted before this entry into the handler."""
        slot, mark = inside.get(), ""
        if slot is None:
            if asyncio.current_task() is not self._turn.scope.first:
                # Tasks run in no certain order, so a replay tells their items apart by their
                # values.
                mark = digest((value,), {})
                if await self._was_accepted(mark):
                    return
            elif self._to_skip:
                self._to_skip -= 1
                return
            else:
                self._outside += 1
        self._waiting.append(_Item(value, slot, self._outside, mark))
        if len(self._waiting) > MAX_BUFFERED:
            await self._turn.write()
        else:
            self._flush_soon()

    @property
    def is_buffered(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._waiting)

    def retract(self, slot: Slot) -> None:
        """Take back what an earlier try of this step emitted, if it did."""
        after = self._turn.run.streamed.get(slot)
        if after is not None and self._retracted.get(slot) != after:
            self._retracted[slot] = after
            self._waiting.append(_Retraction(slot, after))
            self._flush_soon()
        self._streaming.discard(slot)

    async def _was_accepted(self, mark: str) -> bool:
        async with self._counting:  # whoever comes meanwhile needs all of them counted, too
            beside = self._beside if self._beside is not None else await self._count_accepted()
        self._beside = beside
        if beside[mark] == 0:
            return False
        beside[mark] -= 1
        return True

    async def _count_accepted(self) -> Counter[str]:
        beside, after, turn = Counter[str](), 0, self._turn
        is_read = turn.run.entries == 1
        while not is_read:
            try:
                entries = await turn.record.read_stream(after, limit=_PAGE)
            except StoreError:
                turn.raise_thrown()
                raise
            for entry in entries:
                item = decode(entry)
                if isinstance(item, Emitted) and item.digest and item.turn == turn.run.turn:
                    beside[item.digest] += 1
                after = entry.revision
            is_read = len(entries) < _PAGE
        return beside

    def _flush_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._turn.system.call_later(BUFFERED_FOR, self._flush)

    def _flush(self) -> None:
        self._is_due = False
        if self._waiting and self._turn.thrown is None:
            self._turn.system.spawn(self._write(), "emit")

    async def _write(self) -> None:
        try:
            await self._turn.record.write()
        except StoreError:
            return  # the attempt learns of it by itself

    def _take(self) -> Sequence[Written]:
        """Give what waits its offsets, and return it as it is to be written."""
        waiting, self._waiting = self._waiting, []
        written: list[Written] = []
        turn = self._turn.run.turn
        for item in waiting:
            slot = item.slot
            self._offset += 1
            if isinstance(item, _Retraction):
                written.append(
                    TakenBack(self._offset, item.after, turn, str(item.slot), self._outside)
                )
                continue
            if slot is not None and slot not in self._streaming:
                self._streaming.add(slot)
                written.append(StepStreamed(slot.name, slot.number, self._offset - 1))
            step = None if slot is None else str(slot)
            written.append(Emitted(self._offset, turn, item.value, step, item.outside, item.digest))
        return written
