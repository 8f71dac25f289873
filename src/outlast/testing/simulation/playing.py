"""One world, from its seed to its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from outlast import App
from outlast.store import open_store
from outlast.testing.simulation.audit import AuditedStore
from outlast.testing.simulation.journey import Client, Plan
from outlast.testing.simulation.oracle import Oracle
from outlast.testing.simulation.process import State, Work
from outlast.testing.simulation.simulation import Simulation, asking
from outlast.testing.simulation.trace import Happening
from outlast.testing.simulation.trouble import Troublemaker
from outlast.testing.simulation.workload import BUDGETS, Outside, linger, talk, work
from outlast.testing.simulation.worlds import World

RUNS: Final = 8
"""Runs of each world, those not counted that are made again under the id of another."""

WORKERS: Final = 3

_OF_EACH: Final = 2
"""Runs of every world that work, and as many that talk."""

_USED_AGAIN: Final = 0.7
"""The share of the ids of deleted runs that are used again."""

_FREE_FOR: Final = 25.0
"""Seconds, at most, from a start to that of the next run under its id, if it has ended by then."""

_CLIENTS: Final = {"starter", "caller", "reader"}

_BEGIN_WITHIN: Final = 6.0
"""Seconds over which the starts of runs are spread."""

_ENDS_WITHIN: Final = 240.0
"""Seconds within which all runs have ended once the trouble is over."""

_CLOSES_WITHIN: Final = 60.0
"""Seconds within which all processes have ended that were asked to."""


@dataclass(frozen=True, slots=True)
class Played:
    """What a world came to.

    Attributes:
        digest: of its trace.
        totals: how often what happened.
        trace: all that happened.
    """

    digest: str
    totals: Counter[str]
    trace: Sequence[Happening]


def play(world: World, seed: int) -> Played:
    """Play a world, and hold it against every promise.

    Raises:
        SimulationFailed: something went wrong.
    """
    stage = _Stage(world, seed)
    stage.play()
    return stage.played()


class _Stage:
    """A world while it is played."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._simulation = simulation = Simulation(seed, make_store=self._make_store)
        self._chance = chance = simulation.chance
        self._troublemaker = Troublemaker(simulation, world.trouble)
        self._troublemaker.on_jump = self._allow_for
        self._settings: dict[str, Any] = {
            "lease": timedelta(seconds=chance.uniform(3, 6)),
            "grace": timedelta(seconds=2),
            "concurrency": chance.choice((3, 6)),
            "resources": Outside(self._oracle, chance),
        }
        self._plans = [self._draw_plan(number) for number in range(RUNS)]

    def _make_store(self, simulation: Simulation) -> AuditedStore:
        self._oracle = Oracle(simulation.fail, lambda: simulation.now, BUDGETS)
        self._audit = AuditedStore(
            open_store("memory://", clock=simulation.clock),
            simulation.clock,
            fail=simulation.fail,
            trace=lambda what: simulation.trace("store", f"{what} ({asking.get()})"),
            who=lambda: asking.get().partition("#")[0],
            watcher=self._oracle,
        )
        return self._audit

    def _allow_for(self, jump: float) -> None:
        self._oracle.slack += jump
        self._audit.slack += jump

    # What is to be done

    def _draw_plan(self, number: int, generation: int = 0, since: float = 0.0) -> Plan:
        chance, world = self._chance, self._world
        if number < _OF_EACH * 2 and not generation:
            task = (work, talk)[number % 2]
        else:
            [task] = chance.choices(list(world.mix), list(world.mix.values()))
        id, size = f"r{number}", chance.choice((2, 2, 3))
        name = f"{id}.{generation}"
        starts_at = max(since, self._simulation.now + chance.uniform(0, _BEGIN_WITHIN))
        plan = Plan(id, name, task, size, starts_at)
        # As many as may be waited for, most of them while somebody waits.
        times = sorted(starts_at + chance.uniform(0, 9) for _ in range(size))
        plan.words = [(at, f"{name}-{place}") for place, at in enumerate(times)]
        if task is linger or chance.random() < world.stopped:
            at = starts_at + chance.uniform(0.1, 12)
            plan.stop = at, chance.choice(("cancel", "abort"))
        if not generation and chance.random() < world.deleted:
            plan.is_deleted = True
            if chance.random() < _USED_AGAIN:
                later = starts_at + chance.uniform(0, _FREE_FOR)
                plan.then = self._draw_plan(number, generation + 1, later)
        return plan

    # Playing

    def play(self) -> None:
        """Play the world to its end."""
        simulation, oracle = self._simulation, self._oracle
        with simulation:
            for number in range(WORKERS):
                simulation.open(f"worker{number}", **self._settings)
            takes_runs = self._chance.choice((True, False))
            led, again = self._plans[::2], self._plans[1::2]
            seen = [plan for plan in self._plans if not plan.is_deleted]
            passing = [plan for plan in self._plans if plan.is_deleted]
            read = [*seen[:2], *passing[:2]]
            simulation.open("starter", self._leading(led), worker=takes_runs, **self._settings)
            simulation.open("caller", self._leading(again), worker=False, **self._settings)
            simulation.open("reader", self._observing(read), worker=False, **self._settings)
            self._troublemaker.begin()
            simulation.run(
                lambda: simulation.ended >= _CLIENTS,
                within=self._world.trouble.lasts + _ENDS_WITHIN,
            )
            simulation.run(lambda: self._troublemaker.is_over, within=_ENDS_WITHIN)
            late = simulation.open(
                "latecomer", self._observing(seen), worker=False, **self._settings
            )
            simulation.run(lambda: late.state is State.ENDED, within=_CLOSES_WITHIN)
            simulation.run(self._is_closed, within=_CLOSES_WITHIN)
            oracle.check()
            for what in self._world.forbids:
                if count := self._audit.totals[what]:
                    simulation.fail(f"{what}: {count}, and there must be none")

    def _leading(self, plans: Sequence[Plan]) -> Work:
        async def lead(app: App) -> None:
            client = Client(app, self._oracle)
            await asyncio.gather(*(client.lead(plan) for plan in plans))

        return lead

    def _observing(self, plans: Sequence[Plan]) -> Work:
        async def observe(app: App) -> None:
            client = Client(app, self._oracle)
            await asyncio.gather(*(client.observe(plan) for plan in plans))

        return observe

    def _is_closed(self) -> bool:
        """Ask every process to end, and say whether all have."""
        alive = [one for one in self._simulation.processes if one.state is State.ALIVE]
        for process in alive:
            if not process.is_asked_to_end:
                process.ask_to_end()
        return not alive

    def played(self) -> Played:
        """Return what it came to."""
        simulation = self._simulation
        totals = simulation.count()
        totals.update(self._audit.totals)
        return Played(simulation.digest(), totals, simulation.happenings())
