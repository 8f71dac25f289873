"""A worker's children: kept warm, and killed when asked.

The one rule that must not be broken: a child runs code only while somebody else would kill it. The
guard does so at the worker's end and at the lease's; the worker, when the guard has ended; the
child itself, when both have.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from outlast.engine.isolation.guarded import ANSWERS_WITHIN, Child, Guard, command_of_child, hold
from outlast.engine.isolation.processes import kill_tree
from outlast.engine.isolation.wire import Message

if TYPE_CHECKING:
    from outlast.engine.clock import System

log: Final = logging.getLogger("outlast")

MAX_WARM: Final = 10
"""Children without a run that are kept for the next one."""

MAX_IDLE: Final = 300.0
"""Seconds after which such a child is ended."""

_STARTS_WITHIN: Final = 60.0
"""Seconds that a child has to import outlast and enter its resources, on a machine that is busy."""

_FREES_WITHIN: Final = 1.0
"""Seconds after which the guard learns that a child has no run any more."""

_LEAVES_WITHIN: Final = 2.0
"""Seconds that a child without a run has to leave its resources; then it is killed."""


class Children:
    """The processes in which a worker runs what is isolated: kept warm, and killed when asked."""

    def __init__(
        self, system: System, sign: Callable[[], Path | None], opening: Callable[[], Message]
    ) -> None:
        """Start nobody yet.

        Args:
            system: the machine.
            sign: gives the file whose lock says that the worker lives, if there is one.
            opening: gives what each child is told first.
        """
        self._system, self._sign, self._opening = system, sign, opening
        self._numbers = count(1)
        self._guard: Guard | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._warm: list[Child] = []

    async def take(self) -> Child:
        """Return a child that waits for a run; the one that waited last, or a new one.

        Raises:
            OSError: none could be started.
        """
        while self._warm:
            child = self._warm.pop()
            _rouse(child)
            if child.is_alive:
                return child
        return await self._start()

    async def give_back(self, child: Child) -> None:
        """Keep the child for another run."""
        child.ignore()
        self._warm = [one for one in self._warm if one.is_alive]
        if len(self._warm) < MAX_WARM:
            self._warm.append(child)
            self._let_rest(child)
        else:
            await self._dismiss(child)

    def bind(self, child: Child, until: float) -> None:
        """Let the guard kill the child, which is given a run, when its lease ends."""
        # An earlier time that the guard knows does until the first renewal, and nobody is woken.
        left = until - self._system.monotonic()
        if child.until is None or until - child.until > left / 2:
            self.extend(child, until)

    def extend(self, child: Child, until: float) -> None:
        """Let the guard kill the child at this time of the monotonic clock; in any thread."""
        child.until = until
        child.guard.tell({"until": child.number, "at": until})

    def _let_rest(self, child: Child) -> None:
        """Have the guard leave the child alone, and dismiss it at last, if nobody takes it."""

        def free() -> None:
            child.until = None
            child.guard.tell({"until": child.number, "at": None})
            child.resting = self._system.call_later(MAX_IDLE, expire)

        def expire() -> None:
            self._warm = [one for one in self._warm if one is not child]
            self._see_to(self._dismiss(child))

        # Who is given another run at once needs no word to the guard, which would be woken for it.
        left = (child.until or 0.0) - self._system.monotonic()
        child.resting = self._system.call_later(min(_FREES_WITHIN, left / 2), free)

    async def _dismiss(self, child: Child) -> None:
        """Let the child leave what it has entered, and end."""
        child.send({"leave": True})
        await self._system.wait(child.gone, _LEAVES_WITHIN)
        await self.end(child)

    async def end(self, child: Child) -> None:
        """Kill the child and all that it has started; return when nothing is left of it."""
        child.guard.tell({"kill": child.number})
        if not await self._system.wait(child.gone, ANSWERS_WITHIN):
            # The guard is frozen, or very slow. What it does later is in vain, and harmless.
            await self._kill(child)
            await self._system.wait(child.gone, ANSWERS_WITHIN)
        child.wire.close()

    async def close(self) -> None:
        """End every child, and the guard."""
        for child in self._warm:
            _rouse(child)
            self._see_to(self._dismiss(child))
        self._warm.clear()
        while self._ending:
            await asyncio.wait(self._ending)
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.close()
            _bury(guard)

    async def _start(self) -> Child:
        command, cwd = command_of_child(), str(Path.cwd())
        if self._guard is None:
            self._guard = Guard(self._system, self._sign(), self._lose_guard)
        child = Child(next(self._numbers), guard := self._guard)
        answered, said = asyncio.Event(), list[Message]()

        def hear(message: Message) -> None:
            said.append(message)
            answered.set()

        child.hear, child.lost = hear, answered.set
        ours, theirs = socket.socketpair()
        hold(ours)
        ours.settimeout(0)
        with theirs:
            await asyncio.get_running_loop().create_unix_connection(lambda: child.wire, sock=ours)
            guard.children[child.number] = child
            guard.tell({"spawn": child.number, "command": command, "cwd": cwd}, theirs)
        try:
            child.send(self._opening())
            await self._system.wait(answered, _STARTS_WITHIN)
            if not said or "refused" in said[0]:
                await self._complain(child, said)
        except BaseException:
            await self.end(child)
            raise
        child.ignore()
        return child

    async def _complain(self, child: Child, said: Sequence[Message]) -> NoReturn:
        """Raise an error that says why the child has not started."""
        if said:
            why = said[0]["refused"]
        elif not child.is_silent.is_set():
            why = f"it is not ready after {_STARTS_WITHIN:.0f} s"
        else:
            await self._system.wait(child.gone, ANSWERS_WITHIN)
            why = child.why
        raise ChildProcessError(f"a process for an isolated handler did not start: {why}")

    def _lose_guard(self, guard: Guard) -> None:
        """Kill the children of a guard that has ended before us."""
        if self._guard is guard:
            self._guard = None
        log.error("the guard of isolated handlers has ended: its children are killed")
        self._see_to(self._end_with(guard))

    def _see_to(self, ending: Coroutine[Any, Any, None]) -> None:
        task = self._system.spawn(ending, "outlast-children")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_with(self, guard: Guard) -> None:
        for child in list(guard.children.values()):
            await self._kill(child)
        _bury(guard)
        await guard.close()

    async def _kill(self, child: Child) -> None:
        # Its number may belong to somebody else as soon as it is dead, and silent.
        if child.pid is not None and not child.is_silent.is_set():
            await self._system.steps.run(kill_tree, child.pid)


def _rouse(child: Child) -> None:
    """Let nothing happen any more to a child because it has no run."""
    if child.resting is not None:
        child.resting.cancel()
        child.resting = None


def _bury(guard: Guard) -> None:
    """Take note that nothing is left of the guard's children."""
    for child in guard.children.values():
        child.gone.set()
        child.wire.close()
    guard.children.clear()
