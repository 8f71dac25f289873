"""Worlds for tests of the engine: one store, one clock, and processes that die where a test says.

A *process* is an event loop with an app of its own. Killed, its loop is not run any more: nothing
of it happens afterwards, as after `kill -9`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from outlast import App, Unavailable
from outlast.codec import from_text
from outlast.engine.payloads import MAX_PAYLOAD
from outlast.journal import Change, Head
from outlast.model.events import FOLDED_TYPES, TYPE_OF, Checkpointed, Event, decode, encode
from outlast.model.fold import fold
from outlast.model.run import Run
from outlast.store import Listener, Store
from outlast.stores.memory import MemoryStore
from outlast.testing import FakeClock, FakeSystem, SkippingLoop
from outlast.testing.wrapping import Verb, WrappedStore

T = TypeVar("T")

LEASE: Final = 15.0

Interruption = Callable[[Verb, Any], Awaitable[None]]


async def _nothing(verb: Verb, argument: Any) -> None:
    """Interrupt nothing."""


class Wire(WrappedStore):
    """The way from one process to a store: `before` and `after` each call, anything may happen."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.store = store
        self.before: Interruption = _nothing
        self.after: Interruption = _nothing
        self._unwatch: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the store to the others."""

    async def _ask(self, verb: Verb, about: Any, request: Callable[[Store], Awaitable[T]]) -> T:
        await self.before(verb, about)
        answer = await super()._ask(verb, about, request)
        await self.after(verb, about)
        return answer

    def watch(self, listener: Listener) -> Callable[[], None]:
        self._unwatch.append(super().watch(listener))
        return self._unwatch[-1]

    def cut(self) -> None:
        """Let nothing be heard any more."""
        for unwatch in self._unwatch:
            unwatch()


def open_app(system: FakeSystem, store: Wire, **settings: Any) -> App:
    """Return an app on the store, with the settings that differ from the usual ones."""
    usual = {
        "worker": True,
        "concurrency": 10,
        "queues": ("default",),
        "lease": timedelta(seconds=LEASE),
        "grace": timedelta(seconds=10),
        "namespace": "default",
        "resources": None,
        "max_payload": MAX_PAYLOAD,
    }
    return App("memory://", system=system, store=store, **{**usual, **settings})


def run_of(store: MemoryStore, id: str) -> Run:
    """Return what the entries of a run add up to now."""
    entries = store._entries.get(f"run/{id}", [])
    return fold(entry for entry in entries if entry.type in FOLDED_TYPES)


def head_of(store: MemoryStore, id: str) -> Head:
    """Return the head of a run as it is now."""
    return store._heads[f"run/{id}"]


def types_of(store: MemoryStore, id: str) -> list[str]:
    """Return the types of a run's entries."""
    return [entry.type for entry in store._entries[f"run/{id}"]]


async def put(store: MemoryStore, id: str, events: Sequence[Event]) -> None:
    """Write a run as somebody has left it who has died since."""
    run = Run()
    for event in events:
        run.evolve(event, 0.0)
    entries = tuple(encode(event) for event in events)
    change = Change(key=f"run/{id}", id="put", entries=entries, card=run.card(), revision=0)
    await store.commit(change)


# Processes that die


@dataclass(frozen=True)
class Died:
    """In place of a process's answer."""


DIED: Final = Died()


@dataclass(frozen=True)
class Crash:
    """The process dies at its n-th write, from 1: before the store has heard of it, or after."""

    write: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'} write {self.write}"


@dataclass(frozen=True)
class Lost:
    """The n-th call of the store, from 1, does not arrive; or its answer does not."""

    call: int
    after: bool

    def __str__(self) -> str:
        return f"{'answer' if self.after else 'call'} {self.call}"


class Process:
    """An event loop with an app, which ends by itself, or is killed or frozen where a test says."""

    def __init__(self, world: World, crash: Crash | None, lost: Lost | None) -> None:
        self.loop = SkippingLoop(world.clock)
        self.system = FakeSystem(self.loop, seed=len(world.processes))
        self.store = Wire(world.store)
        self.store.before, self.store.after = self._before, self._after
        self.is_dead, self.writes, self.calls = False, 0, 0
        self.at_write: Callable[[int], None] = lambda number: None
        """Called at each write with its number, from 1."""
        self._is_buried = False
        self._crash, self._lost = crash, lost
        self._task: asyncio.Task[Any] | None = None
        self._left: set[asyncio.Task[Any]] = set()
        self._ice: asyncio.Future[None] | None = None

    async def _before(self, verb: Verb, argument: Any) -> None:
        if self._is_buried:
            raise Unavailable("the process is dead")
        if self._ice is not None:
            await self._ice
            return
        self.calls += 1
        if self._lost == Lost(self.calls, after=False):
            raise Unavailable("the request was lost")
        if verb == "commit":
            self.writes += 1
            self.at_write(self.writes)
            if self._crash == Crash(self.writes, after=False):
                await self._die()

    async def _after(self, verb: Verb, argument: Any) -> None:
        crash = Crash(self.writes, after=True)
        if verb == "commit" and not self.is_dead and self._crash == crash:
            await self._die()
        if self._lost == Lost(self.calls, after=True):
            raise Unavailable("the reply was lost")

    async def _die(self) -> None:
        self.is_dead = True
        self.store.cut()
        self._ice = self.loop.create_future()
        self.loop.stop()
        await self._ice

    def run(self, work: Callable[[], Awaitable[T]]) -> T | Died:
        """Do the work, and return what comes of it; or that the process has died of it."""

        async def process() -> T:
            return await work()

        asyncio.set_event_loop(self.loop)
        self._task = self.loop.create_task(process())
        self._task.add_done_callback(lambda _: None if self._is_buried else self.loop.stop())
        answer: T | Died = self._run()
        return answer

    def thaw(self) -> Any:
        """Go on as if nothing had happened, long after; return what comes of the work."""
        assert self._ice is not None
        self._ice.set_result(None)
        asyncio.set_event_loop(self.loop)
        return self._run()

    def _run(self) -> Any:
        task = self._task
        assert task is not None
        try:
            self.loop.run_forever()
            if not task.done():
                self._left = asyncio.all_tasks(self.loop)  # nobody else keeps them
                return DIED
            left = asyncio.all_tasks(self.loop)
            assert not left, f"left behind: {left}"
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
            return task.result()
        finally:
            asyncio.set_event_loop(None)

    def bury(self) -> None:
        """Let go what a dead process still holds; nothing of it reaches the store."""
        if self.loop.is_closed():
            return
        self.is_dead = self._is_buried = True
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=60))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


Work = Callable[[App], Awaitable[T]]


class World:
    """A store, a clock, and the processes that come and go."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.processes: list[Process] = []
        self.effects: list[Any] = []
        """What steps have done outside."""

    def live(
        self,
        work: Work[T],
        *,
        crash: Crash | None = None,
        lost: Lost | None = None,
        **settings: Any,
    ) -> T | Died:
        """Open an app in a process of its own, and do the work with it."""
        process = Process(self, crash, lost)
        self.processes.append(process)

        async def live() -> T:
            async with open_app(process.system, process.store, **settings) as app:
                return await work(app)

        return process.run(live)

    @property
    def process(self) -> Process:
        """The process that lives now, or lived last."""
        return self.processes[-1]

    @property
    def is_heard(self) -> bool:
        """Whether the process that runs now is neither dead nor thawed."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # in a thread
            return not self.process.is_dead
        return not any(process.is_dead for process in self.processes if process.loop is loop)

    def does(self, effect: Any) -> None:
        """Take note that a step does something outside; the dead do nothing any more."""
        if self.is_heard:
            self.effects.append(effect)

    def outcomes(self, id: str) -> list[Any]:
        """Return the values that are recorded for steps of the run."""
        entries = self.store._entries.get(f"run/{id}", [])
        events = [decode(entry) for entry in entries if entry.type == TYPE_OF[Checkpointed]]
        return [
            event.value
            for event in events
            if isinstance(event, Checkpointed) and event.kind == "step" and event.error is None
        ]

    def history(self, id: str) -> list[tuple[str, Any]]:
        """Return the entries of the run, for people."""
        entries = self.store._entries.get(f"run/{id}", [])
        return [(entry.type, from_text(entry.data)) for entry in entries]


def twice(world: World, drive: Work[Any], *, write: int) -> Any:
    """Drive a run whose process dies after the write of this number, then once more to its end."""
    assert world.live(drive, crash=Crash(write, after=True)) is DIED
    return world.live(drive)


@contextmanager
def worlds() -> Iterator[Callable[[], World]]:
    """Give what makes worlds, and bury the dead of all of them in the end."""
    made: list[World] = []

    def make() -> World:
        made.append(World())
        return made[-1]

    yield make
    for world in made:
        for process in world.processes:
            process.bury()
