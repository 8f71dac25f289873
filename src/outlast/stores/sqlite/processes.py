"""Which processes use a file, asked from outside: nothing is taken, and nothing is changed.

The one rule that must not be broken: no descriptor is opened, and closed, of a file on which this
process may hold a POSIX lock: it would lose it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from outlast.stores.sqlite.presence import owner_held_here

_FLOCK: Final = "qqihh" if sys.platform == "darwin" else "hhqqi"
"""C's `struct flock`: on macOS start, length, process, type, whence; else these two come first."""

_WRITE_LOCK: Final = 120
"""The byte of SQLite's index of the log that who writes has locked."""


def owners(directory: Path) -> dict[str, int | None]:
    """Return the process that each owner lives in, by its sign of life; None: it is dead."""
    found: dict[str, int | None] = {}
    for path in sorted(directory.glob("*.owner")):
        with suppress(OSError):  # it has just been removed
            if (own := owner_held_here(path)) is not None:
                found[own] = os.getpid()
                continue
            with path.open("rb") as sign:
                owner = sign.read().decode(errors="replace")
                found[owner] = _holder(sign.fileno())
    return found


def _holder(descriptor: int) -> int | None:
    """Return a process that holds a POSIX lock of the file."""
    values = {"start": 0, "length": 0, "process": 0, "type": fcntl.F_WRLCK, "whence": os.SEEK_SET}
    order = ("start", "length", "process", "type", "whence")
    if sys.platform != "darwin":
        order = ("type", "whence", "start", "length", "process")
    asked = struct.pack(_FLOCK, *(values[name] for name in order))
    answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    told = dict(zip(order, struct.unpack(_FLOCK, answer), strict=True))
    return None if told["type"] == fcntl.F_UNLCK else told["process"]


def writer_in_turn(directory: Path) -> int | None:
    """Return the process that writes now, if it is one of ours; see `Turnstile`."""
    try:
        descriptor = os.open(directory / "write", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.read(descriptor, 20).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None


def writer_of(path: Path) -> int | None:
    """Return the process, of whatever program, that has locked the file for writing.

    Only Linux tells.
    """
    index = path.with_name(f"{path.name}-shm")
    try:
        inode = str(index.stat().st_ino)
        table = Path("/proc/locks").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in table.splitlines():  # 1: POSIX  ADVISORY  WRITE 3548 08:02:1733 120 120
        words = line.split()
        if words[1] != "POSIX" or words[3] != "WRITE" or words[5].rpartition(":")[2] != inode:
            continue
        if int(words[6]) <= _WRITE_LOCK and words[7] in {"EOF", str(_WRITE_LOCK)}:
            return int(words[4])
    return None


def is_stopped(process: int) -> bool:
    """Say whether the process stands still, and has not ended."""
    if sys.platform == "darwin":
        run = subprocess.run(  # noqa: S603 - a program of the system's own, and a number
            ["/bin/ps", "-o", "state=", "-p", str(process)],
            capture_output=True,
            text=True,
            check=False,
        )
        return run.stdout.startswith("T")
    try:
        said = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return said.rpartition(") ")[2][:1] in {"T", "t"}
