"""Leases that a worker keeps: from a thread of its own, and counted so that none ends unnoticed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest

from outlast import TaskContext, Unavailable, task
from outlast.engine.clock import System
from outlast.engine.leases import Leases
from outlast.journal import Fence, Lease
from outlast.stores.memory import MemoryStore
from outlast.testing import FakeClock, FakeSystem, SkippingLoop
from tests.engine.conftest import Machine

loop_factory = SkippingLoop

TTL = 15.0
LEASE = Lease("k", "me", Fence(1, "id"), TTL)


class SlowStore(MemoryStore):
    """Answers the first renewal late, and none after it."""

    def __init__(self, system: FakeSystem, clock: FakeClock, takes: float) -> None:
        super().__init__(clock)
        self.asked_at: list[float] = []
        self._system, self._takes = system, takes

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        self.asked_at.append(self._system.monotonic())
        if len(self.asked_at) > 1:
            raise Unavailable("the store is gone")
        await asyncio.sleep(self._takes)
        return [*leases]


async def lost_at(leases: Leases, system: FakeSystem, *, asked_at: float) -> float:
    """Return when the worker hears that the lease cannot be kept."""
    lost = asyncio.Event()
    leases.keep(LEASE, asked_at, lost.set)
    leases.open()
    await asyncio.wait_for(lost.wait(), 10 * TTL)
    at = system.monotonic()
    await leases.close()
    return at


async def test_a_run_is_stopped_whose_lease_the_store_no_longer_renews(machine: Machine) -> None:
    leases = Leases(machine.store, machine.system, TTL)  # which knows nothing of the lease

    now = machine.system.monotonic()

    assert await lost_at(leases, machine.system, asked_at=now) < now + TTL


async def test_a_renewed_lease_counts_from_before_the_store_was_asked(machine: Machine) -> None:
    store = SlowStore(machine.system, machine.clock, takes=TTL / 4)
    leases = Leases(store, machine.system, TTL)

    at = await lost_at(leases, machine.system, asked_at=machine.system.monotonic())

    assert at < store.asked_at[0] + TTL


async def test_a_renewal_that_gets_no_answer_does_not_outlast_the_lease(machine: Machine) -> None:
    store = SlowStore(machine.system, machine.clock, takes=20 * TTL)
    leases = Leases(store, machine.system, TTL)

    now = machine.system.monotonic()

    assert await lost_at(leases, machine.system, asked_at=now) < now + TTL


async def test_a_claimed_lease_counts_from_before_the_store_was_asked(machine: Machine) -> None:
    store = SlowStore(machine.system, machine.clock, takes=0)
    store.asked_at.append(0.0)
    leases = Leases(store, machine.system, TTL)

    asked_at = machine.system.monotonic() - TTL / 3

    assert await lost_at(leases, machine.system, asked_at=asked_at) < asked_at + TTL


async def test_who_hears_of_a_renewal_may_let_go_of_the_lease(machine: Machine) -> None:
    leases = Leases(SlowStore(machine.system, machine.clock, takes=0), machine.system, TTL)
    ends: list[float] = []

    def renewed(until: float) -> None:
        ends.append(until)
        leases.forget(LEASE)

    now = machine.system.monotonic()
    leases.keep(LEASE, now, lambda: None, renewed)
    await leases.renew()
    await leases.renew()

    assert ends == [now + TTL]


async def test_leases_of_runs_that_were_claimed_together_are_kept_one_by_one(
    machine: Machine,
) -> None:
    @task
    async def long(ctx: TaskContext[None]) -> int:
        await ctx.step("work", asyncio.sleep, 10 * TTL)
        return ctx.recovery_count

    async with machine.open(worker=False, lease=timedelta(seconds=TTL)):
        runs = [await long.start(None) for _ in range(3)]
    async with (
        machine.open(lease=timedelta(seconds=TTL)) as app,
        machine.open(lease=timedelta(seconds=TTL)),
    ):
        results = [await (await app.runs.get(run.id)).result() for run in runs]

    assert [result.output for result in results] == [0, 0, 0]


@pytest.mark.slow
def test_a_blocked_event_loop_keeps_its_leases() -> None:
    renewed = threading.Semaphore(0)

    class Store(MemoryStore):
        async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
            renewed.release()
            return [*leases]

    async def work() -> bool:
        system = System()
        leases = Leases(Store(FakeClock()), system, ttl=0.03)
        leases.keep(LEASE, system.monotonic(), lambda: None)
        leases.open()
        try:
            # Nothing else happens in this event loop meanwhile.
            return all(renewed.acquire(timeout=10) for _ in range(3))
        finally:
            await leases.close()

    assert asyncio.run(work())
