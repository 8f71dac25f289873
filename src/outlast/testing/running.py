"""Runs a coroutine on an event loop whose time flies."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, TypeVar

from outlast.errors import UsageError
from outlast.testing.app import new_clock
from outlast.testing.clock import FakeClock
from outlast.testing.system import SkippingLoop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, now: datetime | None = None) -> T:
    """Run the coroutine as `asyncio.run` does, on an event loop that skips the time of waiting.

    Whenever nothing is ready to run, the loop's time jumps to its next timer. So `asyncio.sleep`,
    `asyncio.wait_for` and `asyncio.timeout` take no real time, and neither do the sleeps, waits and
    pauses of an `outlast.testing.app()` that is opened inside: there is one time for both, the
    app's `now` included, and it moves by itself. What happens first does not depend on how fast the
    machine is, but for what comes from threads: while a plain function of a step or a handler, or
    the store of a file, is at work in its thread, the time waits for it, at most 1 s and 10 s of
    real time. For other threads, and for sockets, it does not wait.

    Args:
        main: what is run.
        now: what the clock shows at first, with a time zone; None: 1 January 2030, 00:00 UTC.

    Raises:
        UsageError: an event loop runs here already, or `now` has no time zone.
    """
    try:
        clock = _clock_outside_of_loops(now)
    except UsageError:
        main.close()
        raise
    with asyncio.Runner(loop_factory=lambda: SkippingLoop(clock)) as runner:
        return runner.run(main)


def _clock_outside_of_loops(now: datetime | None) -> FakeClock:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return new_clock(now)
    raise UsageError("an event loop is running here; call outlast.testing.run() outside of it")
