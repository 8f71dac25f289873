"""Leases that were never kept, workers that never began, and starts of what is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outlast import TaskNotFound, Unavailable
from outlast.engine.leases import Leases
from outlast.engine.worker import Worker
from outlast.journal import Change, Head
from outlast.model.events import Signalled, encode
from outlast.testing import SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.holding import held, recorded
from tests.engine.world import LEASE, head_of

loop_factory = SkippingLoop


def lease_of(head: Head) -> Any:
    assert head.lease is not None
    return head.lease


async def test_leases_that_were_never_kept_are_closed(machine: Machine) -> None:
    leases = Leases(machine.wire, machine.system, LEASE)

    await leases.close()
    leases.open()
    await leases.close()


async def test_a_lease_that_is_forgotten_while_it_is_renewed_is_not_lost(
    machine: Machine,
) -> None:
    record = await held(machine)
    lost: list[str] = []
    leases = Leases(machine.wire, machine.system, LEASE)
    lease = lease_of(head_of(machine.store, "r"))

    async def forget(verb: Verb, argument: Any) -> None:
        leases.forget(lease)
        if len(renewals) == 1:
            machine.clock.advance(LEASE + 1)
            await machine.store.delete("run/r", expect=2)
        renewals.append(verb)

    renewals: list[Verb] = []
    machine.wire.before = forget
    leases.open()
    for _ in range(2):
        leases.keep(lease, machine.system.monotonic(), lambda: lost.append("lost"))
        await asyncio.sleep(LEASE)
    await leases.close()

    assert renewals == ["renew"] * 2
    assert not lost
    del record


async def test_a_worker_that_never_began_is_closed(machine: Machine) -> None:
    async with machine.open(worker=False) as app:
        worker = Worker(
            app.client.around, owner="me", queues=["a"], concurrency=1, lease=LEASE, grace=0
        )

        await worker.close()


async def test_a_run_that_is_gone_when_its_start_is_said_again_is_not_found(
    machine: Machine,
) -> None:
    async def signalled_and_lost(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            machine.wire.after = delete_after_commit
            fact = Change(key="run/r", id="s", entries=(encode(Signalled("go", 1)),), fact=True)
            await machine.store.commit(fact)
            raise Unavailable("no answer")

    async def delete_after_commit(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            await machine.store.delete("run/r", expect=2)

    async with machine.open(worker=False) as app:
        machine.wire.after = signalled_and_lost
        with pytest.raises(TaskNotFound):
            await recorded.options(app=app).start(None, id="r")
