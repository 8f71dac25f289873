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
        self._graves: dict[Path, tuple[str, int]] = {}
        directory.mkdir(exist_ok=True)

    def hold(self, owner: str) -> None:
        """Lock a new file, write the owner's name into it, and only then let others see it."""
        path = self.path(owner)
        with _held.lock:
            if path in _held.files:
                return
            self._directory.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
            draft = path.with_suffix(f".{os.getpid()}")
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                os.write(descriptor, owner.encode())
                draft.rename(path)
            except BaseException:
                os.close(descriptor)
                raise
            _held.files[path] = descriptor

    def release(self, owner: str, *, remains: bool) -> None:
        """Remove the file, then let go of it, unless something of the owner remains."""
        path = self.path(owner)
        with _held.lock:
            if remains or path not in _held.files:
                return
            path.unlink(missing_ok=True)
            os.close(_held.files.pop(path))

    def dead(self) -> list[str]:
        """Try the lock of each owner that lives in another process."""
        for path in self._directory.glob(f"*{_SUFFIX}"):
            with _held.lock:
                if path not in _held.files and path not in self._graves:
                    self._try(path)
        return [owner for owner, _ in self._graves.values()]

    def _try(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # another process has removed it
            return
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it lives, or another process has just found it dead
            os.close(descriptor)
            return
        size = os.fstat(descriptor).st_size
        owner = os.pread(descriptor, size, 0).decode(errors="replace")
        if path == self.path(owner):
            self._graves[path] = owner, descriptor
        else:  # it was never written whole, so that there is no lease either
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def forget(self, owner: str) -> None:
        """Remove the dead owner's file, and let go of it."""
        path = self.path(owner)
        path.unlink(missing_ok=True)
        os.close(self._graves.pop(path)[1])

    def close(self) -> None:
        """Let go of the files of dead owners that were not forgotten: others find them."""
        while self._graves:
            _, (_, descriptor) = self._graves.popitem()
            os.close(descriptor)

    def path(self, owner: str) -> Path:
        """Return where the sign of the owner is, or would be."""
        digest = hashlib.sha256(owner.encode()).hexdigest()
        return self._directory / (digest[:32] + _SUFFIX)


def owner_held_here(path: Path) -> str | None:
    """Return whose sign it is if this process holds it, and must not open it again."""
    with _held.lock:
        descriptor = _held.files.get(path)
        if descriptor is None:
            return None
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()


_SUFFIX: Final = ".owner"


class _Held:
    """The files that this process holds, for whichever store: a lock belongs to the process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files: dict[Path, int] = {}


_held = _Held()


def _after_fork() -> None:
    """Hold nothing in the child: the locks are its parent's."""
    global _held  # noqa: PLW0603 - another thread of the parent may have had the lock
    _held = _Held()


os.register_at_fork(after_in_child=_after_fork)
