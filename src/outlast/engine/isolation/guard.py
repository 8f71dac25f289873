"""The guard: one small process for each worker, the parent of all its children.

It spawns them, so that there is no moment at which nobody would kill them, and runs no code of the
user's. The one rule that must not be broken: it lets the worker's lock file go last, by ending.
Whoever gets the lock may conclude that nothing is left of what the worker had started.

    worker -> guard   {"spawn": 7, "command": [...], "cwd": "..."} and a socket
                      {"kill": 7}   {"until": 7, "at": 81.5}   {"until": 7, "at": null}
    guard -> worker   {"spawned": 7, "pid": 4711}   {"gone": 7, "why": "..."}

The worker starts it with nothing of the package but this module and `processes`.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections import deque
from contextlib import suppress
from typing import Any

from outlast.engine.isolation.processes import (
    adopt_orphans,
    children_of,
    kill_tree,
    leave_signals_to_the_worker,
    let_pass,
)


class Guard:
    """What the worker has started here."""

    def __init__(self, worker: socket.socket) -> None:
        self._worker = worker
        self._children: dict[int, int] = {}  # the worker's number for it, and its pid
        self._until: dict[int, float] = {}  # when the lease of a child's run ends
        self._wake, waker = socket.socketpair()
        self._wake.settimeout(0)
        waker.settimeout(0)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, let_pass)

    def serve(self) -> None:
        """Do what the worker says until it is gone."""
        heard = b""
        descriptors: deque[int] = deque()
        while True:
            ready, _, _ = select.select([self._worker, self._wake], [], [], self._patience())
            if self._wake in ready:
                with suppress(BlockingIOError):
                    self._wake.recv(4096)
            self._reap()
            for child, until in list(self._until.items()):
                if until <= time.monotonic():  # the worker is frozen, or has lost its store
                    self._kill(child)
            if self._worker in ready:
                try:
                    data, new, _, _ = socket.recv_fds(self._worker, 65_536, 64)
                except ConnectionError:  # it ended before it had read all that we said
                    return
                if not data:
                    return
                descriptors += new
                *orders, heard = (heard + data).split(b"\n")
                for order in orders:
                    self._obey(json.loads(order), descriptors)

    def close(self) -> None:
        """Leave nothing: what is orphaned meanwhile comes to us, until there is nobody left."""
        for pid in self._children.values():
            kill_tree(pid)
        with suppress(ChildProcessError):
            while True:
                for pid in children_of(os.getpid()):
                    kill_tree(pid)
                os.waitpid(-1, 0)

    def _patience(self) -> float | None:
        if not self._until:
            return None
        return max(0.0, min(self._until.values()) - time.monotonic())

    def _obey(self, order: dict[str, Any], descriptors: deque[int]) -> None:
        match order:
            case {"spawn": child, "command": command, "cwd": cwd}:
                self._spawn(child, command, cwd, descriptors.popleft())
            case {"kill": child}:
                self._kill(child)
            case {"until": child, "at": None}:
                self._until.pop(child, None)
            case {"until": child, "at": at}:
                if child in self._children:
                    self._until[child] = max(at, self._until.get(child, at))
            case _:
                raise ValueError(order)

    def _spawn(self, child: int, command: list[str], cwd: str, descriptor: int) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - the worker is this program, too
                [*command, str(descriptor)],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=cwd,
            )
        except OSError as error:
            self._say({"gone": child, "why": str(error)})
        else:
            self._children[child] = process.pid
            process.returncode = 0  # `_reap` hears of its end
            self._say({"spawned": child, "pid": process.pid})
        finally:
            os.close(descriptor)

    def _kill(self, child: int) -> None:
        self._until.pop(child, None)
        if child in self._children:
            kill_tree(self._children[child])

    def _reap(self) -> None:
        """Tell of the children that have ended, when nothing is left of them."""
        ended = self._collect()
        if not ended:
            return
        # Nobody answers any more for what we have adopted of them.
        while orphans := children_of(os.getpid()) - set(self._children.values()):
            for pid in orphans:
                kill_tree(pid)
            ended |= self._collect()
        for child, status in ended.items():
            code = os.waitstatus_to_exitcode(status)
            why = f"signal {-code}" if code < 0 else f"status {code}"
            self._say({"gone": child, "why": why})

    def _collect(self) -> dict[int, int]:
        """Return the children that have ended, with what the system says of their end."""
        numbers = {pid: child for child, pid in self._children.items()}
        ended: dict[int, int] = {}
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if (child := numbers.get(found[0])) is not None:
                    ended[child] = found[1]
                    del self._children[child]
                    self._until.pop(child, None)
        return ended

    def _say(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # its end is seen by `serve`
            self._worker.sendall(json.dumps(message).encode() + b"\n")


def main(worker: int, sign: str) -> None:
    """Guard the children of the worker at the other end of this descriptor."""
    leave_signals_to_the_worker()
    adopt_orphans()
    if sign:
        with suppress(OSError):  # then the worker's own lock is all there is
            # Never closed: with any descriptor of the file a process lets go of its lock.
            fcntl.lockf(os.open(sign, os.O_RDWR | os.O_CLOEXEC), fcntl.LOCK_SH | fcntl.LOCK_NB)
    guard = Guard(socket.socket(fileno=worker))
    try:
        guard.serve()
    finally:
        guard.close()
