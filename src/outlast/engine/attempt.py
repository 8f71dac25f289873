"""One attempt at a run: from the lease to what the handler's end amounts to.

The one rule that must not be broken: the lease is given back only when the run's code has stopped.
What cannot be stopped keeps it until its end, and can write nothing afterwards.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, Final

from outlast.codec import ErrorRecord
from outlast.engine.belongings import Belongings, Look, glance
from outlast.engine.clock import end
from outlast.engine.emission import Emission
from outlast.engine.parking import Parker, Parking
from outlast.engine.payloads import check_size
from outlast.engine.record import Decide, Record, Written
from outlast.engine.retry import RetryPolicy
from outlast.engine.steering import Leaving, Steering
from outlast.engine.steps import Steps
from outlast.engine.stopping import ended_by, expect, stop_all
from outlast.engine.turn import StopReason, Turn
from outlast.engine.waits import Waits
from outlast.errors import CodecError, Corrupt, Fenced, StoreError, Unwound
from outlast.model import decisions
from outlast.model.decisions import Entrance
from outlast.model.events import Ended, HandedBack, Parked, Status, TurnBegan
from outlast.model.run import Run
from outlast.model.terms import Terms

if TYPE_CHECKING:
    from outlast.engine.clock import System, Timer
    from outlast.engine.definition import Definition
    from outlast.engine.hints import Hints
    from outlast.store import Hint, Store

log: Final = logging.getLogger("outlast")

STOPS_WITHIN: Final = 1.0
"""Seconds that a handler has to end when it is stopped, twice; then it is abandoned."""

PUT_BACK_FOR: Final = 30.0
"""Seconds for which a run rests after an error of our own."""


class Stop(Enum):
    """Why an attempt is ended from outside."""

    ABORTED = "aborted"
    LEASE_LOST = "lease_lost"
    SHUTDOWN = "shutdown"
    ASKED = "asked"
    LEFT = "left"
    PARKED = "parked"


_WITH_AN_END: Final = (Stop.ASKED, Stop.LEFT, Stop.PARKED)
"""Those after which something is to be written, however long the store takes."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What a handler's `ctx` is made of."""

    turn: Turn
    emission: Emission
    steps: Steps
    waits: Waits
    steering: Steering
    loop: asyncio.AbstractEventLoop


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What attempts of one app share."""

    store: Store
    system: System
    hints: Hints
    variables: contextvars.Context
    max_payload: int


class Attempt:
    """One entry into a handler, or what takes its place.

    Attributes:
        record: the run's journal, under the lease.
        is_followed: a next turn has begun in the write that ended this one.
        until: when the lease ends, by the monotonic clock, if nobody renews it.
    """

    record: Record
    is_followed: bool
    until: float = inf

    def __init__(
        self,
        surroundings: Surroundings,
        record: Record,
        definition: Definition,
        *,
        is_new: bool,
        parker: Parker,
    ) -> None:
        self._around, self.record, self._definition = surroundings, record, definition
        self._is_new = is_new  # it was taken up already: with what was written before, or for us
        self.is_followed = self._has_lost_lease = False
        self._emission: Emission | None = None
        self._streamed = 0
        self._leaving: Leaving | None = None
        self._asked: set[StopReason] = set()
        self._alarms: list[Timer] = []
        self._parker, self._may_park = parker, parker.may_park(record.key)
        self._stop: Stop | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn: Turn | None = None
        self._waits: Waits | None = None
        self._parking: Parking | None = None
        self._parked = Parked()
        self._found: Belongings | None = None  # what it had when it was seen to wait only
        self._looking: asyncio.Task[None] | None = None
        self._is_asked_to_shut_down = False
        record.changed, record.behind = self._take_note, self.look
        # From now on, not from the first entry on: a signal may follow a start at once.
        self._stop_listening = surroundings.hints.listen(record.key, self._hear)

    async def run(self) -> bool:
        """Take the run up, enter its handler, and write what comes of it.

        Return whether its code has stopped: else the lease is left to its end.
        """
        record = self.record
        try:
            if not self._is_new:
                await record.catch_up()
                if not await self._take_up():
                    return True
            return await self._enter()
        except Fenced:
            return True  # somebody else goes on with it, or it has ended
        except Corrupt as error:
            log.error("%s cannot be read, and is ended: %s", record.key, error)  # noqa: TRY400
            data = ErrorRecord.from_exception(error).dump()
            await self._clean_up_after_error()
            await record.give_up(Ended(Status.FAILED, error=data, reason=str(error)))
            return True
        except StoreError:
            raise
        except Exception:
            # Ours, not the handler's: the run is neither failed for it, nor tried in a hurry.
            log.exception("%s is put back: an error of outlast's own", record.key)
            if has_stopped := await self._clean_up_after_error():
                await self._hand_back(PUT_BACK_FOR)
            return has_stopped
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Hear nothing more, and tell nobody."""
        if self.is_followed:
            self.record.let_go()
        else:
            self.record.close()
        for alarm in self._alarms:
            alarm.cancel()
        self._alarms.clear()
        self._stop_listening()
        if self._turn is not None:
            self._turn.close()
        self._turn = self._waits = self._parking = self._found = None

    @property
    def has_ended(self) -> bool:
        """Whether the run has, as far as is known."""
        return self.record.run.outcome is not None

    def stop(self, stop: Stop) -> None:
        """End the attempt from outside; the first reason counts."""
        if stop not in _WITH_AN_END:  # also where such an end is being written
            self.record.stop()
        self._has_lost_lease = self._has_lost_lease or stop is Stop.LEASE_LOST
        if self._stop is None:
            self._stop = stop
            end(self._over)
            if self._turn is not None:
                if stop is Stop.LEASE_LOST:
                    self._turn.ask_to_stop("lease_lost")
                self._turn.throw(Unwound(f"the run {self.record.key!r} was stopped: {stop.value}"))
                scope, found = self._turn.scope, self._found
                expect((found or glance(scope)).tasks, Unwound)

    def extend(self, until: float) -> None:
        """Take note that the lease was renewed; called in any thread."""
        self.until = until

    def ask_to_shut_down(self) -> None:
        """Tell the handler that its worker wants to stop."""
        if not self._is_asked_to_shut_down:
            self._is_asked_to_shut_down = True
            if self._turn is not None:
                self._turn.ask_to_stop("shutdown")
                self._parker.notice(self, 0.0)

    async def _clean_up_after_error(self) -> bool:
        return self._turn is None or await self._clean_up(self._turn, None, Stop.SHUTDOWN)

    # What others write meanwhile

    def _hear(self, hint: Hint) -> None:
        if self.record.hint(hint.revision):
            self.look()

    def look(self) -> None:
        """Find out what others have written."""
        if self._looking is None or self._looking.done():
            self._looking = self._around.system.spawn(self._look(), f"look {self.record.key}")

    async def _look(self) -> None:
        try:
            await self.record.catch_up()
        except (StoreError, Corrupt):
            self.stop(Stop.LEASE_LOST)

    def _take_note(self) -> None:
        run = self.record.run
        if run.outcome is not None:
            self.stop(Stop.ABORTED)
        elif run.cancel is not None:
            self._ask_to_stop("cancel")
        elif run.is_superseded:
            self._ask_to_stop("steered")
        if self._waits is not None:
            self._waits.settle()

    def _ask_to_stop(self, reason: StopReason) -> None:
        """Tell the handler to come to its end, and end it if it has not within its grace.

        Whoever was asked to cancel may take as long as it needs.
        """
        turn = self._turn
        if turn is None or reason in self._asked:
            return
        self._asked.add(reason)
        turn.ask_to_stop(reason)
        self._parker.notice(self)
        if reason != "cancel":
            system, grace = self._around.system, self._definition.grace_of(self.record.run)
            ends = system.wall() + grace
            self._alarms.append(system.call_at(ends, lambda: self.stop(Stop.ASKED)))

    def _set_alarm(self) -> None:
        """Have the handler told when its turn's time is over."""
        deadline = self.record.run.deadline
        if deadline is not None:
            alarm = self._around.system.call_at(deadline, lambda: self._ask_to_stop("timeout"))
            self._alarms.append(alarm)

    # Waiting out of memory

    @property
    def is_waiting(self) -> bool:
        """Whether the handler, or a part of it, waits for what the engine ends."""
        return self._parking is not None and self._parking.is_waiting and self._stop is None

    def is_at_rest(self, look: Look) -> bool:
        """Say whether the handler waits for nothing but what the engine ends; see `rests`."""
        return self._look_at(look)[1] is not None

    def rests(self, look: Look) -> Stop | None:
        """Return how the attempt is to be stopped because its handler only waits.

        A run that was asked to stop ends; any other one is parked when it has waited for a while.

        Args:
            look: one after which the loop has not gone on.

        Raises:
            TooSoon: the look would have to see more than it may.
        """
        parking, (found, parked) = self._parking, self._look_at(look)
        if parking is None or parked is None:
            return None
        self._found = found
        if self._turn and self._turn.cancel.is_set() and not parked.watches_cancel:
            return Stop.ASKED
        self._parked = parked
        may_park = self._may_park and parking.is_long(parked)
        return Stop.PARKED if may_park or self._is_asked_to_shut_down else None

    def _look_at(self, look: Look) -> tuple[Belongings | None, Parked | None]:
        """Return what the handler has and waits for; None if something else may wake it."""
        turn, parking = self._turn, self._parking
        if turn is None or parking is None or not self.is_waiting or parking.is_at_work:
            return None, None
        found = look.of(turn.scope)
        return found, parking.look(found)

    # From the lease to the handler

    async def _take_up(self) -> bool:
        """Write how the run is taken up; return whether its handler is to be entered."""
        entering = None
        if self.record.run.turn:
            self._streamed = await self.record.newest_offset()

        def take_up(run: Run) -> Sequence[Written]:
            nonlocal entering
            entering = decisions.enter(run, self._terms(run))
            return entering.events

        await self.record.decide(take_up)
        return entering is not None and entering.entrance is Entrance.ENTER

    def _terms(self, run: Run) -> Terms:
        """Return what decisions on the run know beside it."""
        streamed = self._emission.offset if self._emission else self._streamed
        return self._definition.terms(run, self._around.system.wall(), streamed)

    async def _enter(self) -> bool:
        system, definition = self._around.system, self._definition
        around, record = self._around, self.record
        await record.load_inputs()
        turn = Turn(record, system, definition, around.max_payload, around.variables)
        emission = Emission(turn)
        steps, steering = Steps(turn, emission), Steering(turn, self._leave)
        calls = Calls(turn, emission, steps, Waits(turn), steering, turn.loop)
        if turn.run.entries > 1:
            await emission.resume()
        self._emission = emission
        self._turn, self._waits = turn, calls.waits
        turn.lost = lambda: self.stop(Stop.LEASE_LOST)
        turn.order.began = lambda: self._parker.notice(self)
        if self._is_asked_to_shut_down:
            turn.ask_to_stop("shutdown")
        self._set_alarm()
        self._take_note()
        if self._stop is not None:
            return await self._conclude(None)
        root = system.spawn(self._call(calls), definition.name, context=turn.scope.context)
        turn.scope.first = root
        self._parking = Parking(calls)
        emission.begin()
        root.add_done_callback(lambda _: end(self._over))
        await self._over
        return await self._conclude(root)

    async def _call(self, calls: Calls) -> Any:
        definition = self._definition
        context = definition.make_context(calls)
        try:
            if definition.is_async:
                return await definition.function(context)
            handlers = self._around.system.handlers
            return await calls.turn.run_in_thread(handlers, definition.function, context)
        except SystemExit as error:
            # A handler ends its run, not the worker that it shares with others.
            raise RuntimeError(f"the handler raised SystemExit({error.code!r})") from error

    def _leave(self, leaving: Leaving) -> None:
        """End the turn as its handler says, before it returns."""
        if self._stop is None:
            self._leaving = leaving
            self.stop(Stop.LEFT)

    # From the handler's end to what is written

    async def _conclude(self, root: asyncio.Task[Any] | None) -> bool:
        turn = self._turn
        assert turn is not None
        stop = self._stop  # what comes from now on finds the handler at its end
        has_stopped = await self._clean_up(turn, root, stop)
        if root is not None and stop is None:
            await self._write(self._judge(root), releases=has_stopped)
        elif stop is Stop.ASKED:
            await self._write(
                lambda run: decisions.left(run, self._terms(run)), releases=has_stopped
            )
        elif (leaving := self._leaving) is not None and stop is Stop.LEFT:
            await self._write(lambda run: leaving(run, self._terms(run)), releases=has_stopped)
        elif stop is Stop.SHUTDOWN and has_stopped:
            await self._hand_back()
        elif root is not None and stop is Stop.PARKED:
            await self._write_parked(root, has_stopped=has_stopped)
        return has_stopped

    async def _write_parked(self, root: asyncio.Task[Any], *, has_stopped: bool) -> None:
        parked = self._parked
        if not (has_stopped and ended_by(root, Unwound)):
            self._parker.keep(self.record.key)
            parked = parked._replace(due=self._around.system.wall())
            log.warning(
                "%s did not let pass that it was to leave memory while it waits: it catches "
                "BaseException, raises an error of its own, or does not end; it is entered again, "
                "and stays in memory",
                self.record.key,
            )
        # At an edge: a signal that came while the handler unwound must not be parked with it.
        await self._write(
            lambda run: decisions.park(run, parked, self._terms(run)), releases=has_stopped
        )

    async def _hand_back(self, after: float = 0.0) -> None:
        """Let any worker go on with the run, in so many seconds."""
        due = self._around.system.wall() + after
        await self._write(lambda _: [HandedBack(due)], releases=True)

    async def _write(self, decide: Decide, *, releases: bool) -> None:
        """Write what ends the attempt, unless the run has ended meanwhile."""
        with suppress(StoreError):  # somebody else goes on with it, or will at the lease's end
            written = await self.record.decide(
                lambda run: decide(run) if run.outcome is None else (), releases=releases
            )
            is_begun = any(isinstance(event, TurnBegan) for event in written)
            self.is_followed = is_begun and not self._has_lost_lease

    def _judge(self, root: asyncio.Task[Any]) -> Decide:
        """Return what decides on the handler's end, whatever else was written meanwhile."""
        error = asyncio.CancelledError() if root.cancelled() else root.exception()
        if error is None:
            try:
                output = self._definition.output.dump(root.result(), root="output")
                check_size(output, self._around.max_payload, f"the output of {self.record.key!r}")
            except CodecError as unwritable:
                error = unwritable
            else:
                return lambda run: decisions.returned(run, output, self._terms(run))
        return self._failed(error)

    def _failed(self, failure: BaseException) -> Decide:
        """Return what decides on an error of the handler's."""

        def failed(run: Run) -> Sequence[Written]:
            data = ErrorRecord.from_exception(failure).dump()
            is_cancelled = isinstance(failure, asyncio.CancelledError)
            return decisions.raised(
                run,
                data,
                self._retry_at(run, failure),
                self._terms(run),
                is_cancelled=is_cancelled,
            )

        return failed

    def _retry_at(self, run: Run, error: BaseException) -> float | None:
        stored = run.start.options.get("retry")
        policy = RetryPolicy.from_json(stored) if stored else self._definition.retry
        if (
            policy is None
            or isinstance(error, CodecError)
            or not policy.allows(run.attempt + 1, error)
        ):
            return None
        system = self._around.system
        try:
            return system.wall() + policy.delay(run.attempt + 1, system.draw_factor)
        except Exception:
            log.exception("%s: its retry policy gives no delay; it is not retried", run.start.name)
            return None

    async def _clean_up(
        self, turn: Turn, root: asyncio.Task[Any] | None, stop: Stop | None
    ) -> bool:
        """Stop what is left of the handler; return whether all of it has ended.

        Handlers compensate when they are cancelled, and one that goes on elsewhere must not.
        """
        turn.throw(Unwound(f"the turn of {self.record.key!r} is over"))
        error = None if stop in (None, Stop.ABORTED) else turn.thrown
        left = await stop_all(turn.scope, error, STOPS_WITHIN, self._found)
        await turn.wait_for_threads(STOPS_WITHIN)
        if root is not None and root.done() and not root.cancelled():
            root.exception()  # it was seen: nothing to log
        if left:
            log.warning(
                "%s: %d tasks of its handler did not end within %s s after they were cancelled; "
                "they are abandoned, and can record nothing",
                self.record.key,
                len(left),
                STOPS_WITHIN,
            )
        return not left and not turn.has_threads
