"""Sequential steps: a handler that does one thing after the other, one durable write each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter

import outlast
from bench.payload import answer
from bench.raw import RawLedger, one_by_one
from bench.rounds import Comparison, compare
from bench.written import WrittenRun, sample
from outlast import TaskContext, task


@task(name="bench.steps")
async def steps(ctx: TaskContext[int]) -> float:
    """Return how many seconds so many steps took."""
    began = perf_counter()
    for number in range(ctx.input):
        await ctx.step("answer", answer, number)
    return perf_counter() - began


async def ours(file: Path, count: int) -> float:
    """Return steps per second of one run, without its start and its end."""
    async with outlast.open(f"sqlite:///{file}"):
        result = await steps.run(count, id="steps")
    assert result.output is not None
    return count / result.output


async def raw(file: Path, run: WrittenRun) -> float:
    """Return steps per second where each is one transaction, and nothing else."""
    numbers = range(1, len(run.changes) - 1)
    async with one_by_one(file) as write:
        await write(partial(RawLedger.create, run=run))
        began = perf_counter()
        for number in numbers:
            await write(partial(RawLedger.append, run=run, number=number))
        elapsed = perf_counter() - began
        await write(partial(RawLedger.end, run=run))
    return len(numbers) / elapsed


def compare_steps(count: int, *, rounds: int, within: Path) -> Comparison:
    """Compare steps per second of a run of so many."""
    measure_ours = partial(ours, count=count)
    [run] = sample(measure_ours, lambda runs: partial(raw, run=runs[0]), within)
    return compare("steps/s", measure_ours, partial(raw, run=run), rounds=rounds, within=within)
