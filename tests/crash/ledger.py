"""An account that no store keeps: whoever does something writes one line, in one system call."""

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """What happened: to which run, under which name, in which process, at which wall time."""

    what: str
    run: str
    name: str
    pid: int
    at: float


class Ledger:
    """A file that processes share, and only append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[Line] = []
        self._size = 0

    def write(self, what: str, run: str = "", name: str = "") -> None:
        line = json.dumps(asdict(Line(what, run, name, os.getpid(), time.time())))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def lines(self, what: str = "", run: str = "", name: str = "") -> list[Line]:
        """Return the lines in their order; of what is named, only those that match it."""
        self._read_on()
        return [
            line
            for line in self._lines
            if what in ("", line.what) and run in ("", line.run) and name in ("", line.name)
        ]

    def _read_on(self) -> None:
        """Read what was appended since: it is never changed."""
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._size)
            added = file.read()
            added = added[: added.rfind(b"\n") + 1]
            self._size += len(added)
            self._lines += [Line(**json.loads(line)) for line in added.splitlines()]
