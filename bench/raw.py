"""The limit: the rows of our commits, on our tables and indexes, with nothing around them.

A commit is a transaction with the statements that the rows need, the update of the head by its
fence included. No rules are asked, nothing is looked up, and nobody is told.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol

from bench.written import WrittenEntry, WrittenRun
from outlast.stores.sqlite.schema import HELD, prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_INSERT_ENTRY: Final = "insert into entries values (?, ?, ?, ?, ?, ?, ?, ?)"

_APPEND: Final = """
    update heads set revision = ?, updated_at = ?, updated = ?
      where id = ? and token = ? and fence = ?
"""

_END: Final = """
    update heads set revision = ?, updated_at = ?, updated = ?, status = ?, due = ?, closed = ?,
      owner = null, fence = null, until = null, stage = ?
      where id = ? and token = ? and fence = ?
"""

_TTL: Final = 15.0


class RawLedger:
    """A file with our tables, and what a commit writes to them; for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        prepare(self.db, str(path))
        self.db.execute("pragma synchronous = full")
        if sys.platform == "darwin":  # where fsync alone does not reach the disk
            self.db.execute("pragma fullfsync = on")
            self.db.execute("pragma checkpoint_fullfsync = on")
        self.db.execute("insert into namespaces values (1, 'default', 0)")
        self._sequence = 0

    def transact(self, writes: Iterable[Callable[[RawLedger], None]]) -> None:
        """Write all of it in one transaction."""
        self.db.execute("begin immediate")
        for write in writes:
            write(self)
        self.db.execute("update state set sequence = ?", (self._sequence,))
        self.db.execute("commit")

    def create(self, run: WrittenRun) -> None:
        """Make the run with its first entries, under a lease."""
        self._sequence += 1
        entries = run.changes[0]
        head = run.head | {
            "revision": entries[-1].revision,
            "closed": 0,
            "status": "running",
            "due": run.head["created_at"],
            "owner": run.fence,
            "fence": run.fence,
            "until": run.head["created_at"] + _TTL,
            "stage": HELD,
            "updated_at": run.head["created_at"],
            "updated": self._sequence,
        }
        marks = ", ".join(f":{column}" for column in head)
        self.db.execute(f"insert into heads ({', '.join(head)}) values ({marks})", head)
        self._insert(entries)

    def append(self, run: WrittenRun, number: int) -> None:
        """Write what a change of this number wrote under its fence: a step's outcome."""
        self._sequence += 1
        entries, head = run.changes[number], run.head
        last = entries[-1]
        moved = (last.revision, last.at, self._sequence)
        self._update(_APPEND, (*moved, head["id"], head["token"], run.fence))
        self._insert(entries)

    def end(self, run: WrittenRun) -> None:
        """Write the run's last entries, close it, and give the lease back."""
        self._sequence += 1
        head = run.head
        columns = ("revision", "updated_at", "updated", "status", "due", "closed", "stage")
        final = [head[column] for column in columns]
        self._update(_END, (*final, head["id"], head["token"], run.fence))
        self._insert(run.changes[-1])

    def close(self) -> None:
        self.db.close()

    def _update(self, statement: str, values: tuple[Any, ...]) -> None:
        done = self.db.execute(statement, values)
        assert done.rowcount == 1  # the fence is right

    def _insert(self, entries: Iterable[WrittenEntry]) -> None:
        for entry in entries:
            self.db.execute(_INSERT_ENTRY, entry.row)


class RawWriter(Protocol):
    """What takes writes from an event loop to the one thread that writes."""

    async def __call__(self, work: Callable[[RawLedger], None], /) -> None: ...


OpenWriter = Callable[[Path], AbstractAsyncContextManager[RawWriter]]


@asynccontextmanager
async def one_by_one(path: Path) -> AsyncIterator[RawWriter]:
    """Write each in a transaction of its own, in an executor's thread: for one caller at a time."""
    ledger, loop = RawLedger(path), asyncio.get_running_loop()

    async def write(work: Callable[[RawLedger], None]) -> None:
        await loop.run_in_executor(executor, ledger.transact, (work,))

    with ThreadPoolExecutor(1) as executor:
        yield write
    ledger.close()


_Waiting = tuple[Callable[[RawLedger], None], asyncio.Future[None]]


@asynccontextmanager
async def together(path: Path) -> AsyncIterator[RawWriter]:
    """Write in one transaction what waits together: for many callers at a time."""
    ledger, loop = RawLedger(path), asyncio.get_running_loop()
    waiting: SimpleQueue[_Waiting | None] = SimpleQueue()

    async def write(work: Callable[[RawLedger], None]) -> None:
        written: asyncio.Future[None] = loop.create_future()
        waiting.put((work, written))
        await written

    def serve() -> None:
        while first := waiting.get():
            batch = [first]
            try:
                while one := waiting.get_nowait():
                    batch.append(one)
            except Empty:
                pass
            ledger.transact(work for work, _ in batch)
            loop.call_soon_threadsafe(_settle, [written for _, written in batch])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield write
    finally:
        waiting.put(None)
        await asyncio.to_thread(thread.join)
        ledger.close()


def _settle(written: list[asyncio.Future[None]]) -> None:
    for future in written:
        future.set_result(None)
