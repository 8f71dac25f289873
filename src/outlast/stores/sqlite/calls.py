"""Calls from event loops to threads, and the answers back.

The one rule that must not be broken: a call that its caller gave up before it began is never begun.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from contextvars import Context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from outlast.errors import OutlastError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Desk = TypeVar("Desk")
Answer = TypeVar("Answer")

MAX_WAITING: Final = 10_000
"""Calls of one store that may wait for a thread; further ones wait for a place."""

PATIENCE: Final = 10.0
"""Seconds that a caller waits for an answer, before it is told that the store is unavailable."""


class Call(Generic[Desk, Answer]):
    """What a thread is asked to do at its desk, by somebody who does not wait."""

    __slots__ = ("_begun", "_then", "_work", "answer", "error")

    def __init__(
        self,
        work: Callable[[Desk], Answer],
        then: Callable[[Call[Desk, Answer]], None] | None = None,
    ) -> None:
        """Ask for `work`, and for `then` in the thread, once it is done or has failed."""
        self._work, self._then = work, then
        self._begun = threading.Lock()
        self.answer: Answer | None = None
        self.error: Exception | None = None

    def begin(self) -> bool:
        """Take the call from those that wait; return False if it was given up."""
        return self._begun.acquire(blocking=False)

    def run(self, desk: Desk) -> None:
        """Do the work; a refusal is its answer, and whatever else is raised is not."""
        self.error = None
        try:
            self.answer = self._work(desk)
        except OutlastError as error:
            self.error = error

    def fail(self, error: Exception) -> None:
        """Answer with an error instead."""
        self.error = error

    def deliver(self, mail: Mail) -> None:  # noqa: ARG002 - nobody waits for a letter
        """Let it be known that it is done: what it wrote is durable."""
        if self._then:
            self._then(self)


class Question(Call[Desk, Answer]):
    """A call from an event loop, where somebody waits for the answer."""

    __slots__ = ("_loop", "answered")

    def __init__(self, work: Callable[[Desk], Answer]) -> None:
        super().__init__(work)
        self._loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[Answer] = self._loop.create_future()

    def deliver(self, mail: Mail) -> None:
        """Send the answer to the caller's loop."""
        mail.add(self._loop, self._settle)

    def _settle(self) -> None:
        if self.answered.done():
            return
        if self.error is not None:
            self.answered.set_exception(self.error)
        else:
            self.answered.set_result(cast("Answer", self.answer))


class Patience:
    """How long those wait who ask from one event loop.

    All wait equally long, so the oldest question is the first to be given up: one timer sees to
    them all.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._loop = seconds, asyncio.get_running_loop()
        self._waiting: dict[Question[Any, Any], tuple[float, Callable[[], str]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, question: Question[Any, Answer], complaint: Callable[[], str]) -> Answer:
        """Wait for the answer; a call whose caller is cancelled or gives up is withdrawn.

        Raises:
            Unavailable: there was none in time; it says what the complaint says.
        """
        ends = self._loop.time() + self._seconds
        self._waiting[question] = ends, complaint
        if self._timer is None:
            self._wait_until(ends)
        try:
            return await question.answered
        finally:
            del self._waiting[question]
            question.begin()

    def close(self) -> None:
        """Leave no timer behind, if nobody waits."""
        if self._timer is not None and not self._waiting:
            self._timer.cancel()
            self._timer = None

    def _wait_until(self, end: float) -> None:
        # In a context of its own: who asks first is not whose timer it is.
        self._timer = self._loop.call_at(end, self._give_up, context=Context())

    def _give_up(self) -> None:
        self._timer = None
        for question, (ends, complaint) in list(self._waiting.items()):
            if ends > self._loop.time():
                self._wait_until(ends)
                return
            if not question.answered.done():
                question.answered.set_exception(Unavailable(complaint()))


class Counter(Generic[Desk]):
    """Where calls wait for a thread, first come, first served."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Call[Desk, Any] | None] = SimpleQueue()

    def add(self, call: Call[Desk, Any]) -> None:
        """Have the call wait for a thread."""
        self._waiting.put(call)

    def close(self, threads: int = 1) -> None:
        """Tell so many threads to end, after the calls that wait now."""
        for _ in range(threads):
            self._waiting.put(None)

    def next(self) -> Call[Desk, Any] | None:
        """Wait for a call, which is still to begin; None tells the thread to end."""
        return self._waiting.get()

    def more(self) -> Call[Desk, Any] | None:
        """Return another call that waits already, and is still to begin; None: there is none."""
        if self._waiting.empty():
            return None
        call = self._waiting.get()  # nobody else takes from it but its one thread
        if call is None:
            self._waiting.put(None)  # for `next` to find
        return call


class Mail:
    """What is to be called in event loops, handed over to each of them at once."""

    def __init__(self) -> None:
        self._letters: defaultdict[asyncio.AbstractEventLoop, list[Callable[[], None]]]
        self._letters = defaultdict(list)

    def add(self, loop: asyncio.AbstractEventLoop, letter: Callable[[], None]) -> None:
        """Have it called in that loop, after those added before."""
        self._letters[loop].append(letter)

    def send(self) -> None:
        """Wake each loop, once."""
        for loop, letters in self._letters.items():
            try:
                loop.call_soon_threadsafe(_read, loop, letters)
            except RuntimeError:  # the loop is closed: nobody waits there
                continue
        self._letters.clear()


def _read(loop: asyncio.AbstractEventLoop, letters: Iterable[Callable[[], None]]) -> None:
    for letter in letters:
        try:
            letter()
        except Exception as error:  # noqa: BLE001 - a listener's: the others are called all the same
            loop.call_exception_handler({"message": f"{letter!r} failed", "exception": error})
