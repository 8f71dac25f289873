"""What runs cost that wait for a signal, out of memory.

`python -m bench.waiting RUNS` measures so many, and prints JSON. `python -m bench.waiting URL
TRACES` is the worker: it does what each line tells it, and says what it uses then.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import outlast
from bench.children import Child, child, now, say
from bench.tables import Figures, Row, Table, Target, percentiles
from outlast import TaskContext, task

MEMORY, TRACED, TIME = "MB", "MB of objects", "ms to wait"
OPENED, IDLE = "MB if opened", "% of a core"
SIGNAL: Final = {"p50": "signal p50 ms", "p99": "signal p99 ms"}
COLUMNS: Final = [MEMORY, TRACED, TIME, OPENED, IDLE, *SIGNAL.values()]
MAX_MB: Final = 50.0

AT_A_TIME: Final = 64
"""Starts under way."""

IN_MEMORY: Final = 100
"""Runs at work in the worker, which linger before they are parked."""

LOOKS_EVERY: Final = 0.2
"""Seconds between two looks at the file."""

SETTLED: Final = 1.0
"""Seconds after which a worker that was just opened is idle."""


@task(name="bench.waiting")
async def waits(ctx: TaskContext[int]) -> int:
    value: int = await ctx.wait("go", int)
    return value


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured of runs that wait.

    Attributes:
        runs: how many wait, in each row.
        traced_share: the share of which the objects are counted, which takes long; what they take
            up is multiplied, so it is an upper limit.
        signals: how many are woken, one at a time.
        idle_seconds: for how long a worker that was opened beside them is watched.
    """

    runs: tuple[int, ...]
    traced_share: float
    signals: int
    idle_seconds: float


def measure_waiting(sizes: Sizes, *, within: Path) -> Table:
    """Measure runs started by another process, and, as many as the most, by the worker itself."""
    rows = [_row(f"{runs:,} runs", runs, sizes, within) for runs in sizes.runs]
    most = max(sizes.runs)
    label = f"{most:,} runs of its own"
    rows.append(_row(label, most, sizes, within, starts_itself=True))
    return Table("waiting", "runs that wait", COLUMNS, rows)


def _row(label: str, runs: int, sizes: Sizes, within: Path, *, starts_itself: bool = False) -> Row:
    with tempfile.TemporaryDirectory(dir=within) as directory:
        file = Path(directory) / "bench.db"
        cells = asyncio.run(_measure(file, runs, sizes, starts_itself=starts_itself))
        traced = max(1, int(runs * sizes.traced_share))
        file = Path(directory) / "traced.db"
        grown = asyncio.run(_traced(file, traced, starts_itself=starts_itself))
        cells[TRACED] = [grown * runs / traced]
    row = Row(label, cells)
    row.targets.append(Target(MEMORY, cells[MEMORY], most=MAX_MB))
    row.targets.append(Target(TRACED, cells[TRACED], most=MAX_MB))
    return row


async def _measure(
    file: Path, runs: int, sizes: Sizes, *, starts_itself: bool
) -> dict[str, list[float]]:
    url, cells = f"sqlite:///{file}", dict[str, list[float]]()
    async with child("bench.waiting", url, "") as worker:
        base = await _told(worker, "measure")
        began = now()
        await _start(worker, url, runs, starts_itself=starts_itself)
        await _all_wait(file, runs)
        cells[TIME] = [(now() - began) * 1000 / runs]
        cells[MEMORY] = [(await _told(worker, "measure")).megabytes - base.megabytes]
        milliseconds = await _signals(url, sizes.signals)
        cells |= {
            SIGNAL[name]: rounds for name, rounds in percentiles(milliseconds, SIGNAL).items()
        }
        await worker.end()
    async with child("bench.waiting", url, "") as worker:
        await _told(worker, "measure")
        await asyncio.sleep(min(SETTLED, sizes.idle_seconds))
        before = await _told(worker, "measure")
        await asyncio.sleep(sizes.idle_seconds)
        after = await _told(worker, "measure")
        cells[OPENED] = [after.megabytes - base.megabytes]
        cells[IDLE] = [100 * (after.seconds - before.seconds) / sizes.idle_seconds]
        await worker.end()
    return cells


async def _traced(file: Path, runs: int, *, starts_itself: bool) -> float:
    """Return the megabytes of what Python has made meanwhile and still keeps."""
    url = f"sqlite:///{file}"
    async with child("bench.waiting", url, "traces") as worker:
        base = await _told(worker, "measure")
        await _start(worker, url, runs, starts_itself=starts_itself)
        await _all_wait(file, runs)
        after = await _told(worker, "measure")
        await worker.end()
    return after.traced - base.traced


async def _start(worker: Child, url: str, runs: int, *, starts_itself: bool) -> None:
    if starts_itself:
        await _told(worker, f"start {runs}")
        return
    async with outlast.open(url, worker=False):
        await start_all(range(runs))


async def start_all(numbers: Sequence[int]) -> None:
    """Start a run for each number, and keep no handle of any."""

    async def start(numbers: Iterator[int]) -> None:
        for number in numbers:
            await waits.start(number, id=str(number))

    left = iter(numbers)
    await asyncio.gather(*(start(left) for _ in range(AT_A_TIME)))


async def _all_wait(file: Path, runs: int) -> None:
    """Return when all are out of memory."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        query = "select count(*) from heads where status = 'running' and owner is null"
        while db.execute(query).fetchone() != (runs,):  # noqa: ASYNC110 - another process parks them
            await asyncio.sleep(LOOKS_EVERY)


async def _signals(url: str, count: int) -> list[float]:
    """Return the milliseconds from the call of `signal` until the result is there."""
    chance, milliseconds = random.Random(count), list[float]()
    async with outlast.open(url, worker=False) as app:
        runs = (await app.runs.list(status="running", limit=min(1_000, 10 * count))).items
        for run in chance.sample(runs, min(count, len(runs))):
            began = now()
            await run.signal("go", 1)
            result = await run.result()
            milliseconds.append((now() - began) * 1000)
            assert result.output == 1
    return milliseconds


# The worker


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process uses: megabytes of memory, of Python's objects, and processor time."""

    megabytes: float
    traced: float
    seconds: float


async def _told(worker: Child, what: str) -> Measured:
    """Return what the worker uses when it has done what it is told."""
    assert worker.process.stdin
    worker.process.stdin.write(f"{what}\n".encode())
    traced, seconds = await worker.hear(None)
    return Measured(_megabytes(worker.process.pid), float(traced) / 2**20, float(seconds))


def _megabytes(process: int) -> float:
    """Return the memory that a process has now, as Linux and macOS both tell it."""
    words = ["ps", "-o", "rss=", "-p", str(process)]
    return int(subprocess.run(words, check=True, capture_output=True).stdout) / 1024


async def work(url: str, *, traces: bool) -> None:
    if traces:
        tracemalloc.start()
    async with outlast.open(url, concurrency=IN_MEMORY):
        while line := await asyncio.to_thread(sys.stdin.readline):
            what, *runs = line.split()
            if what == "start":
                await start_all(range(int(runs[0])))
            gc.collect()
            say(tracemalloc.get_traced_memory()[0], time.process_time())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(work(sys.argv[1], traces=bool(sys.argv[2])))
    else:
        _sizes = Sizes((int(sys.argv[1]),), 0.1, 100, 10.0)
        _table = measure_waiting(_sizes, within=Path(tempfile.gettempdir()))
        print(Figures({}, [_table]).to_json(), end="")
