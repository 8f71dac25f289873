"""The threads of a process that read from a file, each with a connection of its own."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from outlast.stores.sqlite.calls import Call, Counter, Mail

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlast.stores.sqlite.condition import Condition

READERS: Final = 4
"""Threads: as many long reads leave none for a short one."""


class Readers:
    """The threads, and where calls wait for one of them."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], condition: Condition) -> None:
        """Prepare the threads; the arguments are those of `Writer`."""
        self.calls: Counter[sqlite3.Connection] = Counter()
        self._connect, self._condition = connect, condition
        self._threads = [
            threading.Thread(target=self._run, name=f"outlast-reader-{n}", daemon=True)
            for n in range(READERS)
        ]

    def open(self) -> None:
        """Start the threads; each connects when it has something to read."""
        for thread in self._threads:
            thread.start()

    def close(self, patience: float) -> None:
        """Have the calls read that wait, and end the threads."""
        self.calls.close(READERS)
        end = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    # In a thread; the connection is known to nothing but its frames, see `Writer`.

    def _run(self) -> None:
        db: sqlite3.Connection | None = None
        while (call := self.calls.next()) is not None:
            if not call.begin():
                continue
            try:
                db = db or self._connect()
                self._read(db, call)
            except Exception as error:  # noqa: BLE001 - it is the answer
                call.fail(error)
            if call.error:
                call.fail(self._condition.note(call.error))
            mail = Mail()
            call.deliver(mail)
            mail.send()
            del call, mail  # they hold what was read, and the next call may be long in coming
        if db:
            db.close()

    def _read(self, db: sqlite3.Connection, call: Call[sqlite3.Connection, Any]) -> None:
        try:
            db.execute("begin")
            call.run(db)
        finally:
            with suppress(sqlite3.Error):
                db.execute("rollback")
            self._condition.check()
