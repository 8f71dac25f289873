"""Plain functions, run in daemon threads.

The one rule that must not be broken: nothing waits for a thread. One whose caller has gone is
abandoned: it takes up no place, keeps no process alive, and what it brings back is dropped.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS: Final = 1_000
"""How many calls run at once; later ones wait. Abandoned ones do not count."""

MAX_IDLE: Final = 30.0
"""Seconds after which a thread that has nothing to do ends."""


class Threads:
    """Threads that run plain functions for coroutines, are used again, and hold up nobody.

    Functions that wait for other functions want threads of their own: they could take all places,
    and wait for ever.

    Args:
        limit: how many calls run at once; later ones wait, first come, first served.
        idle: seconds after which a thread that has nothing to do ends.
    """

    def __init__(self, limit: int = MAX_THREADS, idle: float = MAX_IDLE) -> None:
        self._limit, self._max_idle = limit, idle
        self._names = count(1)
        self._begin()

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function in a thread, with a copy of our context; return or raise what it does.

        Its `StopIteration` becomes the cause of a `RuntimeError`, as in every coroutine. Whoever is
        cancelled meanwhile abandons the thread: the function runs on, and nobody hears of it.

        Raises:
            RuntimeError: the machine has no more threads.
        """
        call = _Call(function, *args, **kwargs)
        self._take(call)
        try:
            await call.ended
        except BaseException:
            self._abandon(call)
            raise
        outcome: T = call.outcome()
        return outcome

    def close(self) -> None:
        """End the threads that have nothing to do, and each other one as soon as it is done."""
        with self._lock_here():
            self._max_idle = 0.0
            while self._idle:
                self._idle.pop().put(None)

    def _begin(self) -> None:
        self._pid = os.getpid()
        # A call whose coroutine is collected as garbage is abandoned in whatever runs just then.
        self._lock = threading.RLock()
        self._at_work: set[_Call] = set()
        self._waiting: deque[_Call] = deque()  # for a place
        self._idle: list[_Inbox] = []  # the last one came last; empty while a call waits

    def _lock_here(self) -> threading.RLock:
        # A child has none of its parent's threads, one of which may have held the lock at the fork.
        if self._pid != os.getpid():
            self._begin()
        return self._lock

    def _take(self, call: _Call) -> None:
        with self._lock_here():
            if self._idle:
                self._at_work.add(call)
                self._idle.pop().put(call)
                return
            self._waiting.append(call)
        self._start_threads()

    def _start_threads(self) -> None:
        """Start a thread for each call that waits, as far as there are places."""
        while True:
            with self._lock:
                if not self._waiting or len(self._at_work) >= self._limit:
                    return
                call = self._waiting.popleft()
                self._at_work.add(call)
            inbox: _Inbox = SimpleQueue()
            inbox.put(call)
            name = f"outlast-{next(self._names)}"
            try:
                threading.Thread(target=self._work, args=(inbox,), name=name, daemon=True).start()
            except RuntimeError as error:
                with self._lock:
                    self._at_work.discard(call)
                call.error = error
                call.hand_back()

    def _work(self, inbox: _Inbox) -> None:
        while call := self._receive(inbox):
            call.run()
            # First it is free again: who asks for one thing after the other needs one thread.
            self._end(call, inbox)
            call.hand_back()
            del call  # else its result would live as long as the thread is idle

    def _receive(self, inbox: _Inbox) -> _Call | None:
        """Return the thread's next call, or None when it is to end."""
        try:
            return inbox.get(timeout=self._max_idle or None)
        except Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    return None
            return inbox.get()  # there was something for it at the last moment

    def _end(self, call: _Call, inbox: _Inbox) -> None:
        """Say by its inbox what becomes of a thread that is done: another call, a rest, the end."""
        with self._lock:
            if call not in self._at_work:  # it was abandoned, and its place was given away
                inbox.put(None)
                return
            self._at_work.remove(call)
            if self._waiting:
                following = self._waiting.popleft()
                self._at_work.add(following)
                inbox.put(following)
            elif self._max_idle > 0:
                self._idle.append(inbox)
            else:
                inbox.put(None)

    def _abandon(self, call: _Call) -> None:
        """Give up the call's place, where it has one or waits for one; it may be over anyway."""
        with self._lock_here():
            self._at_work.discard(call)
            with suppress(ValueError):
                self._waiting.remove(call)
        self._start_threads()


class _Call:
    """What a thread is to do, and what came of it."""

    def __init__(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        self._context = copy_context()
        self._function = partial(function, *args, **kwargs)

    def run(self) -> None:
        """Call the function."""
        try:
            self.result = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
            self.error = error

    def hand_back(self) -> None:
        """Wake who waits, if anybody does."""
        with suppress(RuntimeError):  # the loop was closed meanwhile
            # In the function's context, so that the callback belongs to whom the call belongs.
            self.ended.get_loop().call_soon_threadsafe(_wake, self.ended, context=self._context)

    def outcome(self) -> Any:
        """Return or raise what the function did; only once, so that nothing keeps its error."""
        error, self.error = self.error, None
        if error is None:
            return self.result
        try:
            raise error
        finally:
            del error


_Inbox = SimpleQueue[_Call | None]


def _wake(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
