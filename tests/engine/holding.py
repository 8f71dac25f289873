"""A run whose lease a test holds."""

from __future__ import annotations

from typing import Any

from outlast import TaskContext, task
from outlast.engine.record import Record
from outlast.journal import Change, Claim
from outlast.model.events import Created, TurnBegan, encode
from outlast.model.run import Run
from tests.engine.conftest import Machine
from tests.engine.world import LEASE


@task(name="recorded")
async def recorded(ctx: TaskContext[Any]) -> Any:
    return await ctx.wait("go")


async def held(machine: Machine, *events: Any) -> Record:
    """Return the record of a run whose lease we hold, at its first revision after these events."""
    run = Run()
    for event in (Created("recorded", None, "i", 0.0), TurnBegan(1)):
        run.evolve(event, 0.0)
    change = Change(
        key="run/r",
        id="made",
        entries=(*map(encode, (Created("recorded", None, "i", 0.0), TurnBegan(1), *events)),),
        card=run.card(),
        revision=0,
        claim=Claim("me", LEASE, "f"),
    )
    [head] = await machine.store.commit(change)
    return Record(machine.wire, machine.system, head, Run())
