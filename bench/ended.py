"""What calls cost beside few runs that have ended, and beside very many.

The runs are made once by outlast, and copied row by row: only ids, and what is drawn anew for each
run, differ. Every call is made on all files in turn, so that whatever else the machine does hits
them alike. The median says what a call costs; the mean has checkpoints of the log in it, too, and
whatever else made single calls slow.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, quantiles
from time import perf_counter
from typing import Any, Final, TypeVar

import outlast
from bench.payload import answer
from bench.tables import Row, Table
from bench.written import WrittenRun, written_runs
from outlast import App, TaskContext, task
from outlast.engine.clock import System
from outlast.journal import Change, Draft, Head
from outlast.store import Claimed, Lane, Store, open_store

MAX_GROWTH: Final = 1.3
MAX_GROWTH_RANDOM: Final = 2.0
BATCH: Final = 10_000
"""Runs that are copied at a time."""

TTL: Final = 600.0
OWNER: Final = "bench"
CALLS: Final = ("start", "signal", "claim of one run", "claim of none", "step's outcome", "end")
"""What is done to each run, in this order; `start` and `signal` by the public interface."""

T = TypeVar("T")
DrawId = Callable[[], str]


@task(name="bench.ended")
async def ended(ctx: TaskContext[int]) -> dict[str, Any]:
    return await ctx.step("answer", answer, ctx.input)


LANE: Final = Lane("default", ended.name)


# The files


async def make_one(url: str) -> None:
    """Have one run end."""
    async with outlast.open(url):
        await ended.run(0)


def copy_runs(file: Path, count: int, draw_id: DrawId) -> None:
    """Copy the one run in the file until there are so many."""
    [run] = written_runs(file)
    system = System()
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        # Nobody needs the file if this fails, and each page is written once, not once a batch.
        for setting in ("journal_mode = off", "synchronous = off", "cache_size = -500000"):
            db.execute(f"pragma {setting}")
        db.execute("begin")
        for start in range(1, count, BATCH):
            copies = [
                _Copy(run, number, draw_id(), system.draw_name)
                for number in range(start, min(start + BATCH, count))
            ]
            heads = ", ".join("?" * len(run.head))
            db.executemany(f"insert into heads values ({heads})", [one.head() for one in copies])
            db.executemany(
                "insert into entries values (?, ?, ?, ?, ?, ?, ?, ?)",
                [row for one in copies for row in one.entries()],
            )
            db.execute("update state set sequence = ?", (copies[-1].updated,))
        db.execute("commit")
        db.execute("pragma journal_mode = wal")
    with file.open("rb") as written:
        os.fsync(written.fileno())  # now, and not while something is measured


@dataclass(frozen=True, slots=True)
class _Copy:
    """A run that did the same as another."""

    run: WrittenRun
    number: int
    id: str
    draw_name: DrawId

    @property
    def journal(self) -> int:
        """The count of writes when it was made; each run is as many writes as the first."""
        return int(self.run.head["id"]) + self.number * len(self.run.changes)

    @property
    def updated(self) -> int:
        return int(self.run.head["updated"]) + self.number * len(self.run.changes)

    def head(self) -> tuple[Any, ...]:
        changed = {"id": self.journal, "key": f"run/{self.id}", "updated": self.updated}
        return tuple((self.run.head | changed).values())

    def entries(self) -> Iterator[tuple[Any, ...]]:
        fence, created = self.draw_name(), self.draw_name()
        for change in self.run.changes:
            for entry in change:
                _, revision, type, data, at, said, part, blobs = entry.row
                by_fence = said.startswith(f"{self.run.fence}.")
                id = said.replace(self.run.fence, fence) if by_fence else created
                yield (self.journal, revision, type, data, at, id, part, blobs)


# The calls


Spent = dict[str, float]
"""The microseconds of each call, made once."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file that is open."""

    app: App
    store: Store
    system: System
    draw_id: DrawId
    run: WrittenRun

    async def play(self) -> Spent:
        """Make each call once, with a new run, and return what it took."""
        spent: Spent = {}

        async def timed(name: str, call: Awaitable[T]) -> T:
            began = perf_counter()
            answer = await call
            spent[name] = (perf_counter() - began) * 1e6
            return answer

        start = ended.options(app=self.app).start(0, id=self.draw_id())
        run = await timed("start", start)
        await timed("signal", run.signal("go", "on"))
        claimed = await timed("claim of one run", self._claim())
        [head] = claimed.heads
        nothing = await timed("claim of none", self._claim())
        assert not nothing.heads
        [head] = await timed("step's outcome", self.store.commit(self._change(head, 1)))
        end = self._change(head, 2, card={"status": "completed", "due": None}, close=True)
        await timed("end", self.store.commit(end))
        return spent

    def _claim(self) -> Awaitable[Claimed]:
        return self.store.claim([LANE], OWNER, TTL, 10, self.system.draw_name())

    def _change(self, head: Head, number: int, **settings: Any) -> Change:
        """Return what an ended run wrote in its change of this number."""
        assert head.fence
        return Change(
            key=head.key,
            id=f"{head.fence.id}.{number}",
            entries=tuple(Draft(*entry.row[2:4]) for entry in self.run.changes[number]),
            fence=head.fence,
            release="close" in settings,
            **settings,
        )


async def _measure(
    files: dict[str, tuple[Path, DrawId]], rounds: int, calls: int
) -> dict[str, list[list[Spent]]]:
    """Return what was spent on each file, round by round and time by time."""
    measured: dict[str, list[list[Spent]]] = {name: [] for name in files}
    system = System()
    async with AsyncExitStack() as stack:
        places: dict[str, Place] = {}
        for name, (file, draw_id) in files.items():
            url = f"sqlite:///{file}"
            app = await stack.enter_async_context(outlast.open(url, worker=False))
            store = await stack.enter_async_context(open_store(url, clock=system))
            [run] = written_runs(file, 1)
            places[name] = Place(app, store, system, draw_id, run)
            await places[name].play()  # what is done once is done
        order = list(places.items())
        for _ in range(rounds):
            for plays in measured.values():
                plays.append([])
            for _ in range(calls):
                order.append(order.pop(0))
                for name, place in order:
                    measured[name][-1].append(await place.play())
    return measured


# The table


def measure_ended(counts: Sequence[int], *, rounds: int, calls: int, within: Path) -> Table:
    """Measure with so many ended runs; with the most, also where users gave random ids."""
    system, chance = System(), random.Random(counts[-1])
    kinds: dict[str, tuple[int, DrawId]] = {f"{n:,} ended": (n, system.draw_id) for n in counts}
    random_ids = f"{counts[-1]:,}, random ids"
    kinds[random_ids] = (counts[-1], lambda: f"{chance.getrandbits(128):032x}")
    files: dict[str, tuple[Path, DrawId]] = {}
    with tempfile.TemporaryDirectory(dir=within) as directory:
        for name, (count, draw_id) in kinds.items():
            file = Path(directory) / f"{len(files)}.db"
            asyncio.run(make_one(f"sqlite:///{file}"))
            copy_runs(file, count, draw_id)
            files[name] = file, draw_id
        measured = asyncio.run(_measure(files, rounds, calls))
        sizes = {name: [file.stat().st_size / 1e6] for name, (file, _) in files.items()}
    rows = [Row("size of the file, MB", sizes)]
    few, many = f"{counts[0]:,} ended", f"{counts[-1]:,} ended"
    for call in CALLS:
        for label, figure in (("", median), (", mean", mean), (", p95", _p95)):
            row = _row(call + label, call, measured, figure)
            if figure is not _p95:
                row.ratio_is(many, few, most=MAX_GROWTH)
                row.ratio_is(random_ids, few, most=MAX_GROWTH_RANDOM)
            rows.append(row)
    return Table("ended", "a call beside ended runs, µs", list(kinds), rows)


def _row(
    label: str,
    call: str,
    measured: dict[str, list[list[Spent]]],
    figure: Callable[[list[float]], float],
) -> Row:
    """Return the row with a figure of each round's calls."""
    return Row(
        label,
        {
            name: [figure([spent[call] for spent in plays]) for plays in rounds]
            for name, rounds in measured.items()
        },
    )


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20, method="inclusive")[-1]
