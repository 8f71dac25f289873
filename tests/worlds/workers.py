"""What a worker does in a small world: it takes a run, enters its handler, and writes for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, cast

from outlast.codec.plain import Json
from outlast.engine.emission import Emission
from outlast.engine.record import Decide, Record
from outlast.engine.turn import Turn, inside
from outlast.errors import StoreError, Unavailable
from outlast.journal import Entry, Fence, Head, Lease
from outlast.model import decisions
from outlast.model.decisions import Entrance
from outlast.model.events import (
    Asked,
    Checkpointed,
    Decision,
    HandedBack,
    Kind,
    Parked,
    Slot,
    StepBegan,
    TimerSet,
)
from outlast.model.fold import fold
from outlast.model.run import Run
from outlast.model.terms import Terms, Written
from outlast.store import Lane
from tests.worlds.asking import Done, Machine, Next, Request, Wire, ask
from tests.worlds.ledger import TTL

TASK: Final = "task"
LANE: Final = Lane("default", TASK)
ERROR: Final[Json] = {"type": "ValueError", "message": "no", "traceback": ""}
UNKNOWN: Final[Json] = {"type": "StepUnknown", "message": "interrupted", "traceback": ""}


class Op(NamedTuple):
    """One thing that a handler does: `kind`, with these names, and seconds where it takes some.

    It is the `number`-th of its kind and names.
    """

    kind: str
    names: tuple[str, ...] = ()
    seconds: float | None = None
    number: int = 1

    @property
    def slots(self) -> Sequence[Slot]:
        """Where its outcomes are recorded."""
        return [Slot(self._kind, name, self.number) for name in self.names]

    @property
    def _kind(self) -> Kind:
        match self.kind:
            case "sleep" | "wait":
                return self.kind
            case _:
                return "step"


class Handler(NamedTuple):
    """A task: what it does in this order, and how it is run."""

    ops: tuple[Op, ...]
    max_recoveries: int = 20
    choices: tuple[str, ...] = ()  # what may happen to it beside: "hand back", "never stops"


class Holding(NamedTuple):
    """What the holder of a lease knows: all that its `Record` is made of.

    `said` is what its client has told its caller; None where it is a worker.
    """

    key: str
    first: int
    fence: Fence
    handler: Handler
    entries: tuple[Entry, ...] = ()
    revision: int = 0
    facts: int = 0
    writes: int = 0
    said: str | None = None

    @property
    def lease(self) -> Lease:
        return Lease(self.key, "worker", self.fence, 0.0)

    def stopped(self) -> Next | Done:
        """Return what a process does when it holds the lease no more, or need not."""
        return Next("worker", (self.handler,)) if self.said is None else Done(self.said)

    def record(self, machine: Machine) -> tuple[Record, Wire]:
        """Return the record as it was left, and what it asks."""
        run = fold(self.entries)
        run.revision = self.revision
        head = Head(self.key, self.first, self.revision, self.facts, lease=self.lease)
        wire = Wire(self.entries, self.revision)
        record = Record(wire, machine, head, run)
        record._count = self.writes
        return record, wire

    def after(self, record: Record, wire: Wire) -> Holding:
        """Return what is known now."""
        run = fold(wire.entries)
        run.revision = record.run.revision
        assert run == record.run, "a record is what its entries add up to"
        return self._replace(
            entries=tuple(wire.entries),
            revision=record.run.revision,
            facts=record.facts,
            writes=record._count,
        )


async def worker(machine: Machine, handler: Handler) -> Next | Done:
    """Take a run that is due."""
    try:
        claimed = await Wire().claim((LANE,), "worker", TTL, 1, "")
    except Unavailable:
        return Next("worker", (handler,))
    [head] = claimed.heads
    assert head.fence is not None
    return Next("attempt", (Holding(head.key, head.first, head.fence, handler),))


async def attempt(machine: Machine, holding: Holding) -> Next | Done:
    """Take up a claimed run: read it, and write how it is entered."""
    record, wire = holding.record(machine)
    entering = None

    def take_up(run: Run) -> Sequence[Written]:
        nonlocal entering
        terms = Terms(machine.wall(), max_recoveries=holding.handler.max_recoveries)
        entering = decisions.enter(run, terms)
        return entering.events

    try:
        await record.catch_up()
        await record.decide(take_up)
    except StoreError:
        return holding.stopped()
    if entering is None or entering.entrance is not Entrance.ENTER:
        return holding.stopped()
    return Next("turn", (holding.after(record, wire),))


async def turn(machine: Machine, holding: Holding) -> Next | Done:
    """Do the next thing that the handler does and that is not recorded yet."""
    record, wire = holding.record(machine)
    handler, run = holding.handler, record.run
    if run.outcome is not None:
        return holding.stopped()
    at_work = _AtWork(machine, record, handler)
    try:
        if "hand back" in handler.choices and await _happens("hand back"):
            await at_work.conclude(lambda _: [HandedBack(machine.wall())])
            return holding.stopped()
        op = next((op for op in handler.ops if not _is_recorded(op, run)), Op("return"))
        goes_on = await at_work.do(op)
    except StoreError:
        return holding.stopped()
    return Next("turn", (holding.after(record, wire),)) if goes_on else holding.stopped()


def _is_recorded(op: Op, run: Run) -> bool:
    return bool(op.names) and all(slot in run.checkpoints for slot in op.slots)


async def _happens(what: str) -> bool:
    """Say whether this happens now."""
    return bool(await ask(Request("happens", (what,))))


class _AtWork:
    """One thing that a handler does, and what the engine writes for it."""

    def __init__(self, machine: Machine, record: Record, handler: Handler) -> None:
        self.machine, self.record, self.handler = machine, record, handler

    async def do(self, op: Op) -> bool:
        """Do it, and return whether the attempt goes on."""
        run, after = self.record.run, len(self.record.run.checkpoints)
        match op:
            case Op("step", (name,)):
                await self.write(Checkpointed("step", name, 1, after))
            case Op("once", (name,)):
                await self.once(name, after)
            case Op("flaky", (name,), seconds) if run.attempt == 0:
                retry_at = self.machine.wall() + (seconds or 0.0)
                return await self.conclude(
                    lambda run: decisions.raised(run, ERROR, retry_at, self.terms)
                )
            case Op("flaky", (name,)):
                await self.write(Checkpointed("step", name, 1, after))
            case Op("emitting", (name,)):
                await self.emit(name, after)
            case Op("raise"):
                return await self.conclude(
                    lambda run: decisions.raised(run, ERROR, None, self.terms)
                )
            case Op("sleep" | "wait"):
                return await self.wait(op, after)
            case _:
                return await self.conclude(
                    lambda run: decisions.returned(run, "output", self.terms)
                )
        return True

    @property
    def terms(self) -> Terms:
        return Terms(self.machine.wall())

    async def write(self, *events: Decision) -> None:
        """Record in mid-turn, as `Record.write` does from its task."""
        async with self.record._turn:
            await self.record._append(events)

    async def conclude(self, decide: Decide, *, never_stops: bool = False) -> bool:
        """Write what ends the attempt, unless the run has ended meanwhile; it does not go on."""
        if "never stops" in self.handler.choices:
            never_stops = await _happens("never stops")
        with suppress(StoreError):
            await self.record.decide(
                lambda run: decide(run) if run.outcome is None else (), releases=not never_stops
            )
        return False

    async def once(self, name: str, after: int) -> None:
        """Run a step that may run at most once."""
        if Slot("step", name) in self.record.run.unknown:
            await self.write(Checkpointed("step", name, 1, after, error=UNKNOWN))
            return
        await self.write(StepBegan(name, 1))
        await ask(Request("effect", (name,)))
        await self.write(Checkpointed("step", name, 1, after))

    async def emit(self, name: str, after: int) -> None:
        """Run a step that emits two items, the first of which is written before it ends."""
        emission = Emission(cast("Turn", _Emitting(self.record, self.machine)))
        if self.record.run.entries > 1:
            await emission.resume()
        self.record.carry = emission._take
        slot = Slot("step", name)
        emission.retract(slot)
        mark = inside.set(slot)
        try:
            await emission.emit("first")
            await self.write()
            await emission.emit("second")
        finally:
            inside.reset(mark)
        await self.write(Checkpointed("step", name, 1, after))

    async def wait(self, op: Op, after: int) -> bool:
        """Wait until a time, for a signal, or for several at once, each with the same timeout."""
        run, wall = self.record.run, self.machine.wall()
        slots = [slot for slot in op.slots if slot not in run.checkpoints]
        if op.seconds is not None and (new := [slot for slot in slots if slot not in run.timers]):
            until = wall + op.seconds
            await self.write(*(TimerSet(*slot, until, after) for slot in new))
            return True
        if run.cancel is not None:
            return await self.conclude(lambda run: decisions.left(run, self.terms))
        settle = partial(_settled, slots, wall, after)
        if events := settle(run):
            await (self.write(*events) if op.kind == "sleep" else self.record.decide(settle))
            return True
        ends = min((run.timers[slot] for slot in slots if slot in run.timers), default=None)
        asked = tuple(Asked(s.name, s.number, after) for s in slots if s.kind == "wait")
        parked = Parked(ends, asked)
        rested = await ask(Request("rest", (self.record.key, run.revision, ends)))
        if rested == "parks":
            return await self.conclude(lambda run: decisions.park(run, parked, self.terms))
        if rested == "looks":
            await self.record.catch_up()
        return True


def _settled(slots: Sequence[Slot], wall: float, after: int, run: Run) -> Sequence[Decision]:
    """Return what ends these waits; a signal that is there comes before a timeout."""
    events: list[Decision] = []
    for slot in slots:
        kind, name, number = slot
        if kind == "wait" and name in run.signals:
            events.append(Checkpointed(kind, name, number, after, run.signals[name][0]))
        elif slot in run.timers and run.timers[slot] <= wall:
            events.append(Checkpointed(kind, name, number, after, timed_out=kind == "wait"))
    return events


class _Emitting:
    """What an emission needs of a turn."""

    def __init__(self, record: Record, machine: Machine) -> None:
        self.record, self.run = record, record.run
        self.system = self  # its timers: what waits for others is written with them here

    def call_later(self, delay: float, callback: Callable[[], object]) -> None:
        """Do not call: it is written when something else is."""
