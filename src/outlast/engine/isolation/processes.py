"""A process and everything that it ever started.

On Linux a child adopts its orphans, so that daemons stay in its tree, and the table of processes
shows all of it. Elsewhere only the process group is known. The guard imports this module without
the rest of the package, so it stands on the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_PROC: Final = Path("/proc")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, daemons included."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def has_children() -> bool:
    """Say whether this process has children, zombies included.

    Who adopts orphans and has no child has no descendant either, and that is known at once.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def kill_tree(root: int) -> None:
    """Kill everything that the process has started, then itself; `root` adopts orphans.

    It is stopped first, so that it starts nobody meanwhile. Whoever was sent SIGKILL completes no
    fork any more.
    """
    send(root, signal.SIGSTOP)
    kill_relatives(root)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(root, signal.SIGKILL)
    send(root, signal.SIGKILL)


def kill_relatives(root: int) -> None:
    """Kill the descendants of the process, and what else is in its session."""
    killed: set[int] = set()
    looks_without_news = 0
    # A process whose parent ends while the table is read may be missed by one look, but not by the
    # next one: by then it was adopted.
    while looks_without_news < 2:  # noqa: PLR2004
        new = relatives(root) - killed
        for pid in new:
            send(pid, signal.SIGKILL)
        killed |= new
        looks_without_news = 0 if new else looks_without_news + 1


def relatives(root: int) -> set[int]:
    """Return the living descendants of the process, and what else is in its session."""
    children: dict[int, list[int]] = {}
    found: list[int] = []
    for pid, parent, session in _table():
        children.setdefault(parent, []).append(pid)
        if session == root:
            found.append(pid)
    seen: set[int] = set()
    found.append(root)
    while found:
        pid = found.pop()
        if pid not in seen:
            seen.add(pid)
            found += children.get(pid, ())
    return seen - {root}


def children_of(parent: int) -> set[int]:
    """Return the living children of the process."""
    return {pid for pid, its_parent, _ in _table() if its_parent == parent}


def _table() -> list[tuple[int, int, int]]:
    """Return number, parent and session of every process that lives; only Linux shows them."""
    rows: list[tuple[int, int, int]] = []
    if sys.platform != "linux":
        return rows
    for name in os.listdir(_PROC):  # noqa: PTH208 - it is read very often
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - see above
                    said = file.read()
            except OSError:  # it has just ended
                continue
            # 7 (a name) S 1 7 7 ...: state, parent, group, session
            state, parent, _, session = said.rpartition(b") ")[2].split(b" ", 4)[:4]
            if state not in b"ZX":
                rows.append((int(name), int(parent), int(session)))
    return rows


def send(pid: int, number: int) -> None:
    """Send a signal; does nothing where there is nobody who may get it."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def leave_signals_to_the_worker() -> None:
    """Let pass what a terminal or an init system sends to all processes of a service at once.

    The worker decides what it means. Handlers are not inherited by the programs that are started
    here, as ignored signals would be.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, let_pass)


def let_pass(number: int, frame: object) -> None:
    """Do nothing about a signal, but wake up."""
