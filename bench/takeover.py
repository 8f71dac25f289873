"""From `kill -9` of a worker to the first new entry of its runs by another that was there already.

`python -m bench.takeover URL NAME` is a worker. Several live on one file, with runs at work in
them. One that holds runs is killed, and another is started in its place at once. Leases are long,
so that nothing but the death itself tells that the runs are free.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count as counted
from pathlib import Path
from typing import Final

import outlast
from bench.children import PATIENCE, Child, now, say, until_nobody_listens
from bench.tables import Row, Table, Target, percentiles
from outlast import TaskContext, task

COLUMNS: Final = ["p50", "p95", "p99", "max"]
MAX_P99_MS: Final = 500.0
WORKERS: Final = 3
RUNS: Final = 4
PLACES: Final = 4
"""Of one worker: two of them have room for the runs of all."""

LEASE: Final = timedelta(hours=1)
BETWEEN_STEPS: Final = 0.01
MOST_STEPS: Final = 40
"""Steps that may be done, in whichever run, from one kill to the next."""


# In a worker


@task(name="bench.takeover")
async def at_work(ctx: TaskContext[None]) -> None:
    """Do one step after the other; once taken over, do a new one and end."""
    is_taken_over = ctx.recovery_count > 0
    if is_taken_over:  # and that is written: this handler is entered afterwards
        say("taken", ctx.id, name(), now())
    done: list[int] = []

    async def step(number: int) -> int:
        done.append(number)
        return number

    for number in counted():
        await ctx.step("step", step, number)
        if done and is_taken_over:
            say("went-on", ctx.id, name(), now())
            return
        if done:
            say("did", ctx.id, name(), now())
            await asyncio.sleep(BETWEEN_STEPS)


def name() -> str:
    return sys.argv[2]


async def work(url: str) -> None:
    async with outlast.open(url, concurrency=PLACES, lease=LEASE):
        say("ready", "-", name(), now())
        await until_nobody_listens()


# Around them


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a worker."""

    what: str
    run: str
    worker: str
    at: float


class Company:
    """The workers, and what they say."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._names = counted()
        self._said: asyncio.Queue[Said] = asyncio.Queue()
        self._workers: dict[str, Child] = {}
        self._listening: set[asyncio.Task[None]] = set()

    async def hire(self) -> None:
        """Start one more; it says when it is ready."""
        name = f"w{next(self._names)}"
        worker = self._workers[name] = await Child.start("bench.takeover", self._url, name)
        listening = asyncio.create_task(self._listen(worker))
        self._listening.add(listening)
        listening.add_done_callback(self._listening.discard)

    async def _listen(self, worker: Child) -> None:
        while words := await worker.hear(None):
            what, run, name, at = words
            self._said.put_nowait(Said(what, run, name, float(at)))

    async def hear(self) -> Said:
        """Return what one of those who live says next."""
        while True:
            said = await asyncio.wait_for(self._said.get(), PATIENCE)
            if (
                said.worker in self._workers
            ):  # the last lines of the dead are heard after their death
                return said

    def kill(self, name: str) -> float:
        """Kill one, and return the moment before."""
        killed_at = now()
        self._workers.pop(name).process.kill()
        return killed_at

    async def dismiss(self) -> None:
        """Kill all of them."""
        for worker in self._workers.values():
            worker.process.kill()
        await asyncio.gather(*self._listening)


@asynccontextmanager
async def company(url: str) -> AsyncIterator[Company]:
    """Yield the workers, and leave nothing of them behind."""
    workers = Company(url)
    try:
        for _ in range(WORKERS):
            await workers.hire()
        yield workers
    finally:
        await workers.dismiss()


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds from each kill until something was written in the last of the runs it hit."""

    taken: list[float] = field(default_factory=list[float])
    went_on: list[float] = field(default_factory=list[float])


async def takeovers(url: str, kills: int) -> Delays:
    """Kill a worker that has runs at work, so many times."""
    chance, delays = random.Random(kills), Delays()
    holders: dict[str, str] = {}
    ready = 0
    async with outlast.open(url, worker=False), company(url) as workers:
        while len(delays.taken) < kills:
            started = [(await at_work.start(None)).id for _ in range(RUNS - len(holders))]
            # All are at work again, and in the middle of something when the kill comes.
            steps = chance.randint(1, MOST_STEPS)
            while ready < WORKERS or steps > 0 or not holders.keys() >= set(started):
                said = await workers.hear()
                if said.what == "did":
                    holders[said.run] = said.worker
                    steps -= 1
                ready += said.what == "ready"
            victim = chance.choice(sorted(set(holders.values())))
            hit = {run for run, worker in holders.items() if worker == victim}
            killed_at = workers.kill(victim)
            ready -= 1
            await workers.hire()
            times: dict[str, dict[str, float]] = {"taken": {}, "went-on": {}}
            while times["went-on"].keys() != hit:
                said = await workers.hear()
                if said.what in times:
                    assert said.run in hit  # no lease of another ended
                    times[said.what][said.run] = said.at
                ready += said.what == "ready"
            delays.taken.append((max(times["taken"].values()) - killed_at) * 1000)
            delays.went_on.append((max(times["went-on"].values()) - killed_at) * 1000)
            for run in hit:
                del holders[run]
    return delays


def measure_takeover(kills: int, *, within: Path) -> Table:
    """Measure so many kills, each of which hits runs at work."""
    with tempfile.TemporaryDirectory(dir=within) as directory:
        delays = asyncio.run(takeovers(f"sqlite:///{directory}/bench.db", kills))
    entry = Row("first new entry", percentiles(delays.taken, COLUMNS))
    entry.targets.append(Target("p99", entry.cells["p99"], most=MAX_P99_MS))
    step = Row("first new step", percentiles(delays.went_on, COLUMNS))
    return Table("takeover", f"kill -9 to a run's next owner, ms ({kills})", COLUMNS, [entry, step])


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
