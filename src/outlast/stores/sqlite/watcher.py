"""The thread of a process that looks out for what others do: they write, they die, they break it.

The one rule that must not be broken: nothing is right only because of it. What it finds is found
late, or not at all, and then leases run out and polls come.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Final

from outlast.errors import OutlastError
from outlast.store import Hint
from outlast.stores.sqlite.calls import Call, Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from outlast.stores.sqlite.condition import Condition
    from outlast.stores.sqlite.hints import Hints
    from outlast.stores.sqlite.ledger import Ledger
    from outlast.stores.sqlite.presence import Presence
    from outlast.stores.sqlite.writer import Writer

LOOK_SECONDS: Final = 0.01
"""Seconds between two looks at what was written, while somebody listens."""

BUSY_SECONDS: Final = 0.004
"""The same after a look that found something: where there was a write there will be more."""

VISIT_SECONDS: Final = 0.05
"""Seconds between two looks at who has died."""

INSPECTION_SECONDS: Final = 0.3
"""Seconds between two looks at the file itself: what it takes two to see is seen within 1 s."""

MAX_HINTS: Final = 200
"""Journals of which one look tells; when more have changed, any may have."""

_CHANGED: Final = """
    with recursive kinds (kind) as (
      select min(kind) from heads where namespace = :namespace
      union all
      select (select min(kind) from heads where namespace = :namespace and kind > kinds.kind)
      from kinds where kind is not null
    )
    select updated, key, revision, closed
    from kinds cross join heads on heads.kind = kinds.kind
    where namespace = :namespace and updated > :after limit :most
"""

_log = logging.getLogger(__name__)


class Watcher:
    """The thread; it only reads, and leaves to the writer what must be written."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        condition: Condition,
        writer: Writer,
        hints: Hints,
        presences: Callable[[], Iterable[Presence]],
    ) -> None:
        self._connect, self._condition = connect, condition
        self._writer, self._hints, self._presences = writer, hints, presences
        self._complaint: str | None = None  # that was told last
        self._looking, self._ended = threading.Event(), threading.Event()
        self._burying: set[tuple[int, str]] = set()
        self._thread = threading.Thread(target=self._run, name="outlast-watcher", daemon=True)

    def open(self) -> None:
        """Start the thread, and wait until it has had its first look."""
        self._thread.start()
        self._looking.wait()

    def close(self, patience: float) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join(patience)

    # In the thread; the connection is known to nothing but its frames, see `Writer`.

    def _run(self) -> None:
        with ExitStack() as stack:
            view: _View | None = None
            visit = inspection = wait = 0.0
            while not self._ended.wait(wait):
                wait = VISIT_SECONDS
                try:
                    if time.monotonic() >= inspection:
                        inspection = time.monotonic() + INSPECTION_SECONDS
                        self._inspect()
                    if view is None:
                        db = stack.enter_context(closing(self._connect()))
                        view = _View(db, self._hints)
                    self._looking.set()
                    listeners = self._hints.namespaces()
                    found = view.look(listeners)
                    if listeners:
                        wait = BUSY_SECONDS if found else LOOK_SECONDS
                    if time.monotonic() >= visit:
                        self._visit()
                        visit = time.monotonic() + VISIT_SECONDS
                except (sqlite3.Error, OSError, OutlastError):
                    _log.debug("a look at what other processes do failed", exc_info=True)
                    self._looking.set()

    def _inspect(self) -> None:
        """Have everybody look who waits for something, once something is wrong with the file."""
        complaint = self._condition.look()
        if complaint is not None and complaint != self._complaint:
            _log.error("%s", complaint)
            mail = Mail()
            self._hints.tell(((space, Hint(None)) for space in self._hints.namespaces()), mail)
            mail.send()
        self._complaint = complaint

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
                with suppress(OSError):  # another process removes what is left
                    presence.forget(owner)
            self._burying.discard((id(presence), owner))

        return Call(lambda ledger: ledger.bury(owner), then)


class _View:
    """What was seen of the file, and what changed since."""

    def __init__(self, db: sqlite3.Connection, hints: Hints) -> None:
        self._db, self._hints = db, hints
        self._version = self._data_version()
        self._sequence, alarms = self._counts()
        self._alarms = alarms - hints.own_alarms

    def look(self, namespaces: Iterable[int]) -> bool:
        """Tell who listens of what other processes wrote; return whether they did."""
        version = self._data_version()
        if version == self._version:
            return False
        self._version = version
        self._db.execute("begin")
        try:
            sequence, alarms = self._counts()
            with self._hints.writing:  # whose they are is known once it is free
                alarms -= self._hints.own_alarms
                own = self._hints.are_own(self._sequence, sequence)
            if own and alarms <= self._alarms:
                self._hints.forget(sequence)
                self._sequence = sequence
                return False
            self._tell({namespace: self._changed(namespace) for namespace in namespaces}, alarms)
        finally:
            self._db.execute("rollback")
        self._hints.forget(sequence)
        self._sequence, self._alarms = sequence, max(alarms, self._alarms)
        return True

    def _tell(self, changed: Mapping[int, Sequence[tuple[int, Hint]]], alarms: int) -> None:
        mail = Mail()
        for namespace, hints in changed.items():
            told = [hint for updated, hint in hints if not self._hints.is_own(updated)]
            if alarms > self._alarms or len(hints) == MAX_HINTS:
                told = [Hint(None)]
            self._hints.tell(((namespace, hint) for hint in told), mail)
        mail.send()

    def _changed(self, namespace: int) -> list[tuple[int, Hint]]:
        """Return what to tell of the journals that changed, with the count of their last write."""
        values = {"namespace": namespace, "after": self._sequence, "most": MAX_HINTS}
        rows = self._db.execute(_CHANGED, values)
        return [(updated, Hint(key, rev, bool(closed))) for updated, key, rev, closed in rows]

    def _data_version(self) -> int:
        [version] = self._db.execute("pragma data_version").fetchone()
        return int(version)

    def _counts(self) -> tuple[int, int]:
        """Return how many writes and alarms there were."""
        [counts] = self._db.execute("select sequence, alarms from state").fetchall()
        sequence, alarms = counts
        return sequence, alarms
