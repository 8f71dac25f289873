"""A child and its guard, as their worker sees them.

The one rule that must not be broken: neither outlives us. Each holds one end of a socket whose
other end only we have, and ends when that is closed, which the system does for us if we cannot.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from outlast.engine.isolation.wire import Message, Wire

if TYPE_CHECKING:
    from outlast.engine.clock import System, Timer

log: Final = logging.getLogger("outlast")

ANSWERS_WITHIN: Final = 1.0
"""Seconds after which a worker does itself what its guard should have done."""

_ENDS_WITHIN: Final = 5.0
"""Seconds that a guard has to kill what is left, and end."""

_HERE: Final = Path(__file__).parent

# The guard has two of our modules and nothing else: the package would cost it 40 MB, and a second.
_GUARD: Final = """
import sys, types
for name, path in zip(sys.argv[3::2], sys.argv[4::2]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from outlast.engine.isolation.guard import main
main(int(sys.argv[1]), sys.argv[2])
"""

_CHILD: Final = """
import sys
sys.path[:] = filter(None, sys.path)  # else a json.py in the working directory would come first
import json
told = json.loads(sys.argv[1])
worker = int(sys.argv[2])
sys.path[:], sys.argv[:] = told["path"], told["argv"]
from outlast.engine.isolation.child import main
main(worker)
"""


class Child:
    """A process for one run at a time.

    Attributes:
        number: by which the guard knows it.
        guard: its guard.
        wire: our end of the socket.
        pid: None until the guard has spawned it.
        hear: called with what it says.
        lost: called when it says nothing more, because it is dead.
        until: when the guard kills it; None while it may live for ever.
        resting: a timer for what happens to it while it has no run.
        is_silent: set when it says nothing more.
        gone: set when nothing is left of it and of all that it had started.
        why: it ended, as the system says.
    """

    number: int
    guard: Guard
    wire: Wire
    pid: int | None
    hear: Callable[[Message], None]
    lost: Callable[[], None]
    until: float | None
    resting: Timer | None
    is_silent: asyncio.Event
    gone: asyncio.Event
    why: str

    def __init__(self, number: int, guard: Guard) -> None:
        self.number, self.guard, self.pid = number, guard, None
        self.until, self.resting = None, None
        self.is_silent, self.gone, self.why = asyncio.Event(), asyncio.Event(), "it ended"
        self.wire = Wire(self._hear, self._lose)
        self.ignore()

    def ignore(self) -> None:
        """Let nobody hear what it says, until somebody sets `hear` and `lost`."""
        self.hear, self.lost = lambda _: None, lambda: None

    def _hear(self, message: Message) -> None:
        self.hear(message)

    def _lose(self) -> None:
        self.is_silent.set()
        self.lost()

    @property
    def is_alive(self) -> bool:
        """Whether it can be given a run."""
        return not self.is_silent.is_set() and not self.gone.is_set()

    def send(self, message: Message) -> None:
        """Tell it."""
        self.wire.send(message)


class Guard:
    """The guard's process, as its worker sees it.

    Attributes:
        children: those of which something is left, by their numbers.
        is_alive: whether it can be told anything.
        process: itself.
    """

    children: dict[int, Child]
    is_alive: bool
    process: subprocess.Popen[bytes]

    def __init__(self, system: System, sign: Path | None, ended: Callable[[Guard], None]) -> None:
        """Start it; it holds the lock of the file `sign`, too, and `ended` is called at its end."""
        self._system, self._ended = system, ended
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._heard = b""
        self.children, self.is_alive = {}, True
        self._socket, theirs = socket.socketpair()
        hold(self._socket)
        # Told from two threads, and never for long: a guard that does not read is as good as dead.
        self._socket.settimeout(ANSWERS_WITHIN)
        places = {"outlast": _HERE.parents[1], "outlast.engine": _HERE.parent, __package__: _HERE}
        words = [str(word) for place in places.items() for word in place]
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                [
                    *(sys.executable, "-I", "-S", "-c", _GUARD),
                    *(str(theirs.fileno()), str(sign or ""), *words),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # what a terminal sends is not for it
            )
        self._loop.add_reader(self._socket.fileno(), self._read)

    def tell(self, order: Message, *sockets: socket.socket) -> None:
        """Send an order, in any thread; that the guard has ended is heard by itself."""
        line, descriptors = json.dumps(order).encode() + b"\n", [one.fileno() for one in sockets]
        with self._lock:
            try:
                sent = socket.send_fds(self._socket, [line], descriptors) if sockets else 0
                self._socket.sendall(line[sent:])
            except OSError:
                # It does not read, or there is none. After half an order no other can follow.
                self._hang_up()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        try:
            data = self._socket.recv(65_536)
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            self.is_alive = False
            self._ended(self)
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, message: dict[str, Any]) -> None:
        if "spawned" in message:
            self.children[message["spawned"]].pid = message["pid"]
        elif child := self.children.pop(message["gone"], None):
            child.why = message["why"]
            child.gone.set()
            child.wire.close()

    async def close(self) -> None:
        """Have it kill what is left, and return when it has ended."""
        if self.is_alive:
            self._loop.remove_reader(self._socket.fileno())
        self.is_alive = False
        self._hang_up()
        self._socket.close()
        ended = self._system.steps.run(self.process.wait)
        try:
            await self._system.within(_ENDS_WITHIN, ended, "the guard does not end")
        except TimeoutError:
            log.error("the guard of isolated handlers does not end: it is killed")  # noqa: TRY400
            self.process.kill()
            await self._system.steps.run(self.process.wait)


def command_of_child() -> Sequence[str]:
    """Return what starts a child that imports what this process would."""
    # As `multiprocessing` does: warnings, optimization and the like are as in this process.
    flags: Sequence[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    told = {"path": [entry or str(Path.cwd()) for entry in sys.path], "argv": sys.argv}
    return [sys.executable, *flags, "-c", _CHILD, json.dumps(told)]


_ours: WeakSet[socket.socket] = WeakSet()


def hold(ours: socket.socket) -> None:
    """Take note of our end of a socket, which no copy of this process may keep open."""
    _ours.add(ours)


def _after_fork() -> None:
    """Let go of the worker's sockets in a process that it has forked.

    Else the worker would seem to live on in it.
    """
    for one in list(_ours):
        with suppress(OSError):
            one.close()


os.register_at_fork(after_in_child=_after_fork)
