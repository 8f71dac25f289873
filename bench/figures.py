"""All parts of the benchmark, and how much each measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.ended import measure_ended
from bench.idle import measure_idle
from bench.imports import measure_imports
from bench.machine import describe
from bench.peers import Peers
from bench.pickup import measure_pickup
from bench.processes import measure_processes
from bench.rounds import Count
from bench.steps import measure_steps
from bench.tables import Figures, Table
from bench.takeover import measure_takeover
from bench.tasks import measure_tasks
from bench.waiting import Sizes as WaitingSizes
from bench.waiting import measure_waiting


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: enough to tell, or enough to see that it runs.

    Attributes:
        steps: of one run.
        tasks: by how many are under way at a time.
        peer_steps, peer_tasks, peer_pickups: the same for others, which are slower.
        callers, seconds: of each process that writes to a file of two.
        ended: how many runs have ended in each file, and how often each verb is measured.
    """

    rounds: int
    import_rounds: int
    process_rounds: int
    steps: Count
    peer_steps: Count
    tasks: dict[int, Count]
    peer_tasks: dict[int, Count]
    seconds: float
    callers: tuple[int, ...]
    fsyncs: int
    pickups: int
    peer_pickups: int
    kills: int
    ended: tuple[int, ...]
    ended_rounds: int
    ended_calls: int
    waiting: WaitingSizes
    idle_seconds: float


FULL: Final = Sizes(
    rounds=9,
    import_rounds=21,
    process_rounds=3,
    steps=Count(250, 400),
    peer_steps=Count(100, 300),
    tasks={1: Count(100, 150), 32: Count(300, 600)},
    peer_tasks={1: Count(50, 100), 32: Count(64, 160)},
    seconds=4.0,
    callers=(1, 16),
    fsyncs=300,
    pickups=400,
    peer_pickups=30,
    kills=500,
    ended=(100, 10_000, 1_000_000),
    ended_rounds=8,
    ended_calls=200,
    waiting=WaitingSizes((100_000,), 0.1, 100, 10.0),
    idle_seconds=10.0,
)
QUICK: Final = Sizes(
    rounds=1,
    import_rounds=1,
    process_rounds=1,
    steps=Count(2, 10),
    peer_steps=Count(1, 4),
    tasks={1: Count(1, 4), 4: Count(8, 32)},
    peer_tasks={1: Count(1, 2), 4: Count(4, 8)},
    seconds=0.1,
    callers=(2,),
    fsyncs=5,
    pickups=4,
    peer_pickups=2,
    kills=2,
    ended=(5, 50),
    ended_rounds=1,
    ended_calls=3,
    waiting=WaitingSizes((4,), 0.5, 2, 0.2),
    idle_seconds=0.2,
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where it is measured, and beside what."""

    within: Path
    peers: Peers | None


Part = Callable[[Sizes, Surroundings], Table]

PARTS: Final[dict[str, Part]] = {
    "steps": lambda sizes, around: measure_steps(
        sizes.steps,
        sizes.peer_steps,
        rounds=sizes.rounds,
        within=around.within,
        peers=around.peers,
    ),
    "tasks": lambda sizes, around: measure_tasks(
        sizes.tasks,
        sizes.peer_tasks,
        rounds=sizes.rounds,
        within=around.within,
        peers=around.peers,
    ),
    "pickup": lambda sizes, around: measure_pickup(
        sizes.pickups, sizes.peer_pickups, within=around.within, peers=around.peers
    ),
    "takeover": lambda sizes, around: measure_takeover(sizes.kills, within=around.within),
    "ended": lambda sizes, around: measure_ended(
        sizes.ended, rounds=sizes.ended_rounds, calls=sizes.ended_calls, within=around.within
    ),
    "processes": lambda sizes, around: measure_processes(
        sizes.callers, seconds=sizes.seconds, rounds=sizes.process_rounds, within=around.within
    ),
    "waiting": lambda sizes, around: measure_waiting(sizes.waiting, within=around.within),
    "idle": lambda sizes, around: measure_idle(sizes.idle_seconds, within=around.within),
    "imports": lambda sizes, around: measure_imports(
        rounds=sizes.import_rounds, within=around.within
    ),
}
"""Each by the name of its table."""


def measure(
    sizes: Sizes, around: Surroundings, parts: Sequence[str], tell: Callable[[str], None]
) -> Figures:
    """Measure these parts in new directories, and tell what is under way."""
    machine = describe(around.within, fsyncs=sizes.fsyncs)
    if around.peers:
        machine |= around.peers.versions
    tables: list[Table] = []
    for name in parts:
        tell(f"measuring {name}")
        tables.append(PARTS[name](sizes, around))
    return Figures(machine, tables)
