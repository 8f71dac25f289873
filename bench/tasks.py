"""Tasks of one step, from `start` to the result: three durable writes each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import outlast
from bench.payload import answer
from bench.raw import OpenWriter, RawLedger, RawWriter, one_by_one, together
from bench.rounds import Comparison, Count, compare, rate
from bench.written import WrittenRun, sample
from outlast import TaskContext, task


@task(name="bench.one_step")
async def one_step(ctx: TaskContext[int]) -> dict[str, Any]:
    return await ctx.step("answer", answer, ctx.input)


async def ours(file: Path, count: Count, at_a_time: int) -> float:
    """Return tasks per second, from `start` to the result."""

    async def run(numbers: Iterator[int]) -> None:
        for number in numbers:
            result = await one_step.run(number)
            assert result.is_completed

    async def run_all(numbers: Sequence[int]) -> None:
        left = iter(numbers)
        await asyncio.gather(*(run(left) for _ in range(at_a_time)))

    async with outlast.open(f"sqlite:///{file}", concurrency=at_a_time):
        return await rate(run_all, range(count.total), count)


async def raw(file: Path, runs: Sequence[WrittenRun], count: Count, at_a_time: int) -> float:
    """Return tasks per second where each is three writes, one after the other, and nothing else."""

    async def write_all(runs: Sequence[WrittenRun]) -> None:
        left = iter(runs)
        await asyncio.gather(*(_write(left, write) for _ in range(at_a_time)))

    open_writer: OpenWriter = one_by_one if at_a_time == 1 else together
    async with open_writer(file) as write:
        return await rate(write_all, runs, count)


async def _write(left: Iterator[WrittenRun], write: RawWriter) -> None:
    for run in left:
        await write(partial(RawLedger.create, run=run))
        for number in range(1, len(run.changes) - 1):
            await write(partial(RawLedger.append, run=run, number=number))
        await write(partial(RawLedger.end, run=run))


def compare_tasks(count: Count, at_a_time: int, *, rounds: int, within: Path) -> Comparison:
    """Compare tasks per second, so many at a time."""
    measure_ours = partial(ours, count=count, at_a_time=at_a_time)
    measure_raw = partial(raw, count=count, at_a_time=at_a_time)
    runs = sample(measure_ours, lambda runs: partial(measure_raw, runs=runs), within)
    limit = partial(measure_raw, runs=runs)
    return compare("tasks/s", measure_ours, limit, rounds=rounds, within=within)
