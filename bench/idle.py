"""What a worker costs that has nothing to do.

`python -m bench.idle URL SECONDS` is one: it says how much of the processor it used, and how often
it asked the store.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from functools import wraps
from pathlib import Path
from typing import Any

import outlast
from bench.children import child, say
from bench.tables import Row, Table
from outlast import TaskContext, task
from outlast.stores.sqlite import SQLiteStore

SETTLED = 1.0
"""Seconds after which a worker that was just opened is idle."""

CPU, CALLS = "% of a core", "calls/s"


@task(name="bench.idle")
async def never(_ctx: TaskContext[None]) -> None:
    pass


def measure_idle(seconds: float, *, within: Path) -> Table:
    """Measure a worker for so long."""
    with tempfile.TemporaryDirectory(dir=within) as directory:
        cpu, calls = asyncio.run(_idle(f"sqlite:///{directory}/bench.db", seconds))
    row = Row("processor, calls of the store", {CPU: [cpu], CALLS: [calls]})
    return Table("idle", "an idle worker", [CPU, CALLS], [row])


async def _idle(url: str, seconds: float) -> tuple[float, float]:
    async with child("bench.idle", url, str(seconds)) as worker:
        cpu, calls = await worker.end()
    return float(cpu), float(calls)


async def work(url: str, seconds: float) -> None:
    calls = 0

    def counted(verb: Any) -> Any:
        @wraps(verb)
        async def call(*words: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            return await verb(*words, **named)

        return call

    for name in ("commit", "read", "claim", "renew", "scan"):
        setattr(SQLiteStore, name, counted(getattr(SQLiteStore, name)))
    async with outlast.open(url):
        await asyncio.sleep(min(SETTLED, seconds))
        began, calls = time.process_time(), 0
        await asyncio.sleep(seconds)
        cpu = time.process_time() - began
        say(100 * cpu / seconds, calls / seconds)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], float(sys.argv[2])))
