"""What really ran: a file beside the journal, which the steps themselves write to.

The journal says what was recorded, the ledger what was done; each is a witness against the other.
The one rule that must not be broken: a line is one write to the end of the file, so that processes
that die at any moment leave whole lines, in the order in which things happened.
"""

import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, Self

from outlast.cli.demo.sources import located

Mark = Literal["began", "ended"]


@dataclass(frozen=True, slots=True)
class Line:
    """A step's work began or ended.

    Attributes:
        number: which one of the steps of this name, as in the journal.
        recovery: how many processes of this run had died before, as far as the agent was told.
        at: seconds on the machine's monotonic clock, which all its processes share.
    """

    mark: Mark
    step: str
    number: int
    file: str
    pid: int
    recovery: int
    at: float


class Ledger:
    """The ledger's file, to be read from where one stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[Line]:
        """Return the lines written since the last call; one that is not whole yet comes later."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [Line(**json.loads(line)) for line in whole.splitlines()]


@dataclass(frozen=True, slots=True)
class Witness:
    """Writes down when the step that it is handed to begins and ends its work.

    A context manager; a step that raises, or dies, does not end.
    """

    ledger: str
    step: str
    number: int
    file: str
    recovery: int

    def __enter__(self) -> Self:
        self._write("began")
        hold.wait_at(self.step, self.number)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write("ended")

    def _write(self, mark: Mark) -> None:
        line = Line(
            mark, self.step, self.number, self.file, os.getpid(), self.recovery, time.monotonic()
        )
        text = json.dumps(asdict(line), separators=(",", ":")) + "\n"
        handle = os.open(located(self.ledger), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)


class Hold:
    """Where this process waits for its end.

    A process that is to be killed must not outrun its death, however fast it is or however little
    there is to do: it stops at the step where the next one is to die.
    """

    def __init__(self) -> None:
        self._at: tuple[str, int] | None = None

    def set(self, step: str, number: int) -> None:
        """Begin no more than this step."""
        self._at = (step, number)

    def wait_at(self, step: str, number: int) -> None:
        """Wait for ever if this is the step."""
        if (step, number) == self._at:
            threading.Event().wait()


hold: Final = Hold()
