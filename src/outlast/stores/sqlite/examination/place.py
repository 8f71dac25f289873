"""Checks of where a file is, and of what is beside it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from outlast.errors import UsageError
from outlast.stores.sqlite.examination.findings import Finding
from outlast.stores.sqlite.place import check_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LARGE_LOG: Final = 64 * 1024 * 1024
"""Bytes of a log beyond which somebody keeps it from being moved into the file."""

LITTLE_ROOM: Final = 256 * 1024 * 1024
"""Bytes that are free on the disk, below which that is said."""


def look_around(path: Path, room: Callable[[Path], int]) -> Iterator[Finding]:
    """Look at where the file is, and at what is beside it; `room` says how much is free there."""
    if not path.exists():
        yield Finding(
            "file", "error", f"there is no file '{path}'", "look for it, or restore a backup"
        )
        return
    try:
        check_place(path)
    except UsageError as error:
        what, _, remedy = str(error).rpartition(": ")
        yield Finding("file", "error", what or remedy, remedy)
    else:
        yield Finding("file", "ok", f"'{path}' is a file of ours", values=_size(path))
    log = path.with_name(f"{path.name}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > LARGE_LOG:
        yield Finding(
            "log",
            "warning",
            f"the log has {size:,} bytes: somebody reads for so long that it cannot be moved into"
            " the file",
            "end the program that reads, such as a backup or an open shell; if none uses the file,"
            " open it once with outlast",
            {"bytes": size},
        )
    else:
        yield Finding("log", "ok", f"the log has {size:,} bytes", values={"bytes": size})
    free = room(path.parent)
    if free < LITTLE_ROOM:
        yield Finding(
            "disk",
            "error" if free < LITTLE_ROOM / 16 else "warning",
            f"{free:,} bytes are free on the disk",
            "make room: without any, nothing is accepted",
            {"bytes": free},
        )
    else:
        yield Finding("disk", "ok", f"{free:,} bytes are free", values={"bytes": free})


def _size(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sqlite": sqlite3.sqlite_version}
