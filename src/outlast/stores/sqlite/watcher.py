"""The thread of a process that looks out for what others do: they write, and they die.

The one rule that must not be broken: nothing is right only because of it. What it finds is found
late, or not at all, and then leases run out and polls come.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final

from outlast.store import Hint
from outlast.stores.sqlite.calls import Call, Mail
from outlast.stores.sqlite.hints import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outlast.stores.sqlite.hints import Hints
    from outlast.stores.sqlite.ledger import Ledger
    from outlast.stores.sqlite.presence import Presence
    from outlast.stores.sqlite.writer import Writer

LOOK_SECONDS: Final = 0.005
"""Seconds between two looks at what was written, while somebody listens."""

VISIT_SECONDS: Final = 0.05
"""Seconds between two looks at who has died."""

MAX_HINTS: Final = 200
"""Journals of which one look tells; when more have changed, any may have."""

_CHANGED: Final = """
    with recursive kinds (kind) as (
      select min(kind) from heads where namespace = ?1
      union all
      select (select min(kind) from heads where namespace = ?1 and kind > kinds.kind)
      from kinds where kind is not null
    )
    select updated, key, revision, closed
    from kinds cross join heads on heads.kind = kinds.kind
    where namespace = ?1 and updated > ?2 limit ?3
"""

_log = logging.getLogger(__name__)


class Watcher:
    """The thread; it only reads, and leaves to the writer what must be written."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        writer: Writer,
        hints: Hints,
        presences: Callable[[], Iterable[Presence]],
    ) -> None:
        self._connect, self._writer, self._hints = connect, writer, hints
        self._presences = presences
        self._ended = threading.Event()
        self._burying: set[tuple[int, str]] = set()
        self._thread = threading.Thread(target=self._run, name="outlast-watcher", daemon=True)

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, patience: float) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join(patience)

    # In the thread; the connection is known to nothing but its frames, see `Writer`.

    def _run(self) -> None:
        db = self._connect()
        try:
            self._look_out(db)
        finally:
            db.close()

    def _look_out(self, db: sqlite3.Connection) -> None:
        view = _View(db, self._hints)
        visit = 0.0
        while not self._ended.is_set():
            listeners = self._hints.namespaces()
            try:
                if listeners:
                    view.look(listeners)
                if time.monotonic() >= visit:
                    self._visit()
                    visit = time.monotonic() + VISIT_SECONDS
            except (sqlite3.Error, OSError):
                _log.debug("a look at what other processes do failed", exc_info=True)
            self._ended.wait(LOOK_SECONDS if listeners else VISIT_SECONDS)

    def _visit(self) -> None:
        """Have the leases of those who died ended, and their signs removed."""
        for presence in self._presences():
            for owner in presence.dead():
                if (id(presence), owner) not in self._burying:
                    self._burying.add((id(presence), owner))
                    self._writer.calls.add(self._burial(presence, owner))

    def _burial(self, presence: Presence, owner: str) -> Call[Ledger, None]:
        def then(call: Call[Ledger, None]) -> None:
            if not call.error:
                presence.forget(owner)
            self._burying.discard((id(presence), owner))

        return Call(lambda ledger: ledger.bury(owner), then)


class _View:
    """What was seen of the file, and what changed since."""

    def __init__(self, db: sqlite3.Connection, hints: Hints) -> None:
        self._db, self._hints = db, hints
        self._version = self._data_version()
        self._sequence, self._alarms = self._counts()

    def look(self, namespaces: Iterable[int]) -> None:
        """Tell who listens of what other processes wrote since the last look."""
        version = self._data_version()
        if version == self._version:
            return
        self._version = version
        mail = Mail()
        self._db.execute("begin")
        try:
            sequence, alarms = self._counts()
            for namespace in namespaces:
                hints = [Hint(None)] if alarms != self._alarms else self._changed(namespace)
                self._hints.tell(((namespace, hint) for hint in hints), mail)
        finally:
            self._db.execute("rollback")
        self._hints.forget(sequence)
        self._sequence, self._alarms = sequence, alarms
        mail.send()

    def _changed(self, namespace: int) -> list[Hint]:
        values = (namespace, self._sequence, MAX_HINTS)
        rows = self._db.execute(_CHANGED, values).fetchall()
        if len(rows) == MAX_HINTS:
            return [ANY]
        return [
            Hint(key, revision, bool(closed))
            for updated, key, revision, closed in rows
            if not self._hints.is_own(updated)
        ]

    def _data_version(self) -> int:
        [version] = self._db.execute("pragma data_version").fetchone()
        return int(version)

    def _counts(self) -> tuple[int, int]:
        """Return how many writes and alarms there were, of alarms only those of others."""
        [sequence, alarms] = self._db.execute("select sequence, alarms from state").fetchone()
        return sequence, alarms - self._hints.own_alarms
