"""Ours and the limit in turn, because a machine that others use is never twice the same."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was measured of outlast and of the limit: the n-th of both in the n-th round."""

    unit: str
    ours: list[float]
    raw: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours by the limit's, round by round."""
        return [ours / raw for ours, raw in zip(self.ours, self.raw, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of what the rounds say, each by itself."""
        return median(self.ratios)


def compare(unit: str, ours: Measure, raw: Measure, *, rounds: int, within: Path) -> Comparison:
    """Measure both in each round, each on a new file; who begins alternates."""
    comparison = Comparison(unit, [], [])
    for number in range(rounds):
        sides = [(ours, comparison.ours), (raw, comparison.raw)]
        for measure, figures in sides if number % 2 else reversed(sides):
            with tempfile.TemporaryDirectory(dir=within) as directory:
                figures.append(measured(measure, Path(directory) / "bench.db"))
    return comparison


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
