"""Where a process dies or freezes, and the store through which it comes there.

A process is struck at one point: at its n-th write, before the store has heard of it or after the
store has answered and before anybody learns of that; or at a moment that a task names.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, NoReturn

from outlast.journal import Change, Head, Lease
from outlast.store import Claimed, Lane, Store
from outlast.testing.wrapping import WrappedStore

Side = Literal["before", "after", "at"]


@dataclass(frozen=True, slots=True)
class Point:
    """The `number`-th time, from 1, that a process is on this side of something.

    Attributes:
        side: of a write, `before` or `after`; `at` a moment.
        what: a verb, the type of an entry that is written, or the name of a moment.
        freezes: the process is stopped there, and may wake up; else it is killed.
    """

    side: Side
    what: str
    number: int = 1
    freezes: bool = False

    def __str__(self) -> str:
        number = f" {self.number}" if self.number > 1 or self.what in ("commit", "claim") else ""
        return f"{self.side} {self.what}{number}"


class Fate:
    """What becomes of this process.

    Attributes:
        commits: how many it has asked for.
        gate: held while the thread that keeps leases writes; one who freezes there would keep
            everybody from writing.
    """

    def __init__(self, point: Point | None, tell: Callable[[str], None]) -> None:
        self.commits = 0
        self.gate = threading.Lock()
        self._point, self._tell = point, tell
        self._left = 0 if point is None else point.number
        self._turn = asyncio.Lock()

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Let one write of our loop after the other, so that none is under way while we freeze."""
        return self._turn if self._point and self._point.freezes else nullcontext()

    async def moment(self, name: str) -> None:
        """Pass a moment of a task."""
        async with self.alone():
            self.meets("at", name)

    def meets(self, side: Side, *names: str) -> None:
        """Be struck if this is the point."""
        point = self._point
        if point is None or point.side != side or point.what not in names:
            return
        self._left -= 1
        if self._left == 0:
            if not point.freezes:
                self._tell("dies")
                die()
            with self.gate:
                self._tell("freezes")
                signal.raise_signal(signal.SIGSTOP)
            self._tell("wakes")


def die() -> NoReturn:
    """Kill this process, as the operating system does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("we live on")


class FatefulStore(WrappedStore):
    """A store at whose writes the process is struck.

    Attributes:
        claims: the keys of what each claim gave, but for those that gave nothing.
    """

    def __init__(
        self, store: Store, fate: Fate, wrote: Callable[[Sequence[str]], None] = lambda _: None
    ) -> None:
        """Wrap the store; `wrote` hears of the types of entries that were written."""
        super().__init__(store)
        self.claims: list[list[str]] = []
        self._fate, self._wrote = fate, wrote

    async def commit(self, *changes: Change) -> list[Head]:
        types = [draft.type for change in changes for draft in change.entries]
        async with self._fate.alone():
            self._fate.commits += 1
            self._fate.meets("before", "commit", *types)
            heads = await super().commit(*changes)
            self._fate.meets("after", "commit", *types)
        self._wrote(types)
        return heads

    async def claim(
        self, lanes: Sequence[Lane], owner: str, ttl: float, limit: int, id: str
    ) -> Claimed:
        async with self._fate.alone():
            self._fate.meets("before", "claim")
            claimed = await super().claim(lanes, owner, ttl, limit, id)
            if claimed.heads:
                self.claims.append([head.key for head in claimed.heads])
                self._fate.meets("after", "claim")
        return claimed

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        with self._fate.gate:  # in a thread of its own: whoever freezes waits for this one
            return await super().renew(leases, ttl)
