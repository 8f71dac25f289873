"""The turnstile: two locks that let processes write in turn.

SQLite's own lock is won by whoever happens to try when it is free, which starves others for
seconds. Here a process takes `next`, then `write`, and leaves `next`: the one that has written must
wait behind the one that holds `next`. Whether a write is right never depends on it, only how long
it waits.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_PID_WIDTH: Final = 20
_CLOSED: Final = -1


class Turnstile:
    """A context manager for the thread that writes: inside, no other process of the file writes."""

    def __init__(self, directory: Path) -> None:
        self._next = _opened(directory / "next")
        self._write = _opened(directory / "write")
        self._me = f"{os.getpid():<{_PID_WIDTH}}".encode()

    def __enter__(self) -> Self:
        fcntl.flock(self._next, fcntl.LOCK_EX)
        fcntl.flock(self._write, fcntl.LOCK_EX)
        fcntl.flock(self._next, fcntl.LOCK_UN)
        if os.pread(self._write, _PID_WIDTH, 0) != self._me:
            os.pwrite(self._write, self._me, 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fcntl.flock(self._write, fcntl.LOCK_UN)

    def holder(self) -> int | None:
        """Return the process that is or was inside last, for messages."""
        if self._write == _CLOSED:
            return None
        text = os.pread(self._write, _PID_WIDTH, 0).strip()
        return int(text) if text.isdigit() else None

    def close(self) -> None:
        """Let go of both files; a forked child does, too, so that a lock ends with its holder."""
        descriptors = self._next, self._write
        self._next = self._write = _CLOSED
        for descriptor in descriptors:
            os.close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
