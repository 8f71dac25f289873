"""One entry into a handler: what its `ctx` and the attempt that runs it share.

The one rule that must not be broken: once something was thrown into the turn, every call of its
`ctx` raises the same again and records nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal

from outlast.engine import insides
from outlast.engine.belongings import Scope
from outlast.engine.order import Order
from outlast.errors import StoreError, UsageError
from outlast.model.decisions import MAX_CHECKPOINTS
from outlast.model.events import Checkpointed, Decision, Kind, Slot

if TYPE_CHECKING:
    from outlast.engine.clock import System
    from outlast.engine.definition import Definition
    from outlast.engine.record import Decide, Late, Record
    from outlast.engine.threads import Threads
    from outlast.model.run import Checkpoint, Run

log: Final = logging.getLogger("outlast")

StopReason = Literal["cancel", "timeout", "steered", "shutdown", "lease_lost"]

MAX_NAME: Final = 200
"""Characters of an id, and of a name of a task, a step, a sleep, a signal, or a queue."""

_PATIENCE: Final = 10
"""Calls that a handler may make after something was thrown into it; the next one never returns."""

inside: ContextVar[Slot | None] = ContextVar("inside", default=None)
"""The step in whose body we are."""


class Turn:
    """What one entry into the handler knows, beside what is recorded.

    Attributes:
        cancel, shutdown: set when the handler should come to its end; `stop_reason` says why.
        scope: tells what belongs to it; its first task is the handler's own.
        thrown: what ended the turn from outside.
        lost: called when a write shows that the lease is over.
    """

    record: Record
    system: System
    definition: Definition
    max_payload: int
    scope: Scope
    loop: asyncio.AbstractEventLoop
    order: Order
    cancel: asyncio.Event
    shutdown: asyncio.Event

    def __init__(
        self,
        record: Record,
        system: System,
        definition: Definition,
        max_payload: int,
        variables: Context | None = None,
    ) -> None:
        """Begin, with a copy of these variables for the handler."""
        self.record, self.system, self.definition = record, system, definition
        self.max_payload, self.loop = max_payload, asyncio.get_running_loop()
        self.scope = scope = Scope(self.loop, variables)
        self.order = Order(system, scope, self._asked, is_live=not record.run.checkpoints)
        self.cancel, self.shutdown = asyncio.Event(), asyncio.Event()
        self.stop_reason: StopReason | None = None
        self.thrown: BaseException | None = None
        self.lost: Callable[[], None] = _nothing
        self._names: dict[tuple[Kind, str], int] = {}  # how often each was called
        self._calls_since = 0
        self._threads: dict[object, int] = {}  # by a mark: its identity
        self._asking: set[int] = set()  # threads that wait for a call of their `ctx`
        self._thread_ended = asyncio.Event()

    @property
    def run(self) -> Run:
        """What is recorded of the run."""
        return self.record.run

    async def enter(self, kind: Kind, name: object) -> int:
        """Return the number of this call among those of its kind and name, from 1.

        Raises:
            UsageError: the name is not one, or the call stands inside a step.
        """
        await self.check(kind)
        if not isinstance(name, str) or not name or len(name) > MAX_NAME or "#" in name:
            raise UsageError(
                f"the name of a {kind} is a str of 1 to {MAX_NAME} characters without '#', not "
                f"{name!r}"
            )
        number = self._names[kind, name] = self._names.get((kind, name), 0) + 1
        return number

    async def check(self, call: str) -> None:
        """Raise what was thrown into the turn, if anything; refuse a call from inside a step."""
        if self.thrown is not None:
            await self.check_thrown()
        if (slot := inside.get()) is not None:
            raise UsageError(
                f"ctx.{call} was called inside the step {str(slot)!r}, which is recorded as a "
                "whole; call it from the handler itself"
            )

    async def check_thrown(self) -> None:
        """Raise what was thrown; a handler that swallows it again and again never returns."""
        if self.thrown is None:
            return
        self._calls_since += 1
        if self._calls_since > _PATIENCE:
            await self.loop.create_future()
        await asyncio.sleep(0)
        self.raise_thrown()

    def raise_thrown(self) -> None:
        """Raise what was thrown into the turn, if anything was."""
        if self.thrown is not None:
            raise self.thrown.with_traceback(None)

    def throw(self, error: BaseException) -> None:
        """Make every call of the turn's `ctx` raise `error` from now on; the first one counts."""
        self.thrown = self.thrown or error
        self.order.close()

    def ask_to_stop(self, reason: StopReason) -> None:
        """Tell the handler that it should come to its end; the first reason counts."""
        self.stop_reason = self.stop_reason or reason
        (self.shutdown if reason == "shutdown" else self.cancel).set()

    async def run_in_thread(self, pool: Threads, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function in a thread, which goes on when who waits for it is cancelled."""
        mark = object()

        def call() -> Any:
            self._threads[mark] = threading.get_ident()
            try:
                return function(*args)
            finally:
                self._threads.pop(mark, None)
                if self.thrown is not None:  # else nobody waits for it
                    with suppress(RuntimeError):  # the loop is closed
                        self.loop.call_soon_threadsafe(self._thread_ended.set)

        self._threads[mark] = 0  # it has not begun
        return await pool.run(call)

    @contextmanager
    def asking(self) -> Generator[None]:
        """Take note that this thread waits for a call of its `ctx`."""
        thread = threading.get_ident()
        self._asking.add(thread)
        try:
            yield
        finally:
            self._asking.discard(thread)

    def _asked(self) -> Collection[asyncio.Future[Any]]:
        """Return what the task of a plain handler waits for, while its thread waits for `ctx`."""
        if self.scope.first is None or self.definition.is_async:
            return ()
        waiter = insides.waiter_of(self.scope.first)
        is_asking = set(self._threads.values()) <= self._asking
        return () if waiter is None or not is_asking else (waiter,)

    def close(self) -> None:
        """Let go of what belongs to a turn that is over: each refers to the others."""
        self.lost = self.order.began = _nothing
        self.scope.close()

    async def wait_for_threads(self, timeout: float) -> None:
        """Wait until no thread runs code of this turn, which something was thrown into."""
        ends = self.system.monotonic() + timeout
        self._thread_ended.clear()
        while self._threads and (left := ends - self.system.monotonic()) > 0:
            await self.system.wait(self._thread_ended, left)
            self._thread_ended.clear()

    @property
    def has_threads(self) -> bool:
        """Whether a thread still runs code of this turn."""
        return bool(self._threads)

    def recorded(self, slot: Slot) -> Checkpoint | None:
        """Return what is recorded there."""
        return self.run.checkpoints.get(slot)

    async def write(self, *events: Decision | Late) -> bool:
        """Record what was decided in mid-turn; return whether nothing else was, at once."""
        self.raise_thrown()
        try:
            is_alone = await self.record.write(*events)
        except StoreError:
            self.lost()
            self.raise_thrown()
            raise
        self.raise_thrown()
        return is_alone

    async def decide(self, decide: Decide) -> None:
        """Record what is decided at an edge, on the run as it is then."""
        self.raise_thrown()
        try:
            # The turn may be over by then, and the run in another one.
            await self.record.decide(lambda run: () if self.thrown else decide(run))
        except StoreError:
            self.lost()
            self.raise_thrown()
            raise
        self.raise_thrown()

    async def checkpoint(self, slot: Slot, event: Checkpointed | Late) -> None:
        """Record an outcome, and return when the handler may be given it.

        That is at once, unless others were recorded with it: a replay gives them one by one.
        """
        self.check_room()
        is_alone = await self.write(event)
        await self.give_in_turn(slot, is_alone=is_alone)

    def check_room(self) -> None:
        """Refuse one checkpoint too many."""
        if len(self.run.checkpoints) >= MAX_CHECKPOINTS:
            raise UsageError(
                f"{self.record.key!r} has {MAX_CHECKPOINTS} checkpoints in one turn, as many as it "
                "may; divide the work over several runs"
            )

    async def give_in_turn(self, slot: Slot, *, is_alone: bool = True) -> None:
        """Return when the handler may be given this new outcome.

        A signal that came, or a time that passed, while the handler was out of memory is there
        before the replay has caught up.
        """
        place = self.run.checkpoints[slot].place
        if is_alone and self.order.may_give(place):
            self.given(slot)
        else:
            await self.order.hand_over_new(place)
            self.raise_thrown()

    def given(self, slot: Slot) -> None:
        """Count a recorded outcome as given to the handler."""
        self.order.give(self.run.checkpoints[slot].place)

    async def hand_over(self, checkpoint: Checkpoint) -> None:
        """Return when the handler may be given this recorded outcome."""
        await self.order.hand_over(checkpoint.place, checkpoint.after)
        self.raise_thrown()


def _nothing() -> None:
    pass
