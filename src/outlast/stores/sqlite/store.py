"""The store: seven verbs, each handed to a thread that has the file open."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from outlast.errors import Unavailable, UsageError
from outlast.store import Traits
from outlast.stores.sqlite.calls import MAX_WAITING, PATIENCE, Counter, Patience, Question
from outlast.stores.sqlite.file import acquire, release
from outlast.stores.sqlite.ledger import Ledger
from outlast.stores.sqlite.pages import Extent, read_journal, scan_heads
from outlast.stores.sqlite.presence import LockFiles, Presence

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from outlast.journal import Change, Head, Lease
    from outlast.store import Claimed, Clock, Lane, Listener, Query, Reading, Scanned
    from outlast.stores.sqlite.file import OpenFile, Synchronous

Answer = TypeVar("Answer")
Desk = TypeVar("Desk")


class SQLiteStore:
    """Journals of a namespace in one SQLite file."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock,
        namespace: str = "default",
        synchronous: Synchronous = "full",
        presence: Presence | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Name the file; it is not opened yet.

        Args:
            path: of the file. Beside it there will be its log (`-wal`, `-shm`), and a directory of
                lock files (`-locks`).
            clock: by which journals are due and leases end.
            namespace: stores of other namespaces in the same file see nothing of this one.
            synchronous: `full`: what was accepted survives a power cut; `normal`: it survives a
                crash of the process, and a power cut may take the last moments before it. Of
                several stores of a process on one file, the one that asks for more decides.
            presence: tells whether owners live; otherwise lock files beside the file do.
            patience: how many seconds a verb may take before it raises `Unavailable`.
        """
        self._path = os.fspath(path)
        self._clock, self._namespace = clock, namespace
        self._synchronous: Synchronous = synchronous
        self._presence, self._patience = presence, patience
        self._entered: _Entered | None = None

    @property
    def traits(self) -> Traits:
        return Traits(atomic=True, sign_of=self._sign_of)

    def _sign_of(self, owner: str) -> Path | None:
        presence = self._entered and self._entered.presence
        return presence.path(owner) if isinstance(presence, LockFiles) else None

    async def __aenter__(self) -> Self:
        if self._entered:
            raise UsageError(f"the store of {self._path!r} is open already")
        file = await _in_thread(
            lambda: acquire(self._path, self._synchronous, self._patience), release
        )
        entered = _Entered(file, self._clock, self._presence or file.presence, self._patience)
        try:
            entered.namespace = await entered.write(
                lambda ledger: ledger.namespace(self._namespace)
            )
        except BaseException:
            await _in_thread(lambda: release(file))
            raise
        if self._presence:
            file.presences.append(self._presence)
        self._entered = entered
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entered, self._entered = self._entered, None
        if entered is None or entered.file.is_inherited:
            return
        try:
            await entered.leave()
        finally:
            if self._presence:
                entered.file.presences.remove(self._presence)
            await _in_thread(lambda: release(entered.file))

    def _inside(self) -> _Entered:
        entered = self._entered
        if entered is None:
            raise UsageError(f"the store of {self._path!r} is not open: use it inside `async with`")
        if entered.file.is_inherited:
            raise UsageError(
                f"the file {self._path!r} was opened before this process was forked: open it in a"
                " process that was started anew, say by multiprocessing's `spawn`"
            )
        return entered

    async def commit(self, *changes: Change) -> list[Head]:
        entered = self._inside()
        async with entered.writes:
            return await entered.write(lambda ledger: ledger.write(entered, changes))

    async def read(
        self,
        key: str,
        after: int | None = 0,
        *,
        limit: int | None = None,
        last: int | None = None,
        types: Sequence[str] | None = None,
    ) -> Reading:
        entered = self._inside()
        async with entered.reads:
            extent = Extent(after, limit, last, types)
            return await entered.read(lambda db: read_journal(db, entered, key, extent))

    async def claim(
        self, lanes: Sequence[Lane], owner: str, ttl: float, limit: int, id: str
    ) -> Claimed:
        entered = self._inside()
        async with entered.writes:
            return await entered.write(
                lambda ledger: ledger.claim(
                    entered, lanes, owner=owner, ttl=ttl, limit=limit, id=id
                )
            )

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        # It waits for no place: those belong to the store's own loop, which may be blocked.
        entered = self._inside()
        return await entered.write(lambda ledger: ledger.renew(entered, leases, ttl))

    async def scan(self, query: Query, *, limit: int = 100, after: str | None = None) -> Scanned:
        entered = self._inside()
        async with entered.reads:
            return await entered.read(lambda db: scan_heads(db, entered, query, limit, after))

    async def delete(self, key: str, *, expect: int) -> bool:
        entered = self._inside()
        async with entered.writes:
            return await entered.write(lambda ledger: ledger.delete(entered, key, expect))

    def watch(self, listener: Listener) -> Callable[[], None]:
        entered = self._inside()
        stop = entered.file.hints.listen(entered.namespace, entered.loop, listener)
        entered.stops.append(stop)
        return stop


class _Entered:
    """A store while it is open; to the writer it is the `Scope` of its calls."""

    def __init__(self, file: OpenFile, clock: Clock, presence: Presence, patience: float) -> None:
        self.file, self.clock, self.presence = file, clock, presence
        self.namespace = 0
        self.loop = asyncio.get_running_loop()
        self.reads, self.writes = asyncio.Semaphore(MAX_WAITING), asyncio.Semaphore(MAX_WAITING)
        self.stops: list[Callable[[], None]] = []
        self._seconds, self._patience = patience, Patience(patience)
        self._owners: set[str] = set()
        self._is_left = False

    def write(self, work: Callable[[Ledger], Answer]) -> Awaitable[Answer]:
        """Have the work done by the thread that writes."""
        return self._ask(self.file.writer.calls, work, self._complain_of_writer)

    def read(self, work: Callable[[sqlite3.Connection], Answer]) -> Awaitable[Answer]:
        """Have the work done by a thread that reads."""
        return self._ask(self.file.readers.calls, work, self._complain_of_readers)

    async def _ask(
        self,
        counter: Counter[Desk],
        work: Callable[[Desk], Answer],
        complaint: Callable[[], str],
    ) -> Answer:
        if self._is_left:  # while it waited for a place
            raise UsageError(f"the store of '{self.file.path}' was closed")
        question = Question(work)
        counter.add(question)
        is_own = asyncio.get_running_loop() is self.loop
        patience = self._patience if is_own else Patience(self._seconds)
        return await patience.wait(question, complaint)

    def announce(self, owner: str) -> None:
        """Hold a sign that the owner lives; called by the thread that writes."""
        if owner not in self._owners:
            self.presence.hold(owner)
            self._owners.add(owner)

    async def leave(self) -> None:
        """Hear no more hints, and take the signs of life back."""
        for stop in self.stops:
            stop()
        for owner in self._owners:
            try:
                remains = await self.write(partial(Ledger.has_leases, owner=owner))
            except Unavailable:
                remains = True
            # What could not be stopped may still be at work: its leases end when this process does.
            self.presence.release(owner, remains=remains)
        self._is_left = True
        self._patience.close()

    def _complain_of_writer(self) -> str:
        return self.file.writer.complaint(self._seconds)

    def _complain_of_readers(self) -> str:
        return f"the file '{self.file.path}' was not read within {self._seconds} s"


async def _in_thread(
    work: Callable[[], Answer], undo: Callable[[Answer], object] | None = None
) -> Answer:
    """Do the work in a thread of its own; undo it when the caller is cancelled meanwhile."""
    future: Future[Answer] = Future()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                future.set_exception(error)

    def clean_up(future: Future[Answer]) -> None:
        if undo and not future.cancelled() and not future.exception():
            undo(future.result())

    thread = threading.Thread(target=run, name="outlast-open", daemon=True)
    thread.start()
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(clean_up)
        raise
    finally:
        if future.done():
            thread.join()  # it has nothing more to do


def open_url(  # noqa: PLR0917 - every store's module has this function
    url: str, host: str, path: str, settings: Mapping[str, str], clock: Clock, namespace: str
) -> SQLiteStore:
    """Return the store at `sqlite:///relative.db` or `sqlite:////absolute.db`, not opened yet."""
    if host or not path.strip("/"):
        raise UsageError(
            f"{url!r} names no file: write sqlite:///relative.db, or sqlite:////absolute.db"
        )
    synchronous = settings.get("synchronous", "full")
    if settings.keys() - {"synchronous"} or synchronous not in {"full", "normal"}:
        raise UsageError(
            f"{url!r} has a setting that is not known: write ?synchronous=full or"
            " ?synchronous=normal"
        )
    return SQLiteStore(
        path.removeprefix("/"),
        clock=clock,
        namespace=namespace,
        synchronous="normal" if synchronous == "normal" else "full",
    )
