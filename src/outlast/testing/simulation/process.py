"""Simulated processes: each has an app on event loops of its own, and may be killed or frozen.

The one rule that must not be broken: nothing of a process that was killed happens afterwards, not
even what its `finally` blocks would do. Its loops take no step, and nobody listens to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Context
from enum import Enum
from inspect import signature
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from outlast.engine.app import App, current
from outlast.engine.app import open as open_app
from outlast.engine.threads import Threads
from outlast.errors import Unavailable, UsageError
from outlast.store import Hint, Listener, Store
from outlast.testing.simulation.loop import SimulatedLoop
from outlast.testing.system import SeededSystem
from outlast.testing.wrapping import Verb, WrappedStore

if TYPE_CHECKING:
    from outlast.testing.simulation.simulation import Simulation

P = ParamSpec("P")
T = TypeVar("T")

Work = Callable[[App], Awaitable[None]]

_SETTINGS: Final[Mapping[str, Any]] = {
    name: setting.default for name, setting in signature(open_app).parameters.items()
}
"""What a setting is that is not given."""


class State(Enum):
    """Whether a process lives: it was killed, or has ended by itself."""

    ALIVE = "alive"
    KILLED = "killed"
    ENDED = "ended"


class Process:
    """A process that opens an app, does some work with it, leaves it, and ends.

    Attributes:
        base: the name that it has in common with its successors.
        name: its own.
        work: what it does; None: it is there for its worker, until it is asked to end.
        simulation: that it belongs to.
        loops: its own, and those of what it runs beside, which would be threads.
        link: its way to the store, used in the server's loop.
    """

    base: str
    name: str
    work: Work | None
    link: Store
    settings: Mapping[str, Any]
    state: State
    is_asked_to_end: bool

    def __init__(
        self,
        simulation: Simulation,
        base: str,
        name: str,
        *,
        work: Work | None,
        link: Store,
        settings: Mapping[str, Any],
    ) -> None:
        self.base, self.name, self.work, self.link = base, name, work, link
        self.settings = settings
        self.state, self.is_asked_to_end = State.ALIVE, False
        self.loops: list[SimulatedLoop] = []
        self.simulation = simulation
        self._main_loop = self._open_loop()
        self._end = asyncio.Event()
        self._left: list[asyncio.Task[Any]] = []
        self._asked = 0
        self._unwatch: list[Callable[[], None]] = []
        system, store = _System(self), _Connection(self)
        usual: dict[str, Any] = {**_SETTINGS, "url": "memory://", **settings}
        app = App(**usual, system=system, store=store)
        self._main = self._main_loop.create_task(self._live(app), name=name, context=Context())
        self._main.add_done_callback(self._note_end)

    async def _live(self, app: App) -> None:
        async with app:
            current.set(app)
            if self.work is None:
                await self._end.wait()
            else:
                await self.work(app)

    def _note_end(self, main: asyncio.Task[None]) -> None:
        if self.state is State.ALIVE:
            self.state = State.ENDED
            self.simulation.trace(self.name, "ends")
            for task in self.tasks():  # as `asyncio.run` does
                task.cancel()
            if not main.cancelled() and (error := main.exception()) is not None:
                self.simulation.fail(f"{self.name} ends with {error!r}", error)
            self.simulation.ended.add(self.base)

    def _open_loop(self) -> SimulatedLoop:
        loop = self.simulation.open_loop()
        self.loops.append(loop)
        return loop

    def run_beside(self, work: Coroutine[Any, Any, None], name: str) -> Awaitable[None]:
        """Run the coroutine on a loop of its own, which our own cannot hold up."""
        main, beside = self._main_loop, self._open_loop()
        ended = main.create_future()

        def tell(task: asyncio.Task[None]) -> None:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is None:
                main.call_soon(ended.set_result, None, context=Context())
            else:
                main.call_soon(ended.set_exception, error, context=Context())

        beside.create_task(work, name=name, context=Context()).add_done_callback(tell)
        return ended

    # What befalls it

    def _befall(self, what: str, count: str) -> None:
        self.simulation.trace(self.name, what)
        self.simulation.totals[count] += 1

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._befall("is killed", "kills")
        self._stop_listening()
        self.state = State.KILLED
        self._left = self.tasks()  # nobody else keeps them
        for loop in self.loops:
            loop.held_until = inf

    def freeze(self, seconds: float) -> None:
        """Let it stand still; then it goes on as if nothing had happened."""
        self._befall(f"freezes for {seconds:.3f} s", "freezes")
        for loop in self.loops:
            loop.held_until = self._main_loop.time() + seconds

    def block(self, seconds: float) -> None:
        """Let its event loop stand still, as behind a call that blocks; its threads go on."""
        self._befall(f"is blocked for {seconds:.3f} s", "blocks")
        self._main_loop.held_until = self._main_loop.time() + seconds

    def thaw(self) -> None:
        """Let it go on now."""
        for loop in self.loops:
            loop.held_until = 0.0
            self.simulation.wake(loop)

    @property
    def is_held(self) -> bool:
        """Whether it stands still."""
        return any(loop.held_until > loop.time() for loop in self.loops)

    def ask_to_end(self) -> None:
        """Ask it to leave its app and end, as SIGTERM does; only one without work of its own."""
        self._befall("is asked to end", "shutdowns")
        self.is_asked_to_end = True
        self._main_loop.call_soon(self._end.set)

    # The network

    async def send(self, verb: Verb, request: Callable[[Store], Awaitable[T]]) -> T:
        """Make a request of the store, and return its answer."""
        if self.state is not State.ALIVE:
            raise Unavailable(f"{self.name} is dead")
        answered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.simulation.carry(self, verb, request, answered)
        self._asked += 1
        try:
            return await answered
        finally:
            self._asked -= 1

    @property
    def is_asking(self) -> bool:
        """Whether it waits for an answer of the store, or has not taken note of one yet."""
        return self._asked > 0

    def answer(self, answered: asyncio.Future[T], answer: T | Exception) -> None:
        """Hear an answer, unless it comes too late."""
        if self.state is not State.ALIVE or answered.done():
            return
        if isinstance(answer, Exception):
            answered.set_exception(answer)
        else:
            answered.set_result(answer)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call the listener in our own loop, when the server hints at something."""

        def hear(hint: Hint) -> None:
            self._main_loop.call_soon(listener, hint, context=Context())

        unwatch = self.link.watch(hear)
        self._unwatch.append(unwatch)
        return unwatch

    def _stop_listening(self) -> None:
        for unwatch in self._unwatch:
            unwatch()

    # Its end

    def bury(self) -> None:
        """Let it go on only to let go what it still holds."""
        self._stop_listening()
        if self.state is State.ALIVE:
            self.state = State.KILLED
        self._left = []
        self.thaw()

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return its tasks that have not ended."""
        return [task for loop in self.loops for task in asyncio.all_tasks(loop)]


class _Connection(WrappedStore):
    """A store that is somewhere else."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.link)
        self._process = process

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the store to the others."""

    async def _ask(self, verb: Verb, about: Any, request: Callable[[Store], Awaitable[T]]) -> T:  # noqa: ARG002
        return await self._process.send(verb, request)

    def watch(self, listener: Listener) -> Callable[[], None]:
        return self._process.listen(listener)


class _System(SeededSystem):
    """The machine of one process."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.simulation.clock, process.simulation.chance.getrandbits(64))
        self._process = process
        self.handlers: Threads = _NoThreads()
        self.steps: Threads = _NoThreads()

    def run_beside(self, work: Callable[[], Awaitable[None]], name: str) -> Awaitable[None]:
        """Run the coroutine in a loop of its own."""

        async def run() -> None:
            await work()

        return self._process.run_beside(run(), name)


class _NoThreads(Threads):
    """In place of threads: they have no order that a seed could decide."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: ARG002
        raise UsageError(
            "a simulation has no threads: make the handler, and the functions of its steps, "
            "`async def`"
        )
