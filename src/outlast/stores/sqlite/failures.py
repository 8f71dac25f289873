"""What the driver raises, in the words of the store: what happened, and what to do.

The one rule that must not be broken: an error that says that the file is damaged is final, and no
error is that goes by itself, or by what somebody does beside the file.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from outlast.errors import OutlastError, Unavailable, UsageError

_PRIMARY: Final = 0xFF  # the lower byte of an extended error code
_DAMAGES: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CONTRADICTIONS: Final = {
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_ROWID,
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
}
"""What was looked for and not found, and is there all the same."""

_REMEDIES: Final = {
    sqlite3.SQLITE_BUSY: "another program has locked it: end its transaction",
    sqlite3.SQLITE_CANTOPEN: (
        "it could not be opened: this process needs the right to it and its directory, and may"
        " have too many files open"
    ),
    sqlite3.SQLITE_FULL: "its disk is full: make room, and what waits goes on",
    sqlite3.SQLITE_IOERR: "its disk failed, is full, or is gone: see the system's log",
    sqlite3.SQLITE_READONLY: "this process needs the right to write it and its directory",
}


def damaged(path: str, what: object) -> Unavailable:
    """Return what says that the file at this path is not what was written."""
    return Unavailable(
        f"the file {path!r} is damaged: {what}; nothing is written to it any more: end all that"
        " use it, and restore a backup (`outlast doctor` says what is wrong)",
        is_final=True,
    )


def in_our_words(error: Exception, path: str) -> Exception:
    """Return what a caller is told; what is neither the driver's nor ours stays as it is: a bug."""
    match error:
        case sqlite3.Error():
            told: OutlastError = _of_driver(error, path)
        case UnicodeEncodeError():
            wrong = error.object[error.start : error.end]
            told = UsageError(f"{wrong!r} cannot be written as text: {error.reason}")
        case json.JSONDecodeError():
            told = damaged(path, f"text that is no JSON: {error}")
        case OverflowError():
            told = UsageError(f"a number is larger than SQLite takes: {error}")
        case MemoryError():
            told = Unavailable(f"the file {path!r} was not written or read: no memory is left")
        case OSError():
            told = Unavailable(f"the file {path!r}, or what is beside it, cannot be used: {error}")
        case _:
            return error
    told.__cause__ = error
    return told


def _of_driver(error: sqlite3.Error, path: str) -> OutlastError:
    code = getattr(error, "sqlite_errorcode", None)  # None: Python's own
    if code is not None and (code & _PRIMARY in _DAMAGES or code in _CONTRADICTIONS):
        return damaged(path, error)
    if code == sqlite3.SQLITE_ERROR and str(error).startswith("no such table"):
        return damaged(path, error)
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return damaged(path, "its log was cut")
    if code is None and "decode" in str(error):
        return damaged(path, f"text that is no UTF-8: {error}")
    if isinstance(
        error,
        sqlite3.DataError
        | sqlite3.IntegrityError
        | sqlite3.InterfaceError
        | sqlite3.ProgrammingError,
    ):
        return UsageError(f"a value cannot be written or looked for: {error}")
    remedy = _REMEDIES.get((code or 0) & _PRIMARY)
    return Unavailable(
        f"the file {path!r} was not written or read: {error}{f'; {remedy}' if remedy else ''}"
    )
