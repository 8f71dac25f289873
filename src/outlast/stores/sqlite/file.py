"""What a process has of a file: one writer, some readers, one watcher, whichever stores share them.

The one rule that must not be broken: what a process has of a file is its own. A forked child has
neither its threads nor its locks, so it uses nothing of it, and does not open that file again:
SQLite would take the parent's locks for the child's.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from outlast.errors import UsageError
from outlast.stores.sqlite.condition import Condition
from outlast.stores.sqlite.failures import in_our_words
from outlast.stores.sqlite.hints import Hints
from outlast.stores.sqlite.place import Identity, check_place, identity, uri
from outlast.stores.sqlite.presence import LockFiles
from outlast.stores.sqlite.readers import Readers
from outlast.stores.sqlite.schema import prepare
from outlast.stores.sqlite.turnstile import Turnstile
from outlast.stores.sqlite.watcher import Watcher
from outlast.stores.sqlite.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Generator

    from outlast.stores.sqlite.presence import Presence

Synchronous: TypeAlias = Literal["full", "normal"]

BUSY_SECONDS: Final = 5.0
"""How long SQLite waits for other programs that lock the file; our own wait at the turnstile."""

LOG_BYTES: Final = 64 * 1024 * 1024
"""The log is cut to this after something large was written."""

STATEMENTS: Final = 256
"""Prepared statements that each connection keeps."""


class OpenFile:
    """A file as one process has it open, for all stores that share it."""

    path: Path
    identity: Identity
    condition: Condition
    hints: Hints
    presence: LockFiles
    turnstile: Turnstile
    writer: Writer
    readers: Readers
    watcher: Watcher
    users: int
    is_inherited: bool

    def __init__(self, path: Path, identity: Identity, synchronous: Synchronous) -> None:
        self.path, self.identity = path, identity
        self.users = 0
        self.is_inherited = False  # by a forked child
        self.presences: list[Presence] = []
        self._synchronous = synchronous
        self._lock = threading.Lock()
        self._opened: ExitStack | None = None

    def open(self, patience: float) -> None:
        """Open it, unless another store has.

        Raises:
            UsageError: the file is of a newer format.
            Unavailable: it could not be read or written within `patience` seconds.
        """
        with self._lock, ExitStack() as opened:
            if self._opened:
                return
            name, directory = str(self.path), self.path.with_name(f"{self.path.name}-locks")
            directory.mkdir(exist_ok=True)
            self.condition, self.hints = Condition(self.path, self.identity), Hints()
            self.presence = LockFiles(directory / "owners")
            self.presences = [self.presence]
            opened.callback(self.presence.close)
            self.turnstile = Turnstile(directory)
            self.writer = Writer(
                name, self._for_writing, self.condition, self.turnstile, self.hints
            )
            self.writer.open(patience)
            opened.callback(self.writer.close, patience)
            self.readers = Readers(self._for_reading, self.condition)
            self.readers.open()
            opened.callback(self.readers.close, patience)
            self.watcher = Watcher(
                self._for_reading,
                self.condition,
                self.writer,
                self.hints,
                lambda: tuple(self.presences),
            )
            self.watcher.open()
            opened.callback(self.watcher.close, patience)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """End its threads, once what waits for them is done, and let go of it."""
        with self._lock:
            if self._opened:
                self._opened.close()
                self._opened = None

    def leave_to_parent(self) -> None:
        """Use nothing of it in a child that was forked, and keep no lock alive."""
        self.is_inherited = True
        if hasattr(self, "turnstile"):
            self.turnstile.close()

    def use_full(self) -> None:
        """Have every commit wait for the disk from now on, for a store that asks for it."""
        self.writer.strict = True

    # In the threads.

    def _for_writing(self) -> sqlite3.Connection:
        db = self._connect()
        try:
            prepare(db, str(self.path))
            db.execute(f"pragma synchronous = {self._synchronous}")
            db.execute(f"pragma journal_size_limit = {LOG_BYTES}")
            db.execute("select * from state").fetchall()  # what had no log has one once it is read
            self.condition.remember_log()
        except BaseException:
            db.close()
            raise
        return db

    def _for_reading(self) -> sqlite3.Connection:
        db = self._connect()
        db.execute("pragma query_only = on")
        return db

    def _connect(self) -> sqlite3.Connection:
        self.condition.check()
        db = sqlite3.connect(
            uri(self.path, "mode=rw"),
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            cached_statements=STATEMENTS,
        )
        db.execute("pragma foreign_keys = on")
        db.execute("pragma trusted_schema = off")
        if sys.platform == "darwin":  # where fsync alone does not reach the disk
            db.execute("pragma fullfsync = on")
            db.execute("pragma checkpoint_fullfsync = on")
        return db


def acquire(name: str, synchronous: Synchronous, patience: float) -> OpenFile:
    """Open the file, or share it with the stores of this process that have it open.

    Raises:
        UsageError: there is no file of ours at the path, and none can be.
        Unavailable: it could not be read or written.
    """
    with _registry, _in_our_words(name):
        path = Path(name).resolve()
        check_place(path)
        if not path.exists():
            path.touch()
        found = identity(path)
        if found in _inherited:
            raise UsageError(
                f"the file '{path}' was open when this process was forked, which SQLite does not"
                " survive: open it in a process that was started anew, say by multiprocessing's"
                " `spawn`"
            )
        file = _open.get(found) or OpenFile(path, found, synchronous)
        _open[found] = file
        file.users += 1
    try:
        with _in_our_words(name):
            file.open(patience)
    except BaseException:
        release(file)
        raise
    if synchronous == "full":
        file.use_full()
    return file


@contextmanager
def _in_our_words(name: str) -> Generator[None]:
    """Say in our words what the operating system says of the path, and of what lies beside it."""
    try:
        yield
    except OSError as error:
        raise in_our_words(error, name) from error
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{name!r} is no path of a file: {error}") from error


def release(file: OpenFile) -> None:
    """Close the file when no other store of this process has it open."""
    with _registry:
        file.users -= 1
        if file.users:
            return
        _open.pop(file.identity, None)
    file.close()


_registry = threading.Lock()
_open: Final[dict[Identity, OpenFile]] = {}
_inherited: Final[set[Identity]] = set()


def _after_fork() -> None:
    """Leave to the parent what is the parent's."""
    global _registry  # noqa: PLW0603 - another thread of the parent may have held it
    _registry = threading.Lock()
    for file in _open.values():
        file.leave_to_parent()
    _inherited.update(_open)
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
