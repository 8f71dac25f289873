"""What clients do in a small world: each does one thing, once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from outlast.codec.plain import Json
from outlast.engine.client import Client
from outlast.engine.inputs import Conditions
from outlast.errors import Conflict, TaskConflict, TaskNotFound, Unavailable
from outlast.journal import Claim, Head
from outlast.model.events import Created
from outlast.model.run import Run
from tests.worlds.asking import Done, Machine, Next, Wire
from tests.worlds.ledger import TTL
from tests.worlds.workers import TASK, Handler, Holding

if TYPE_CHECKING:
    from outlast.engine.attempt import Surroundings
    from outlast.engine.worker import Worker


class _Places:
    """A worker's place for a run that its own client starts, taken in the same write."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.begun: tuple[Head, Run] | None = None

    def reserve(self, key: str, queue: str, name: str) -> Claim:
        return Claim("worker", TTL, self.machine.draw_name())

    def unreserve(self, key: str) -> None:
        """Keep nothing: there are places enough."""

    def begin_new(self, head: Head, run: Run, asked_at: float) -> None:
        self.begun = head, run


@dataclass(frozen=True, slots=True)
class _Around:
    """What a client needs of its app."""

    store: Wire
    system: Machine


def _client(machine: Machine, wire: Wire, places: _Places | None = None) -> Client:
    around = cast("Surroundings", _Around(wire, machine))
    return Client(around, cast("Worker | None", places), lambda: None)


async def starter(
    machine: Machine, key: str, input: Json, handler: Handler, claims: bool = True
) -> Next | Done:
    """Start a run, and take it up in the same write where this app has a worker."""
    wire, places = Wire(), _Places(machine) if claims else None
    created = Created(TASK, input, "input", 0.0)
    try:
        given = await _client(machine, wire, places).start(
            created, key.removeprefix("run/"), Conditions(), is_delayed=False
        )
    except TaskConflict:
        return Done("conflict")
    except Unavailable:
        return Done("unknown")
    except TaskNotFound:
        return Done("gone")
    if places is None or places.begun is None:
        return Done("accepted")
    head, _ = places.begun
    assert head.fence is not None
    assert given.head == head
    holding = Holding(key, head.first, head.fence, handler, facts=head.facts, said="accepted")
    entries = tuple(wire.entries)
    return Next("turn", (holding._replace(entries=entries, revision=head.revision),))


async def signaller(
    machine: Machine, key: str, name: str = "s", id: str | None = None, first: int = 1
) -> Next | Done:
    """Send a signal to the run that it has a handle of; `first` 0: it looks for it now."""
    client = _client(machine, Wire())
    try:
        first = first or (await client.head(key)).first
        await client.signal(key, first, name, id or name, id or name)
    except TaskConflict:
        return Done("refused")
    except TaskNotFound:
        return Done("gone")
    except Unavailable:
        return Done("unknown")
    return Done("accepted")


async def canceller(machine: Machine, key: str, first: int = 1) -> Next | Done:
    """Ask the run to stop."""
    with suppress(TaskNotFound):
        try:
            await _client(machine, Wire()).cancel(key, first, None)
        except Unavailable:
            return Done("unknown")
    return Done("told")


async def aborter(machine: Machine, key: str, first: int = 1) -> Next | Done:
    """End the run at once."""
    with suppress(TaskNotFound):
        try:
            await _client(machine, Wire()).abort(key, first, None)
        except Unavailable:
            return Done("unknown")
    return Done("told")


async def deleter(machine: Machine, key: str, first: int = 1) -> Next | Done:
    """Abort the run if it has not ended, then delete it."""
    wire = Wire()
    client = _client(machine, wire)
    again = Next("deleter", (key, first))
    try:
        seen = await client.look(key)
        if seen is None or seen.head.first != first:
            return Done("gone")
        if seen.run.outcome is None:
            await client.abort(key, first, None)
            return again
        await wire.delete(key, expect=seen.head.revision)
    except (Conflict, Unavailable):
        return again
    except TaskNotFound:
        return Done("gone")
    return Done("deleted")
