"""Where a store's file may be, and whose it is.

The one rule that must not be broken: a file that is not ours is not touched. Before anything else
is done with it, it is opened so that SQLite neither writes to it nor makes files beside it.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from outlast.errors import UsageError
from outlast.stores.sqlite.schema import APPLICATION_ID

if TYPE_CHECKING:
    from collections.abc import Callable

_SHARED: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "virtiofs"}
)
"""Types of file systems that several machines may see; those that begin with `fuse` may be such."""


class Identity(NamedTuple):
    """What tells a file from every other, whatever its path."""

    device: int
    inode: int


def identity(path: Path) -> Identity:
    """Return that of the file at the path."""
    found = path.stat()
    return Identity(found.st_dev, found.st_ino)


def check_place(path: Path, type_of: Callable[[Path], str] | None = None) -> None:
    """Refuse a path at which there is no file of ours, and none can be.

    Args:
        path: of the file.
        type_of: says of which type the file system of a directory is; `file_system` does.

    Raises:
        UsageError: says why, and what to do.
    """
    directory = path.parent
    if not directory.is_dir():
        raise UsageError(
            f"there is no directory '{directory}' for the file '{path}': make it first"
        )
    kind = (type_of or file_system)(directory)
    if kind in _SHARED or kind.startswith("fuse"):
        raise UsageError(
            f"the file '{path}' is on a file system of type {kind!r}, where several machines would"
            " write and SQLite cannot tell: keep it on a local disk, or use a server's store"
        )
    if path.exists() and not path.is_file():
        raise UsageError(f"'{path}' is no file: name a file, such as '{path}/outlast.db'")
    if not _may(directory, os.W_OK | os.X_OK):
        raise UsageError(f"the directory '{directory}' of the file '{path}' is not writable")
    if not path.exists():
        return
    if not _may(path, os.R_OK | os.W_OK):
        raise UsageError(f"the file '{path}' is not readable and writable")
    if path.stat().st_size:
        _check_owner(path)
        return
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        # SQLite would take the file for a new one, and delete the log that it may be rescued from.
        raise UsageError(
            f"the file '{path}' is empty, and its log '{log}' is not: put back the file that"
            " belongs to it; to begin anew, delete both"
        )


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _check_owner(path: Path) -> None:
    """Refuse a file with content unless it is ours."""
    # `immutable`: no lock, no log, and nothing made beside it. The file may be in mid-checkpoint,
    # and then looks damaged but for its first page; with `writable_schema` SQLite passes that over.
    db = sqlite3.connect(uri(path, "immutable=1&mode=ro"), uri=True)
    try:
        db.execute("pragma writable_schema = on")
        [application] = db.execute("pragma application_id").fetchone()
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"the file '{path}' is no SQLite database, and is left as it is: name another file"
        ) from error
    finally:
        db.close()
    if application != APPLICATION_ID:
        raise UsageError(
            f"the file '{path}' is a SQLite database of another application, and is left as it is:"
            " name another file"
        )


def uri(path: Path, settings: str) -> str:
    """Return the path as SQLite takes it, whatever characters are in it."""
    return f"file:{quote(os.fsencode(path))}?{settings}"


def file_system(directory: Path) -> str:
    """Return the type of the file system that the directory is on; empty where nobody says."""
    if sys.platform == "darwin":
        run = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False)
        mounts = [_mac_mount(line) for line in run.stdout.splitlines()]
    else:
        try:
            table = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        except OSError:
            return ""
        mounts = [_linux_mount(line) for line in table.splitlines()]
    real = directory.resolve()
    # The longest mount point is the nearest; of the same ones, the last hides those before it.
    around = [mount for mount in reversed(mounts) if real.is_relative_to(mount[0])]
    return max(around, key=lambda mount: len(mount[0]), default=("", ""))[1]


def _linux_mount(line: str) -> tuple[str, str]:
    """Read `36 35 98:0 /root /mnt/point rw,noatime master:1 - ext3 /dev/root rw`."""
    before, _, after = line.partition(" - ")
    point = before.split(" ")[4]
    for code in ("040", "011", "012", "134"):  # a blank would break the line, and is written so
        point = point.replace(f"\\{code}", chr(int(code, 8)))
    return point, after.split(" ")[0]


def _mac_mount(line: str) -> tuple[str, str]:
    """Read `//user@server/share on /Volumes/share (smbfs, nodev, nosuid)`."""
    before, _, after = line.rpartition(" (")
    return before.partition(" on ")[2], after.partition(",")[0].rstrip(")")
