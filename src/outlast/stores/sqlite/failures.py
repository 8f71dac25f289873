"""What the driver raises, in the words of the store."""

from __future__ import annotations

import sqlite3
from typing import Final

from outlast.errors import Corrupt, OutlastError, Unavailable, UsageError

_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY: Final = 0xFF  # the lower byte of an extended error code


def in_our_words(error: Exception, path: str) -> Exception:
    """Return what a caller is told; what is neither the driver's nor ours stays as it is: a bug."""
    match error:
        case sqlite3.Error():
            told: OutlastError = _of_driver(error, path)
        case UnicodeEncodeError():
            wrong = error.object[error.start : error.end]
            told = UsageError(f"{wrong!r} cannot be written as text: {error.reason}")
        case OverflowError():
            told = UsageError(f"a number is larger than SQLite takes: {error}")
        case OSError():
            told = Unavailable(f"the files beside {path!r} cannot be used: {error}")
        case _:
            return error
    told.__cause__ = error
    return told


def _of_driver(error: sqlite3.Error, path: str) -> OutlastError:
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    if code in _DAMAGED:
        return Corrupt(f"the file {path!r} is damaged: {error}; restore it from a backup")
    if isinstance(error, sqlite3.IntegrityError):
        return Corrupt(f"the tables of the file {path!r} contradict each other: {error}")
    if isinstance(error, sqlite3.DataError | sqlite3.InterfaceError | sqlite3.ProgrammingError):
        return UsageError(f"a value cannot be written or looked for: {error}")
    return Unavailable(f"the file {path!r} was not written or read: {error}")
