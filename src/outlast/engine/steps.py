"""Steps: work that is recorded, and never runs again once it is.

A step's `n`-th call of its name finds the `n`-th record, whatever its arguments. Only where calls
of one name overlapped in time is their order uncertain: those are told apart by a digest of their
arguments.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from outlast.codec import ErrorRecord, digest, result_codec
from outlast.engine.order import Awaited
from outlast.engine.payloads import check_size
from outlast.engine.retry import RetryPolicy, check_policy
from outlast.engine.settings import seconds_of
from outlast.engine.turn import MAX_NAME, inside
from outlast.errors import CodecError, StepMismatch, StepUnknown, UsageError
from outlast.model.events import Checkpointed, Slot, StepBegan, StepTried

if TYPE_CHECKING:
    from outlast.engine.emission import Emission
    from outlast.engine.turn import Turn
    from outlast.model.run import Checkpoint

_ONCE: Final = RetryPolicy(1)

_UNCHANGING: Final = frozenset({str, bytes, int, float, bool, type(None)})

_PATIENCE: Final = 5.0
"""Seconds that a call waits for the at-most-once step that was interrupted to be asked for."""


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How a step is run.

    Raises:
        UsageError: the options contradict each other.
    """

    retry: RetryPolicy | None = None
    timeout: timedelta | None = None
    key: str | None = None
    at_most_once: bool = False

    def __post_init__(self) -> None:
        if self.at_most_once and self.retry is not None:
            raise UsageError("a step with at_most_once=True is never run again: it takes no retry")
        if self.timeout is not None:
            seconds_of("a step's timeout", self.timeout, least=timedelta(milliseconds=1))
        check_policy("a step's retry", self.retry)
        if self.key is not None and not 0 < len(self.key) <= MAX_NAME:
            raise UsageError(f"a step's key has 1 to {MAX_NAME} characters, not {self.key!r}")


@dataclass(slots=True)
class _Cluster:
    """Calls of one name that overlap in time: from the number `low` to `high`."""

    low: int
    high: int
    under_way: int = 0
    sealed: asyncio.Future[None] | None = None  # its one call is being recorded as alone

    @property
    def span(self) -> tuple[int, int] | None:
        return (self.low, self.high) if self.high > self.low else None


class _Span:
    """Recorded calls of one name that overlapped in time, and that were not asked for yet."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.untaken: dict[Slot, str] = {}
        self._by_mark: dict[str, deque[Slot]] = defaultdict(deque)

    def add(self, slot: Slot, mark: str) -> None:
        self.untaken[slot] = mark
        self._by_mark[mark].append(slot)

    def take(self, mark: str) -> Slot | None:
        """Take the first that is left with this mark."""
        slots = self._by_mark.get(mark)
        if not slots:
            return None
        slot = slots.popleft()
        del self.untaken[slot]
        return slot

    def take_at(self, slot: Slot) -> bool:
        """Take this one, if it is left, whatever its mark."""
        mark = self.untaken.pop(slot, None)
        if mark is None:
            return False
        self._by_mark[mark].remove(slot)
        return True


_NOTHING: Final = _Span(0, 0)


def _spans_of(recorded: Mapping[Slot, Checkpointed]) -> Mapping[str, Sequence[_Span]]:
    """Return, by name, the spans of numbers within which recorded steps overlapped."""
    spans: dict[str, list[_Span]] = defaultdict(list)
    for name, (low, high) in sorted((s.name, e.span) for s, e in recorded.items() if e.span):
        if spans[name] and low <= spans[name][-1].high:
            spans[name][-1].high = max(spans[name][-1].high, high)
        else:
            spans[name].append(_Span(low, high))
    for slot, event in sorted(recorded.items(), key=lambda item: item[0]):
        for span in spans.get(slot.name, ()):
            if span.low <= slot.number <= span.high:
                span.add(slot, event.digest)
    return spans


class Steps:
    """The steps of one entry into a handler."""

    under_way: int

    def __init__(self, turn: Turn, emission: Emission) -> None:
        self._turn, self._emission = turn, emission
        self.under_way = 0  # bodies that run
        self._clusters: dict[str, _Cluster] = {}
        self._used: set[Slot] = set()
        self._not_to_run: set[Slot] = set()
        self._suspected: dict[str, set[str]] = defaultdict(set)  # digests, by name
        recorded = {s: c.event for s, c in turn.run.checkpoints.items() if s.kind == "step"}
        self._spans = _spans_of(recorded)
        # Those that overlapped with no other, and were not asked for yet.
        in_spans = {slot for spans in self._spans.values() for s in spans for slot in s.untaken}
        self._alone = recorded.keys() - in_spans
        # At-most-once steps that the last process was in the middle of.
        self._interrupted: dict[str, _Span] = {}
        for slot, mark in sorted(turn.run.unknown.items()):
            self._interrupted.setdefault(slot.name, _Span(0, 0)).add(slot, mark)

    async def run(
        self,
        name: str,
        options: StepOptions,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Return what is recorded of this call; else call the function, record it, and return that.

        Raises:
            Exception: what the function raised, now or when it was recorded.
        """
        turn = self._turn
        number = await turn.enter("step", name)
        codec = result_codec(function)

        def mark() -> str:  # asked for where it counts: it goes through all of the arguments
            return digest(args, kwargs) if options.key is None else f"key:{options.key}"

        cluster = await self._join(name, number)
        try:
            slot, checkpoint = await self._find(name, number, mark)
            if checkpoint is None:
                after = turn.order.asked()
                call = _Call(slot, cluster, _kept(mark, args, kwargs), after, options)
                return await self._run(call, lambda: function(*args, **kwargs), function, codec)
            await turn.hand_over(checkpoint)
        finally:
            self._leave(name, cluster)
        event = checkpoint.event
        if event.error is not None:
            raise ErrorRecord.load(event.error).to_exception(turn.definition.errors)
        return codec.load(event.value)

    async def _join(self, name: str, number: int) -> _Cluster:
        """Count the call among those of its name that are under way, until it leaves them."""
        while (cluster := self._clusters.get(name)) and cluster.sealed:
            await asyncio.shield(cluster.sealed)  # it is recorded as alone, so let it be alone
        if cluster is None:
            cluster = self._clusters[name] = _Cluster(number, number)
        cluster.low, cluster.high = min(cluster.low, number), max(cluster.high, number)
        cluster.under_way += 1
        return cluster

    def _leave(self, name: str, cluster: _Cluster) -> None:
        cluster.under_way -= 1
        if cluster.under_way == 0:
            del self._clusters[name]
            if cluster.sealed:
                cluster.sealed.set_result(None)

    async def _find(  # noqa: PLR0911 - each return is one rule
        self, name: str, number: int, mark: Callable[[], str]
    ) -> tuple[Slot, Checkpoint | None]:
        """Return where this call is recorded, or is to be recorded, and what is there."""
        checkpoints, own = self._turn.run.checkpoints, Slot("step", name, number)
        span = next((s for s in self._spans.get(name, ()) if s.low <= number <= s.high), None)
        interrupted = self._interrupted.get(name, _NOTHING)
        if span is None and own in self._alone:
            self._alone.discard(own)
            return own, checkpoints[own]
        suspected = self._suspected.get(name, ())
        if span is None and not interrupted.untaken and not suspected:
            return own, None
        wanted = mark()
        if span is not None and (slot := span.take(wanted)):
            return slot, checkpoints[slot]
        if wanted in suspected:
            return self._unknown(self._free(name, number)), None
        if slot := interrupted.take(wanted):
            return self._unknown(slot), None
        is_certain = span is not None and bool(span.untaken)
        if not await self._turn.order.stray(
            lambda: not interrupted.untaken and (span is None or not span.untaken),
            None if is_certain else _PATIENCE,
        ):
            if mark_begun := interrupted.untaken.get(own):
                # It is the one that was interrupted, with other arguments; or it is another, and
                # that one comes yet. Neither may be run.
                interrupted.take_at(own)
                self._suspected[name].add(mark_begun)
                return self._unknown(own), None
            if span is not None and span.untaken:
                left = ", ".join(repr(str(slot)) for slot in span.untaken)
                raise StepMismatch(
                    f"the step {name!r} overlapped with others of its name before, and none of "
                    f"those recorded ({left}) has these arguments; pass the same arguments again, "
                    "or tell them apart by `key`"
                )
        self._turn.raise_thrown()
        return self._free(name, number if span is None else span.low), None

    def _unknown(self, slot: Slot) -> Slot:
        """Take note that the call which is recorded there must not be run."""
        recorded = slot in self._turn.run.checkpoints
        slot = self._free(slot.name, slot.number) if recorded else slot
        self._not_to_run.add(slot)
        return slot

    def _free(self, name: str, number: int) -> Slot:
        """Return the first slot from this number on in which nothing is recorded, or is to be."""
        run = self._turn.run
        taken = (run.checkpoints, run.unknown, self._used)
        while any((slot := Slot("step", name, number)) in some for some in taken):
            number += 1
        self._used.add(slot)
        return slot

    async def _run(
        self, call: _Call, body: Callable[[], Any], function: Callable[..., Any], codec: Any
    ) -> Any:
        turn, slot = self._turn, call.slot
        if slot in self._not_to_run:
            unknown = StepUnknown(
                f"the step {str(slot)!r} may run at most once and was interrupted: whether it took "
                "effect is not known"
            )
            await self._record(call, error=unknown, always=True)
            raise unknown
        turn.check_room()
        if call.options.at_most_once:
            await turn.write(StepBegan(slot.name, slot.number, call.mark()))
        value = await self._try(call, body, function)
        try:
            data = codec.dump(value)
            check_size(data, turn.max_payload, f"the result of the step {str(slot)!r}")
        except CodecError as error:
            # It ran: what it gave back cannot be read by a replay, so no replay may run it again.
            await self._record(call, error=error, always=True)
            raise
        await self._record(call, value=data)
        return value

    async def _try(self, call: _Call, body: Callable[[], Any], function: Callable[..., Any]) -> Any:
        """Call the function, again and again as its policy allows, and return what it gives."""
        turn, slot, options = self._turn, call.slot, call.options
        policy = options.retry or _ONCE
        tried = turn.run.tries.get(slot)
        tries = tried.tries if tried else 0
        if tried:
            await self._pause(tried.retry_at)
        while True:
            self._emission.retract(slot)
            try:
                return await self._call(slot, body, function, options.timeout)
            except Exception as raised:
                turn.raise_thrown()
                error: Exception = raised
                if options.at_most_once and isinstance(raised, TimeoutError):
                    error = StepUnknown(f"the step {str(slot)!r} did not end in time: {raised}")
                    error.__cause__ = raised
                if policy.allows(tries + 1, error):
                    tries += 1
                    delay = policy.delay(tries, turn.system.draw_factor)
                    retry_at = turn.system.wall() + delay
                    data = ErrorRecord.from_exception(error).dump()
                    await turn.write(StepTried(slot.name, slot.number, tries, data, retry_at))
                    await self._pause(retry_at)
                    continue
                await self._record(call, error=error, always=options.at_most_once)
                restored = ErrorRecord.from_exception(error).to_exception(turn.definition.errors)
                if type(restored) is type(error):
                    if error is raised:
                        raise
                    raise error from raised
                # A replay cannot bring its class back, so this time it must not come either.
                raise restored from raised

    async def _call(
        self,
        slot: Slot,
        body: Callable[[], Any],
        function: Callable[..., Any],
        timeout: timedelta | None,
    ) -> Any:
        mark = inside.set(slot)
        self.under_way += 1
        try:
            if timeout is None:
                return await self._enter_body(body, function)
            return await self._turn.system.within(
                timeout.total_seconds(),
                self._enter_body(body, function),
                f"the step {str(slot)!r} took longer than {timeout}",
                by_wall=True,
            )
        except SystemExit as error:
            # It is recorded like any other failure: a step ends no worker.
            raise RuntimeError(
                f"the step {str(slot)!r} raised SystemExit({error.code!r})"
            ) from error
        finally:
            self.under_way -= 1
            inside.reset(mark)

    async def _enter_body(self, body: Callable[[], Any], function: Callable[..., Any]) -> Any:
        if is_async(function):
            return await body()
        value = await self._turn.run_in_thread(self._turn.system.steps, body)
        return await value if inspect.isawaitable(value) else value

    async def _pause(self, until: float) -> None:
        turn = self._turn
        if until > turn.system.wall():
            with turn.order.waiting(Awaited(until)) as passed:
                await turn.system.pause(until, passed)
            turn.raise_thrown()

    async def _record(
        self,
        call: _Call,
        *,
        value: Any = None,
        error: BaseException | None = None,
        always: bool = True,
    ) -> None:
        data = None if error is None else ErrorRecord.from_exception(error).dump()
        cluster, slot = call.cluster, call.slot

        def event() -> Checkpointed:
            is_alone = cluster.span is None
            if is_alone:
                cluster.sealed = asyncio.get_running_loop().create_future()
            return Checkpointed(
                "step",
                slot.name,
                slot.number,
                call.after,
                value,
                data,
                always=always or error is None,
                digest="" if is_alone and not call.options.at_most_once else call.mark(),
                span=cluster.span,
            )

        await self._turn.checkpoint(slot, event)


@dataclass(frozen=True, slots=True)
class _Call:
    slot: Slot
    cluster: _Cluster
    mark: Callable[[], str]
    after: int
    options: StepOptions


def _kept(
    mark: Callable[[], str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Callable[[], str]:
    """Return what gives the mark as it is now, whatever becomes of the arguments.

    Few calls overlap, so it is found out at once only where the function could change them.
    """
    if all(type(value) in _UNCHANGING for value in (*args, *kwargs.values())):
        return mark
    now = mark()
    return lambda: now


def is_async(function: Callable[..., Any]) -> bool:
    """Say whether calling the function gives a coroutine at once, without doing its work."""
    if type(function) is FunctionType and function.__code__.co_flags & inspect.CO_COROUTINE:
        return True
    while isinstance(function, partial):
        function = function.func
    call = getattr(function, "__call__", None)  # noqa: B004 - of an object that is called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
