"""From `start` in one process to the handler in another, which has nothing else to do.

`python -m bench.pickup URL` is the other one: a worker that says when its handler was entered.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path
from typing import Final

import outlast
from bench.children import child, now, say, until_nobody_listens
from bench.peers import LABELS, Peers
from bench.rounds import OURS
from bench.tables import Row, Table, Target, percentiles
from outlast import TaskContext, task

COLUMNS: Final = ["p50", "p95", "p99", "max"]
MAX_P50_MS: Final = 20.0
IDLE_SECONDS: Final = (0.05, 0.15)
"""How long nothing happens before each start: at least, so that the worker is idle, and at most, so
that starts come at any moment of its rounds."""


@task(name="bench.pickup")
async def noted(ctx: TaskContext[int]) -> None:
    say(ctx.input, now())


def measure_pickup(count: int, peer_count: int, *, within: Path, peers: Peers | None) -> Table:
    """Measure so many starts, one at a time."""
    with tempfile.TemporaryDirectory(dir=within) as directory:
        ours = asyncio.run(pickups(f"sqlite:///{directory}/ours.db", count))
        others = (
            asyncio.run(peers.pickups(Path(directory) / "dbos.db", peer_count)) if peers else []
        )
    row = Row(f"{OURS}, {count} times", percentiles(ours, COLUMNS))
    row.targets.append(Target("p50", row.cells["p50"], most=MAX_P50_MS))
    rows = [row]
    if others:
        rows.append(Row(f"{LABELS['wal']}, {peer_count} times", percentiles(others, COLUMNS)))
    return Table("pickup", "start to handler in another process, ms", COLUMNS, rows)


async def pickups(url: str, count: int) -> list[float]:
    """Return the milliseconds from the call of `start` to the first line of the handler."""
    chance = random.Random(count)
    milliseconds: list[float] = []
    async with child("bench.pickup", url) as worker, outlast.open(url, worker=False):
        await worker.hear()
        for number in range(count):
            await asyncio.sleep(chance.uniform(*IDLE_SECONDS))
            began = now()
            run = await noted.start(number)
            said, entered = await worker.hear()
            assert int(said) == number
            milliseconds.append((float(entered) - began) * 1000)
            await run.result()
        await worker.end()
    return milliseconds


async def work(url: str) -> None:
    async with outlast.open(url):
        say("ready")
        await until_nobody_listens()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
