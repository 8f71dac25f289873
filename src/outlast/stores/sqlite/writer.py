"""The one thread of a process that writes to a file: what waits together is written together.

The one rule that must not be broken: nobody is told that something is written before it is durable.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from outlast.errors import OutlastError, Unavailable
from outlast.stores.sqlite.calls import Call, Counter, Mail
from outlast.stores.sqlite.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from outlast.stores.sqlite.condition import Condition
    from outlast.stores.sqlite.hints import Hints
    from outlast.stores.sqlite.turnstile import Turnstile

MAX_BATCH: Final = 500
"""Calls that are written in one transaction."""

BATCH_SECONDS: Final = 0.005
"""How long a transaction takes further calls: other processes wait meanwhile."""


class Writer:
    """The thread, and where calls wait for it."""

    def __init__(
        self,
        path: str,
        connect: Callable[[], sqlite3.Connection],
        condition: Condition,
        turnstile: Turnstile,
        hints: Hints,
    ) -> None:
        """Prepare the thread.

        Args:
            path: of the file, for messages.
            connect: opens the file, and prepares it if it is new or of an older format.
            condition: whether the file is still what it was.
            turnstile: lets processes write in turn.
            hints: tells who listens of what is written.
        """
        self.calls: Counter[Ledger] = Counter()
        self._path, self._connect, self._condition = path, connect, condition
        self._turnstile, self._hints = turnstile, hints
        self.strict = False
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="outlast-writer", daemon=True)

    def open(self, patience: float) -> None:
        """Start the thread, and wait until the file is open.

        Raises:
            Unavailable: it was not open within `patience` seconds.
        """
        self._thread.start()
        try:
            self._opened.result(patience)
        except TimeoutError:
            self.calls.close()
            raise Unavailable(self.complaint(patience)) from None

    def close(self, patience: float) -> None:
        """Have the calls written that wait, and end the thread.

        One that waits for a frozen process cannot be ended: it ends when its turn has come.
        """
        self.calls.close()
        self._thread.join(patience)

    def complaint(self, patience: float) -> str:
        """Say who keeps others from writing, so that somebody can do something about it."""
        holder = self._turnstile.holder()
        who = "this process" if holder == os.getpid() else f"process {holder}"
        return (
            f"the file {self._path!r} was not written within {patience} s: {who} is writing to it;"
            " end that process if it hangs"
        )

    # In the thread. The connection is known to nothing but its frames: a forked child, which has no
    # such thread, can neither use nor close it.

    def _run(self) -> None:
        try:
            with self._turnstile:
                db = self._connect()
        except Exception as error:  # noqa: BLE001 - it is raised where the file is opened
            self._turnstile.close()
            self._opened.set_exception(self._condition.note(error))
            return
        self._opened.set_result(None)
        try:
            self._serve(db)
        finally:
            db.close()
            self._turnstile.close()

    def _serve(self, db: sqlite3.Connection) -> None:
        ledger = Ledger(db)
        strict = False
        empty: Call[Ledger, None] | None = None
        while (first := self.calls.next()) is not None:
            if self.strict and not strict:
                db.execute("pragma synchronous = full")
                strict = True
            calls = self._write_in_turn(ledger, first)
            mail = Mail()
            for call in calls:
                call.deliver(mail)
            self._hints.tell(ledger.hints, mail)
            mail.send()
            # Each transaction removes some of what was deleted; an empty one goes on with it.
            if empty in calls:
                empty = None
            if ledger.remains and empty is None:
                empty = Call(_do_nothing)
                self.calls.add(empty)

    def _write_in_turn(
        self, ledger: Ledger, first: Call[Ledger, Any]
    ) -> Sequence[Call[Ledger, Any]]:
        """Write the first call and those that wait with it, and return them with their answers."""
        # None is begun before it is our turn: until then its caller may withdraw it.
        batch = self._batch(first)
        calls: Sequence[Call[Ledger, Any]] = ()
        try:
            self._condition.check_complaint()
            with self._turnstile:
                calls = self._write(ledger, batch)
            self._condition.check_writable()  # before anything is acknowledged
        except (OSError, Unavailable) as error:  # no turnstile, or not our file any more
            ledger.hints.clear()
            calls = [*calls, *batch]
            for call in calls:
                call.fail(self._condition.note(error))
        return calls

    def _batch(self, first: Call[Ledger, Any]) -> Iterator[Call[Ledger, Any]]:
        """Begin the first call, then those that wait, while they are not too many."""
        end = time.monotonic() + BATCH_SECONDS
        call: Call[Ledger, Any] | None = first
        for _ in range(MAX_BATCH):
            if call is None:
                return
            if call.begin():
                yield call
            if time.monotonic() > end:
                return
            call = self.calls.more()

    def _write(
        self, ledger: Ledger, calls: Iterator[Call[Ledger, Any]]
    ) -> Sequence[Call[Ledger, Any]]:
        """Write the calls in one transaction.

        One that cannot be written takes nobody with it: the others are written without it. Where
        the transaction fails as a whole, so do all of its calls, and nothing is left of any.
        """
        spoiled: list[Call[Ledger, Any]] = []
        ledger.asks_first = False
        while True:
            begun: list[Call[Ledger, Any]] = []
            try:
                self._transact(ledger, calls, begun)
            except Exception as error:  # noqa: BLE001 - it is the answer
                with suppress(sqlite3.Error):  # the next transaction tries it again
                    ledger.rollback()
                if isinstance(error, sqlite3.IntegrityError) and not ledger.asks_first:
                    ledger.asks_first = True  # one of them was written before
                    calls = chain(begun, calls)
                    continue
                if begun and _is_of_one_call(error):
                    begun[-1].fail(self._condition.note(error))
                    spoiled.append(begun.pop())
                    calls = chain(begun, calls)
                    continue
                begun += calls
                for call in begun:
                    call.fail(self._condition.note(error))
            return spoiled + begun

    def _transact(
        self,
        ledger: Ledger,
        calls: Iterator[Call[Ledger, Any]],
        begun: list[Call[Ledger, Any]],
    ) -> None:
        ledger.begin()
        sequence, alarms = ledger.sequence, ledger.alarms
        for call in calls:
            begun.append(call)
            call.run(ledger)
        with self._hints.writing:
            ledger.commit()
            self._hints.wrote(sequence, ledger.sequence, ledger.alarms - alarms)


def _do_nothing(_: Ledger) -> None:
    pass


def _is_of_one_call(error: Exception) -> bool:
    """Say whether what was raised comes from what a call wants to write, not from the file."""
    of_file = sqlite3.OperationalError | sqlite3.InternalError | OSError | OutlastError
    return not isinstance(error, of_file) and type(error) is not sqlite3.DatabaseError
