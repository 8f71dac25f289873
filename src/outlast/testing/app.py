"""An app whose time a test moves: days pass in milliseconds, and its worker dies when told to.

The rules are the engine's own. The one that must not be broken here: the clock moves only while
nothing else is left to do at its time, so that what happens does not depend on how fast a test is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from weakref import WeakKeyDictionary

from outlast.engine import insides
from outlast.engine.app import App, current
from outlast.engine.attempt import Stop
from outlast.engine.belongings import Look, can_see
from outlast.engine.clock import System
from outlast.engine.hints import Hints
from outlast.engine.parking import LINGER
from outlast.engine.payloads import MAX_PAYLOAD
from outlast.engine.settings import seconds_of
from outlast.errors import UsageError
from outlast.store import open_store
from outlast.testing.clock import FakeClock
from outlast.testing.line import Line
from outlast.testing.machine import Machine
from outlast.testing.system import SkippingLoop

if TYPE_CHECKING:
    from outlast.engine.attempt import Attempt, Surroundings
    from outlast.engine.worker import Worker

_GLANCE: Final = 0.001
"""Real seconds between two looks at a run that awaits something outside, at first."""

_LOOKS_AFTER: Final = 0.02
"""The same, at most."""

_STIRS_FOR: Final = 1.0
"""Seconds after which what never rests is not waited for."""


class SkippingApp(App):
    """An open app whose clock stands still until `advance` moves it: `outlast.testing.app()`.

    It is an `outlast.App` with the engine's own worker inside. What outlast counts by its clock
    waits for the clock: sleeps, the timeouts of waits and of steps, the pauses between tries and
    attempts, delays, leases. What it does by itself it does at once, in real time: it writes and
    streams, and has runs leave memory that only wait.

    It moves outlast's clock, not the timers of your event loop: `asyncio.sleep`, `asyncio.timeout`
    and `run.result(timeout=...)` take real time. On the loop of `outlast.testing.run` there is one
    time for all, which flies whenever everything waits; `advance` lets it.
    """

    def __init__(
        self,
        url: str,
        *,
        now: datetime | None,
        patience: timedelta,
        worker: bool,
        concurrency: int,
        queues: Sequence[str],
        lease: timedelta,
        grace: timedelta,
        namespace: str,
        resources: Any,
        max_payload: int,
    ) -> None:
        self._patience = seconds_of("patience", patience)
        self._has_start = now is not None
        # In memory, ids are the same every time; a file may have those of an earlier test.
        seed = 0 if url == "memory://" else None
        self._machine = Machine(new_clock(now), seed)
        self._own = open_store(url, clock=self._machine, namespace=namespace)
        super().__init__(
            url,
            worker=worker,
            concurrency=concurrency,
            queues=queues,
            lease=lease,
            grace=grace,
            namespace=namespace,
            resources=resources,
            max_payload=max_payload,
            system=self._machine,
            store=(line := Line(self._own, self._machine)),
        )
        self._line = line
        self._life: _Life | None = None
        self._dead: list[_Life] = []
        self._outstayed: WeakKeyDictionary[Attempt, int] = WeakKeyDictionary()
        self._is_moving = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if not can_see(loop):
            raise UsageError(
                "outlast.testing.app() needs an event loop that shows its timers, such as that of "
                f"asyncio or uvloop, not {type(loop).__name__}"
            )
        if isinstance(loop, SkippingLoop):
            if self._has_start:
                raise UsageError("the event loop has a clock: say outlast.testing.run(..., now=)")
            self._machine.go_by(loop, self._is_asking)
        return await super().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client  # noqa: B018 - refuses another loop, and a forked process
        while self._dead:
            await self._dead.pop().unwind()
        await super().__aexit__(kind, error, trace)

    # Time

    @property
    def now(self) -> datetime:
        """What the clock shows, in UTC."""
        return datetime.fromtimestamp(self._machine.wall(), UTC)

    async def advance(self, by: timedelta = timedelta(0)) -> None:
        """Move the clock, and return when nothing is left to do at the new time.

        On the way the clock stops wherever something is due, in order of time, and goes on when
        every run has come to rest: it has ended, is not due yet, or waits in `ctx` for a time or a
        signal, and then leaves memory, as it does in production. So a handler is entered again
        after every stop at which it is due. Runs that want a place get one as they become free.

        A run that awaits something else (a socket, `asyncio.sleep`, an event, a thread) is waited
        for, in real time: until it has come to rest, or has recorded nothing for `patience`. Then
        the clock goes on without it; it keeps its lease, and is not waited for again before it has
        recorded something. So a fake that never answers does not hold up a test, and `advance`
        reaches the timeout of its step. What your test itself awaits elsewhere is not waited for.

        Args:
            by: how far; 0: only let everything be done that can be done now.

        Raises:
            UsageError: `by` is no timedelta or negative, the app is not open here, the clock is
                being moved already, or a handler calls this.
        """
        seconds = seconds_of("how far to advance", by)
        with self._moving("advance"):
            if isinstance(asyncio.get_running_loop(), SkippingLoop):
                await asyncio.sleep(seconds)
                await self._drain()
            else:
                await self._move_to(self._machine.wall() + seconds)

    async def _move_to(self, target: float) -> None:
        machine, life = self._machine, self._life
        while True:
            await self._settle()
            if (now := machine.wall()) >= target:
                return
            if life is None:
                machine.clock.advance(target - now)
                continue
            dues = (life.machine.next_alarm, life.line.next_due)
            stop = min((due for due in dues if due is not None and due > now), default=inf)
            # A worker that lives renews its leases all the time: so none may end on the way.
            await life.worker.renew(target - now)
            machine.clock.advance(min(stop, target) - now)
            life.machine.ring()
            life.line.hint()

    async def _settle(self) -> None:
        """Return when nothing more can happen unless the clock or the outside moves."""
        loop, pause = asyncio.get_running_loop(), _GLANCE
        ends = loop.time() + self._patience
        while True:
            await self._drain()
            stirring = self._stirring()
            if all(self._outstayed.get(attempt) == seen for attempt, seen in stirring.items()):
                if not self._park():
                    return
            elif loop.time() >= ends:
                self._outstayed.update(stirring)
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LOOKS_AFTER)

    async def _drain(self) -> None:
        """Let everything be done that is about to run, or is asked of the store."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + _STIRS_FOR
        await asyncio.sleep(0)  # the loop may not have looked at what has come
        while loop.time() < ends:
            if any(not handle.cancelled() for handle in insides.ready(loop)):
                await asyncio.sleep(0)
            elif self._is_asking():
                for line in self._lines():
                    await line.wait_until_idle()
            else:
                return

    def _lines(self) -> Sequence[Line]:
        return [self._line] if self._life is None else [self._line, self._life.line]

    def _is_asking(self) -> bool:
        return not all(line.is_idle for line in self._lines())

    def _stirring(self) -> dict[Attempt, int]:
        """Return the runs in memory that have not come to rest, and how far each is recorded."""
        if self._life is None:
            return {}
        look = Look(asyncio.get_running_loop())
        return {
            attempt: attempt.record.run.revision
            for attempt in self._life.worker.attempts
            if not attempt.is_at_rest(look)
        }

    def _park(self) -> bool:
        """Have all that only waits leave memory, without lingering; say whether there was any."""
        if self._life is None:
            return False
        look = Look(asyncio.get_running_loop())
        with self._life.machine.ahead(LINGER):
            stops = [(attempt, attempt.rests(look)) for attempt in self._life.worker.attempts]
        for attempt, stop in stops:
            if stop is not None:
                attempt.stop(stop)
        return any(stop is not None for _, stop in stops)

    @contextmanager
    def _moving(self, call: str) -> Generator[None]:
        self.client  # noqa: B018 - refuses another loop, and an app that is not open
        if current.get() is not None:
            raise UsageError(f"app.{call}() is for a test; a handler waits with ctx.sleep")
        if self._is_moving:
            raise UsageError(f"await the other advance or restart first, then app.{call}()")
        self._is_moving = True
        try:
            yield
        finally:
            self._is_moving = False

    # Crashes

    async def restart(self) -> None:
        """Kill the worker inside as a crash of its machine would, and start another one.

        It dies when nothing of it is about to run. From then on no handler and no step of it goes
        on, not even with a `finally`, and nothing that it had not handed to the store is ever
        written. The machine starts anew, so its leases are over, and the new worker takes up its
        runs: their handlers are entered as `recovered`. No time passes.

        The test lives on: your handles, your readers and `app` itself. So do threads, which Python
        cannot kill: a plain function goes on until it returns, or to its next call of `ctx`, which
        ends it. When the app is left, what was killed is unwound, so that `finally` and `async
        with` close what they have opened; it can record nothing then either.

        Raises:
            UsageError: the app is not open here, has no worker, the clock is being moved, or a
                handler calls this.
        """
        with self._moving("restart"):
            life = self._life
            if life is None:
                raise UsageError("this app has no worker to kill: it was opened with worker=False")
            await self._drain()
            life.kill()
            self._dead.append(life)
            clock = self._machine.clock
            clock.reboot(boot=clock.boot())
            self._worker = self.client.worker = self._make_worker(self._around)
            self._worker.open()

    def _make_worker(self, around: Surroundings) -> Worker:
        self._around = around
        machine = self._machine.start_anew()
        line = Line(self._own, machine)
        variables = machine.mark(around.variables.copy())
        worker = super()._make_worker(
            replace(around, store=line, system=machine, hints=Hints(line), variables=variables)
        )
        self._life = _Life(machine, line, worker)
        return worker


class _Life(NamedTuple):
    """A worker, from its start to its death."""

    machine: Machine
    line: Line
    worker: Worker

    def kill(self) -> None:
        """Let nothing of it go on."""
        self.line.cut()
        self.machine.freeze()
        # What is still called in its threads is refused.
        for attempt in self.worker.attempts:
            attempt.stop(Stop.LEASE_LOST)

    async def unwind(self) -> None:
        """End what was killed, where it waits."""
        self.line.hang_up()
        self.machine.thaw()
        await self.worker.close()


def app(
    url: str = "memory://",
    *,
    now: datetime | None = None,
    patience: timedelta = timedelta(seconds=1),
    worker: bool = True,
    concurrency: int = 10,
    queues: Sequence[str] = ("default",),
    lease: timedelta = timedelta(minutes=5),
    grace: timedelta = timedelta(seconds=1),
    namespace: str = "default",
    resources: Any = None,
    max_payload: int = MAX_PAYLOAD,
) -> SkippingApp:
    """Return an app for a test, whose time you move: `async with outlast.testing.app() as app`.

    It needs no pytest, and works on the event loop of your test.

    Args:
        url: where runs are kept, as for `outlast.open`.
        now: what the clock shows at first, with a time zone; None: 1 January 2030, 00:00 UTC.
        patience: real time for which `advance` waits for a run that awaits something outside.
        worker: as for `outlast.open`.
        concurrency: as for `outlast.open`.
        queues: as for `outlast.open`.
        lease: as for `outlast.open`; it is longer here, so that less is to be renewed meanwhile.
        grace: real time that runs have when the app is left; shorter than that of `outlast.open`.
        namespace: as for `outlast.open`.
        resources: as for `outlast.open`.
        max_payload: as for `outlast.open`.

    Raises:
        UsageError: a setting is out of range, or the URL is not one of ours.
    """
    return SkippingApp(
        url,
        now=now,
        patience=patience,
        worker=worker,
        concurrency=concurrency,
        queues=queues,
        lease=lease,
        grace=grace,
        namespace=namespace,
        resources=resources,
        max_payload=max_payload,
    )


_START: Final = datetime(2030, 1, 1, tzinfo=UTC)


def new_clock(now: object) -> FakeClock:
    """Return a clock that shows this time, of a machine that has just been started.

    Raises:
        UsageError: it has no time zone.
    """
    start = _START if now is None else now
    if not isinstance(start, datetime) or start.tzinfo is None:
        raise UsageError(f"now is a datetime with a time zone, not {now!r}")
    return FakeClock(wall=start.timestamp(), boot_id=System().draw_name())
