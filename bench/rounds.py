"""What is compared is measured in turn: a machine that others use is never twice the same."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar

T = TypeVar("T")

OURS: Final = "outlast"
RAW: Final = "raw"
"""What the two sides are called in the tables; `raw` says what the limit is."""

Measure = Callable[[Path], Coroutine[Any, Any, float]]
"""Works on a file that is not there yet, and returns what it measured."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many are measured, and how many are done before.

    Those before bring the file to its working state: a write-ahead log that has its size is written
    over, and that costs a fraction of the disk's time that a growing one takes.
    """

    before: int
    measured: int

    @property
    def total(self) -> int:
        """How many are done."""
        return self.before + self.measured


def compare(measures: Mapping[str, Measure], rounds: int, within: Path) -> dict[str, list[float]]:
    """Measure all of them in each round, each on a new file; who begins takes turns."""
    figures: dict[str, list[float]] = {name: [] for name in measures}
    names = list(measures)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            with tempfile.TemporaryDirectory(dir=within) as directory:
                figures[name].append(measured(measures[name], Path(directory) / "bench.db"))
    return figures


def measured(measure: Measure, file: Path) -> float:
    """Measure once, in a new event loop, and with what was measured before out of the way."""
    gc.collect()
    return asyncio.run(measure(file))


async def rate(
    work: Callable[[Sequence[T]], Awaitable[None]], items: Sequence[T], count: Count
) -> float:
    """Return how many items a second are worked on, of those that are measured."""
    await work(items[: count.before])
    began = perf_counter()
    await work(items[count.before :])
    return count.measured / (perf_counter() - began)
