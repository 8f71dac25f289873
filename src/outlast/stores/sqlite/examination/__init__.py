"""What is wrong with a file, and what to do: an examination that changes nothing.

It works while others use the file, and on what is left of a broken one. The one rule that must not
be broken: each check stands for itself, so that one which cannot be made hides no other.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from outlast.stores.sqlite.examination.content import (
    Meaning,
    check_format,
    check_integrity,
    check_journals,
)
from outlast.stores.sqlite.examination.findings import Finding, Severity
from outlast.stores.sqlite.examination.place import look_around
from outlast.stores.sqlite.examination.use import (
    check_clock,
    check_leases,
    check_overdue,
    check_writing,
)
from outlast.stores.sqlite.place import uri
from outlast.stores.sqlite.schema import APPLICATION_ID, FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from outlast.store import Clock

__all__ = ["Finding", "Meaning", "Severity", "examine"]

SECONDS: Final = 10.0
"""How long one check may take, unless all is to be looked through."""


def examine(
    path: Path,
    clock: Clock,
    meaning: Meaning,
    *,
    is_full: bool = False,
    room: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
) -> list[Finding]:
    """Look at a file and at who uses it, and say what is wrong and what is right.

    Args:
        path: of the file.
        clock: by which leases end and journals are due.
        meaning: of the entries.
        is_full: read everything, however long it takes.
        room: says how many bytes are free beside a file.
    """
    try:
        findings = [*look_around(path, room)]
        if not path.is_file():
            return findings
    except (OSError, ValueError) as error:
        what = f"the file '{path}' cannot be reached: {error}"
        return [Finding("file", "error", what, "give this user the right to its directory")]
    try:
        with _reading(path) as db:
            findings += _look_inside(db, path, clock, meaning, is_full=is_full)
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in {
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        }
        remedy = "make it, its log and its directory readable for this user"
        if damaged:
            remedy = "restore a backup"
        findings.append(Finding("read", "error", f"the file cannot be read: {error}", remedy))
    return findings


@contextmanager
def _reading(path: Path) -> Generator[sqlite3.Connection]:
    """Give a connection that only reads, and leaves no file behind where there is no log."""
    log = path.with_name(f"{path.name}-wal")
    settings = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    with closing(
        sqlite3.connect(uri(path, settings), uri=True, isolation_level=None, timeout=1.0)
    ) as db:
        db.execute("pragma query_only = on")
        db.execute("pragma writable_schema = on")  # what is left of a cut file is read, too
        db.execute("select * from sqlite_master limit 1").fetchall()
        yield db


def _look_inside(
    db: sqlite3.Connection, path: Path, clock: Clock, meaning: Meaning, *, is_full: bool
) -> Iterator[Finding]:
    [application] = db.execute("pragma application_id").fetchone()
    [version] = db.execute("pragma user_version").fetchone()
    if application != APPLICATION_ID:
        return  # nothing of ours, as was said already
    yield check_format(version)
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "integrity": partial(check_integrity, db, is_full=is_full),
    }
    if version == FORMAT:
        checks |= {
            "journals": partial(check_journals, db, meaning),
            "clock": partial(check_clock, db, clock),
            "writing": partial(check_writing, path),
            "leases": partial(check_leases, db, path, clock),
            "overdue": partial(check_overdue, db, clock),
        }
    for name, make in checks.items():
        yield from _made(db, name, make, None if is_full else SECONDS)


def _made(
    db: sqlite3.Connection,
    name: str,
    make: Callable[[], Iterator[Finding]],
    seconds: float | None,
) -> list[Finding]:
    """Make a check, and say if it could not be made, or not in time."""
    if seconds is not None:
        end = time.monotonic() + seconds
        db.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        return list(make())
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            what = f"not everything was looked at within {seconds} s"
            return [Finding(name, "warning", what, "take the time: `outlast doctor --full`")]
        what = f"it cannot be looked at: {error}"
        return [Finding(name, "error", what, "restore a backup")]
    finally:
        db.set_progress_handler(None, 0)
