"""Sleeps, and waits for signals."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from outlast.engine.clock import end
from outlast.engine.order import Awaited
from outlast.engine.settings import seconds_of
from outlast.errors import StoreError
from outlast.model.events import Asked, Checkpointed, Decision, Slot, TimerSet

if TYPE_CHECKING:
    from outlast.codec import Codec, Json
    from outlast.engine.turn import Turn
    from outlast.model.run import Run


@dataclass(eq=False, slots=True)
class _Waiter:
    slot: Slot
    after: int
    settled: asyncio.Future[Any]
    is_over: bool = False  # its timeout has come
    is_leaving: bool = False  # it is cancelled, and takes nothing any more
    is_alone: bool = True  # no other was settled by the same write


class Waits:
    """What the handler of one turn waits for."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._waiters: dict[str, list[_Waiter]] = defaultdict(list)  # by signal, oldest first
        self._settling: asyncio.Task[None] | None = None

    async def sleep(self, name: str, duration: timedelta) -> None:
        """Return when `duration` has passed since this call was first made."""
        turn = self._turn
        seconds = seconds_of("a sleep's duration", duration)
        slot = Slot("sleep", name, await turn.enter("sleep", name))
        if checkpoint := turn.recorded(slot):
            await turn.hand_over(checkpoint)
            return
        turn.check_room()
        after = self._asked(slot)
        until = await self._set_timer(slot, seconds, after)
        with turn.order.waiting(Awaited(until)) as passed:
            await turn.system.pause(until, passed)
        await turn.checkpoint(slot, Checkpointed("sleep", slot.name, slot.number, after))

    async def wait(self, name: str, codec: Codec[Any], timeout: timedelta | None) -> Any:
        """Return the value of the next signal of this name that no wait has taken.

        Raises:
            TimeoutError: there was none when the timeout had passed since this call was first made.
        """
        turn = self._turn
        seconds = None if timeout is None else seconds_of("a wait's timeout", timeout)
        slot = Slot("wait", name, await turn.enter("wait", name))
        checkpoint = turn.recorded(slot)
        if checkpoint is not None:
            await turn.hand_over(checkpoint)
        else:
            turn.check_room()
            is_alone = await self._await_signal(slot, seconds)
            checkpoint = turn.run.checkpoints[slot]
            if is_alone and turn.order.may_give(checkpoint.place):
                turn.given(slot)
            else:
                await self._take_turn(slot)
        if checkpoint.event.timed_out:
            raise TimeoutError(f"no signal {name!r} came within {timeout}")
        return codec.load(checkpoint.event.value, root="signal")

    async def _take_turn(self, slot: Slot) -> None:
        """Return when the handler may be given the outcome; it counts if that is cancelled, too."""
        turn = self._turn
        try:
            await turn.order.hand_over_new(turn.run.checkpoints[slot].place)
        except asyncio.CancelledError:
            if turn.thrown is not None:
                raise
            turn.given(slot)
        turn.raise_thrown()

    async def _await_signal(self, slot: Slot, seconds: float | None) -> bool:
        """Return when the wait is settled, and whether no other was settled with it."""
        turn, after = self._turn, self._asked(slot)
        until = None if seconds is None else await self._set_timer(slot, seconds, after)
        waiters = self._waiters[slot.name]
        with ExitStack() as stack:
            awaited = Awaited(until, Asked(slot.name, slot.number, after))
            waiter = _Waiter(slot, after, stack.enter_context(turn.order.waiting(awaited)))
            waiters.append(waiter)
            stack.callback(waiters.remove, waiter)
            if until is not None:
                timer = turn.system.call_at(until, lambda: self._time_out(waiter))
                stack.callback(timer.cancel)
            self.settle()
            try:
                await waiter.settled
            except asyncio.CancelledError:
                if not await self._is_settled_already(waiter):
                    raise
        turn.raise_thrown()
        return waiter.is_alone

    async def _is_settled_already(self, waiter: _Waiter) -> bool:
        """Say whether a cancelled waiter has its outcome: one that is being written counts.

        Else it would have taken a signal that nobody gets.
        """
        waiter.is_leaving = True
        if self._turn.thrown is None and self._settling is not None:
            await asyncio.wait({self._settling})
        return self._turn.thrown is None and waiter.slot in self._turn.run.checkpoints

    def _asked(self, slot: Slot) -> int:
        """Return how many outcomes had been given when this was asked for, the first time."""
        return self._turn.run.asked.get(slot, self._turn.order.asked())

    async def _set_timer(self, slot: Slot, seconds: float, after: int) -> float:
        turn = self._turn
        until = turn.run.timers.get(slot)
        if until is None:
            until = turn.system.wall() + seconds
            await turn.write(TimerSet(slot.kind, slot.name, slot.number, until, after))
        return until

    def _time_out(self, waiter: _Waiter) -> None:
        waiter.is_over = True
        self.settle()

    @property
    def is_settling(self) -> bool:
        """Whether an outcome of a wait is being written."""
        return self._settling is not None and not self._settling.done()

    def settle(self) -> None:
        """Give signals to those who wait for them; end the waits whose time is over."""
        is_idle = self._settling is None or self._settling.done()
        if self._turn.thrown is None and is_idle and self._settle_now(self._turn.run):
            self._settling = self._turn.system.spawn(self._settle(), "settle")

    async def _settle(self) -> None:
        try:
            while self._turn.thrown is None and self._settle_now(self._turn.run):
                # At an edge: a signal that came before the timeout was written counts.
                await self._turn.record.decide(self._settle_now)
                self._wake()
        except StoreError:
            self._turn.lost()

    def _settle_now(self, run: Run) -> Sequence[Decision]:
        events: list[Decision] = []
        if self._turn.thrown is not None:
            return events  # the turn may be over, and the run in another one
        for name, waiters in self._waiters.items():
            signals = list(run.signals.get(name, ()))
            for waiter in waiters:
                if waiter.is_leaving or waiter.slot in run.checkpoints:
                    continue
                if signals:
                    events.append(_settled(waiter, signals.pop(0)))
                elif waiter.is_over:
                    events.append(_settled(waiter, None, timed_out=True))
        return events

    def _wake(self) -> None:
        settled = [
            waiter
            for waiters in self._waiters.values()
            for waiter in waiters
            if waiter.slot in self._turn.run.checkpoints and not waiter.settled.done()
        ]
        settled.sort(key=lambda waiter: self._turn.run.checkpoints[waiter.slot].place)
        for waiter in settled:
            waiter.is_alone = len(settled) == 1
            end(waiter.settled)


def _settled(waiter: _Waiter, value: Json, *, timed_out: bool = False) -> Checkpointed:
    slot = waiter.slot
    return Checkpointed("wait", slot.name, slot.number, waiter.after, value, timed_out=timed_out)
