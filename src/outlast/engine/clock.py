"""What outlast asks of the machine: time, chance, tasks, threads.

Everything that could differ between two runs of the same program comes from here, so that a test
can give another machine. The one rule that must not be broken: nothing else in the package asks for
the time, draws a number, or starts a task or a thread.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from outlast.engine.threads import Threads

T = TypeVar("T")

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SHIFTS = range(0, 65, 5)


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None:
        """Keep it from happening; does nothing afterwards."""
        ...


class System:
    """The real machine."""

    boot_session: tuple[str, str, str] = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
    """What tells macOS's start from every other."""
    isolates: bool = True
    """Whether handlers may run in processes of their own; those have clocks of their own, too."""
    looks_rarer_by: float = 1.0
    """How many times as long as usual nobody looks for what a hint should have told."""
    handlers: Threads
    """Threads for handlers."""
    steps: Threads
    """Threads for what handlers wait for: those could fill up a pool for both for ever."""

    def __init__(self) -> None:
        self.handlers, self.steps = Threads(), Threads()
        self._random = random.Random()
        self._boot_id: str | None = None

    # Time

    def wall(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back, for intervals within this process."""
        return time.monotonic()

    def boot(self) -> float:
        """Return seconds since the machine started, sleep included."""
        if sys.platform == "darwin":
            return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """Return what tells this start of the machine from every other."""
        if self._boot_id is None:  # a store asks at every write, and no process outlives its answer
            self._boot_id = self._read_boot_id()
        return self._boot_id

    def _read_boot_id(self) -> str:
        if sys.platform == "darwin":
            told = subprocess.run(  # noqa: S603 - a program of the system's own
                self.boot_session, capture_output=True, check=True, text=True
            )
            return told.stdout.strip()
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back in the running loop after `delay` seconds; the timer belongs to no turn."""
        loop = asyncio.get_running_loop()
        return loop.call_later(max(0.0, delay), callback, context=Context())

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call back when the wall clock shows `when`; for the times of runs, which outlive us.

        `call_later` and `sleep` are for the pace at which this process itself works.
        """
        return self.call_later(when - self.wall(), callback)

    async def sleep(self, delay: float) -> None:
        """Wait for `delay` seconds."""
        passed = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay, lambda: end(passed))
        try:
            await passed
        finally:
            timer.cancel()

    async def pause(self, until: float, passed: asyncio.Future[None]) -> None:
        """Wait for a future that ends when the wall clock shows `until`, or is ended before."""
        timer = self.call_at(until, lambda: end(passed))
        try:
            await passed
        finally:
            timer.cancel()

    async def within(
        self, seconds: float, work: Awaitable[T], complaint: str, *, by_wall: bool = False
    ) -> T:
        """Return what the work gives.

        Args:
            seconds: how long it may take.
            work: what is awaited.
            complaint: what the error says.
            by_wall: whether this is a time of a run, see `call_at`.

        Raises:
            TimeoutError: it was cancelled after so many seconds.
        """
        loop, alarm = asyncio.get_running_loop(), asyncio.timeout(None)

        def ring() -> None:
            alarm.reschedule(loop.time())

        timer = (
            self.call_at(self.wall() + seconds, ring) if by_wall else self.call_later(seconds, ring)
        )
        try:
            async with alarm:
                return await work
        except TimeoutError as error:
            if not alarm.expired():
                raise
            raise TimeoutError(complaint) from error
        finally:
            timer.cancel()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        """Wait for the event, at most `timeout` seconds; return whether it is set."""
        if timeout is None or event.is_set():
            return await event.wait()
        if timeout > 0:
            with suppress(TimeoutError):
                await self.within(timeout, event.wait(), "the event was not set")
        return event.is_set()

    # Chance

    def draw_id(self) -> str:
        """Return a new UUIDv7: one made later sorts later."""
        bits = int(self.wall() * 1000) << 80 | self._random.getrandbits(80)
        bits = bits & ~(0xF << 76) | 0x7 << 76
        bits = bits & ~(0x3 << 62) | 0x2 << 62
        text = f"{bits:032x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def draw_name(self) -> str:
        """Return 13 letters and digits that nobody else has drawn (65 bits)."""
        bits = self._random.getrandbits(65)
        return "".join([_ALPHABET[bits >> shift & 31] for shift in _SHIFTS])

    def draw_factor(self, share: float) -> float:
        """Return a number within `share` of 1."""
        return self._random.uniform(1 - share, 1 + share)

    # Tasks and threads

    def spawn(
        self, coroutine: Coroutine[Any, Any, T], name: str, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Start a task in the running loop; without a `context`, it belongs to no turn."""
        loop = asyncio.get_running_loop()
        return loop.create_task(coroutine, name=name, context=context or Context())

    def run_beside(self, work: Callable[[], Awaitable[None]], name: str) -> Awaitable[None]:
        """Run the coroutine in a thread and a loop of its own, so that ours cannot hold it up.

        Return what ends when it has ended.
        """
        ended: Future[None] = Future()

        async def run() -> None:
            await work()

        def run_and_tell() -> None:
            try:
                asyncio.run(run())
            except BaseException as error:  # noqa: BLE001 - handed on
                ended.set_exception(error)
            else:
                ended.set_result(None)

        threading.Thread(target=run_and_tell, name=name, daemon=True).start()
        return asyncio.wrap_future(ended)

    def process_id(self) -> int:
        """Return this process's number; another one after a fork."""
        return os.getpid()


def end(future: asyncio.Future[None]) -> None:
    """Let go whoever waits for the future; does nothing when it has ended."""
    if not future.done():
        future.set_result(None)
