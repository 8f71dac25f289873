"""Signs of life: how a process learns at once that another one has died.

A process that takes leases as some owner holds a lock for it. The operating system lets go of the
lock when the process ends, however it ends; who gets it then knows that the owner is dead. Names of
owners are drawn anew for each life, so a dead one is dead for ever. The one rule that must not be
broken: the lock is held before the owner's first lease is written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from pathlib import Path
from typing import Final, Protocol


class Presence(Protocol):
    """Whether owners live; called from several threads, by one at a time for each owner."""

    def hold(self, owner: str) -> None:
        """Have a sign from now on that the owner lives; it ends with this process."""
        ...

    def release(self, owner: str, *, remains: bool) -> None:
        """Take the sign back; where something of it remains, leave it until this process ends."""
        ...

    def dead(self) -> list[str]:
        """Return the owners that have died and are not forgotten yet."""
        ...

    def forget(self, owner: str) -> None:
        """Remove the sign of a dead owner: its leases are ended."""
        ...


class LockFiles:
    """A directory with a file for each owner, locked by the process in which it lives.

    The locks are POSIX record locks: a forked child does not inherit them, so that an owner does
    not live on in the children of its process. They are shared, so that a process that looks after
    the owner's children may hold one as well; the owner is dead when nobody does. A process loses
    its lock when it closes *any* descriptor of the file, so that it never opens one that it holds.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._graves: dict[str, tuple[Path, int]] = {}
        directory.mkdir(exist_ok=True)

    def hold(self, owner: str) -> None:
        """Lock a new file, write the owner's name into it, and only then let others see it."""
        path = self._path(owner)
        with _holding:
            if path in _held:
                return
            draft = path.with_suffix(f".{os.getpid()}")
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                os.write(descriptor, owner.encode())
                draft.rename(path)
            except BaseException:
                os.close(descriptor)
                raise
            _held[path] = descriptor

    def release(self, owner: str, *, remains: bool) -> None:
        """Remove the file, then let go of it, unless something of the owner remains."""
        path = self._path(owner)
        with _holding:
            if remains or path not in _held:
                return
            path.unlink(missing_ok=True)
            os.close(_held.pop(path))

    def dead(self) -> list[str]:
        """Try the lock of each owner that lives in another process."""
        with os.scandir(self._directory) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(_SUFFIX)]
        for path in map(self._directory.__truediv__, names):
            with _holding:
                if path not in _held and all(path != grave for grave, _ in self._graves.values()):
                    self._try(path)
        return list(self._graves)

    def _try(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # somebody else has removed it
            return
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it lives, or somebody else has just found it dead
            os.close(descriptor)
            return
        owner = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()
        self._graves[owner] = path, descriptor

    def forget(self, owner: str) -> None:
        """Remove the dead owner's file, and let go of it."""
        path, descriptor = self._graves.pop(owner)
        path.unlink(missing_ok=True)
        os.close(descriptor)

    def close(self) -> None:
        """Let go of the files of dead owners that were not forgotten: others find them."""
        while self._graves:
            _, (_, descriptor) = self._graves.popitem()
            os.close(descriptor)

    def _path(self, owner: str) -> Path:
        digest = hashlib.sha256(owner.encode()).hexdigest()
        return self._directory / (digest[:32] + _SUFFIX)


_SUFFIX: Final = ".owner"

_held: Final[dict[Path, int]] = {}
"""The files that this process holds, for whichever store: a lock belongs to the process."""

_holding: Final = threading.Lock()
