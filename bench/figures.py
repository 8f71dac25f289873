"""All measurements, their targets, and what stands in the JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.imports import compare_imports
from bench.machine import describe
from bench.processes import Load, load
from bench.rounds import Comparison, Count
from bench.steps import compare_steps
from bench.tasks import compare_tasks

MIN_STEPS_RATIO: Final = 0.5
MAX_IMPORT_RATIO: Final = 1.4
MAX_P99_MS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: enough to tell, or enough to see that it runs."""

    rounds: int
    import_rounds: int
    load_rounds: int
    steps: Count
    task: Count
    tasks: Count
    seconds: float
    callers: tuple[int, ...]
    fsyncs: int


FULL: Final = Sizes(
    rounds=15,
    import_rounds=21,
    load_rounds=3,
    steps=Count(250, 400),
    task=Count(100, 150),
    tasks=Count(300, 600),
    seconds=4.0,
    callers=(1, 16),
    fsyncs=300,
)
QUICK: Final = Sizes(
    rounds=1,
    import_rounds=1,
    load_rounds=1,
    steps=Count(2, 10),
    task=Count(1, 4),
    tasks=Count(8, 32),
    seconds=0.1,
    callers=(2,),
    fsyncs=5,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured."""

    machine: dict[str, Any]
    sizes: Sizes
    steps: Comparison
    task: Comparison
    tasks: Comparison
    imports: Comparison
    loads: list[Load]

    def to_json(self) -> dict[str, Any]:
        """Return all of it, round by round."""
        return asdict(self)


def measure(sizes: Sizes, within: Path, tell: Callable[[str], None]) -> Figures:
    """Measure everything in new directories inside of `within`, and tell what is under way."""
    tell("the machine")
    machine = describe(within, fsyncs=sizes.fsyncs)
    tell("sequential steps")
    steps = compare_steps(sizes.steps, rounds=sizes.rounds, within=within)
    tell("one-step tasks, 1 at a time")
    task = compare_tasks(sizes.task, 1, rounds=sizes.rounds, within=within)
    tell("one-step tasks, 32 at a time")
    tasks = compare_tasks(sizes.tasks, 32, rounds=sizes.rounds, within=within)
    tell("imports")
    imports = compare_imports(rounds=sizes.import_rounds, within=within)
    loads: list[Load] = []
    for callers in sizes.callers:
        tell(f"two processes, {callers} callers each")
        loads.append(load(callers, seconds=sizes.seconds, rounds=sizes.load_rounds, within=within))
    return Figures(machine, sizes, steps, task, tasks, imports, loads)
