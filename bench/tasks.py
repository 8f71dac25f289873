"""Tasks of one step, from `start` to the result: three durable writes each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import outlast
from bench.payload import answer
from bench.peers import LABELS, Peers
from bench.raw import OpenWriter, RawLedger, RawWriter, one_by_one, together
from bench.rounds import OURS, RAW, Count, Measure, compare, rate
from bench.tables import Row, Table
from bench.written import WrittenRun, sample
from outlast import TaskContext, task

MIN_BY_RAW: Final = 0.25
MIN_BY_DBOS: Final = 8.0


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


def measure_tasks(
    counts: Mapping[int, Count],
    peer_counts: Mapping[int, Count],
    *,
    rounds: int,
    within: Path,
    peers: Peers | None,
) -> Table:
    """Compare tasks per second, so many at a time."""
    rows: list[Row] = []
    for at_a_time, count in counts.items():
        measure_ours = partial(ours, count=count, at_a_time=at_a_time)
        measure_raw = partial(raw, count=count, at_a_time=at_a_time)
        runs = sample(measure_ours, _limit(measure_raw), within)
        measures: dict[str, Measure] = {OURS: measure_ours, RAW: partial(measure_raw, runs=runs)}
        if peers:
            measures |= peers.both_modes("tasks", peer_counts[at_a_time], at_a_time)
        row = Row(f"{at_a_time} at a time", compare(measures, rounds, within))
        if at_a_time > 1:
            row.ratio_is(OURS, RAW, least=MIN_BY_RAW)
            row.ratio_is(OURS, LABELS["wal"], least=MIN_BY_DBOS)
        rows.append(row)
    return Table(
        "tasks", "one-step tasks per second", [OURS, RAW, *(LABELS.values() if peers else ())], rows
    )


def _limit(
    measure: Callable[..., Coroutine[Any, Any, float]],
) -> Callable[[Sequence[WrittenRun]], Measure]:
    return lambda runs: partial(measure, runs=runs)
