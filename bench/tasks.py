"""Tasks of one step, from `start` to the result: three durable writes each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import outlast
from bench.payload import answer
from bench.raw import OpenWriter, RawLedger, RawWriter, one_by_one, together
from bench.rounds import Comparison, compare
from bench.written import WrittenRun, sample
from outlast import TaskContext, task


@task(name="bench.one_step")
async def one_step(ctx: TaskContext[int]) -> dict[str, Any]:
    return await ctx.step("answer", answer, ctx.input)


async def ours(file: Path, count: int, at_a_time: int) -> float:
    """Return tasks per second, from `start` to the result."""

    async def run(numbers: Iterator[int]) -> None:
        for number in numbers:
            result = await one_step.run(number)
            assert result.is_completed

    async with outlast.open(f"sqlite:///{file}", concurrency=at_a_time):
        numbers = iter(range(count))
        began = perf_counter()
        await asyncio.gather(*(run(numbers) for _ in range(at_a_time)))
        return count / (perf_counter() - began)


async def raw(file: Path, runs: Sequence[WrittenRun], at_a_time: int) -> float:
    """Return tasks per second where each is three writes, one after the other, and nothing else."""

    async def write_all(left: Iterator[WrittenRun], write: RawWriter) -> None:
        for run in left:
            await write(partial(RawLedger.create, run=run))
            for number in range(1, len(run.changes) - 1):
                await write(partial(RawLedger.append, run=run, number=number))
            await write(partial(RawLedger.end, run=run))

    open_writer: OpenWriter = one_by_one if at_a_time == 1 else together
    async with open_writer(file) as write:
        left = iter(runs)
        began = perf_counter()
        await asyncio.gather(*(write_all(left, write) for _ in range(at_a_time)))
        return len(runs) / (perf_counter() - began)


def compare_tasks(count: int, at_a_time: int, *, rounds: int, within: Path) -> Comparison:
    """Compare tasks per second, so many at a time."""
    measure_ours = partial(ours, count=count, at_a_time=at_a_time)
    make_raw = partial(partial, raw, at_a_time=at_a_time)
    runs = sample(measure_ours, lambda runs: make_raw(runs=runs), within)
    return compare("tasks/s", measure_ours, make_raw(runs=runs), rounds=rounds, within=within)
