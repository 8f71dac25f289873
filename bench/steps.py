"""Sequential steps: a handler that does one thing after the other, one durable write each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

import outlast
from bench.payload import answer
from bench.peers import LABELS, Peers
from bench.raw import RawLedger, one_by_one
from bench.rounds import OURS, RAW, Count, Measure, compare
from bench.tables import Row, Table
from bench.written import WrittenRun, sample
from outlast import TaskContext, task

MIN_BY_RAW: Final = 0.5
MIN_BY_DBOS: Final = 4.0


@task(name="bench.steps")
async def steps(ctx: TaskContext[Count]) -> float:
    """Return how many seconds the steps took that count."""
    began = 0.0
    for number in range(ctx.input.total):
        if number == ctx.input.before:
            began = perf_counter()
        await ctx.step("answer", answer, number)
    return perf_counter() - began


async def ours(file: Path, count: Count) -> float:
    """Return steps per second of one run, without its start and its end."""
    async with outlast.open(f"sqlite:///{file}"):
        result = await steps.run(count, id="steps")
    assert result.output is not None
    return count.measured / result.output


async def raw(file: Path, run: WrittenRun, count: Count) -> float:
    """Return steps per second where each is one transaction, and nothing else."""
    began = 0.0
    async with one_by_one(file) as write:
        await write(partial(RawLedger.create, run=run))
        for number in range(count.total):
            if number == count.before:
                began = perf_counter()
            await write(partial(RawLedger.append, run=run, number=number + 1))
        elapsed = perf_counter() - began
        await write(partial(RawLedger.end, run=run))
    return count.measured / elapsed


def measure_steps(
    count: Count, peer: Count, *, rounds: int, within: Path, peers: Peers | None
) -> Table:
    """Compare steps per second of a run of so many."""
    measure_ours = partial(ours, count=count)
    measure_raw = partial(raw, count=count)
    [run] = sample(measure_ours, lambda runs: partial(measure_raw, run=runs[0]), within)
    measures: dict[str, Measure] = {OURS: measure_ours, RAW: partial(measure_raw, run=run)}
    measures |= peers.both_modes("steps", peer) if peers else {}
    row = Row("one after another", compare(measures, rounds, within))
    row.ratio_is(OURS, RAW, least=MIN_BY_RAW)
    row.ratio_is(OURS, LABELS["wal"], least=MIN_BY_DBOS)
    return Table("steps", "steps per second", list(measures), [row])
