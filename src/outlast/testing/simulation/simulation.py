"""Processes and one store, in which everything that happens comes from a seed.

The one rule that must not be broken: nothing that goes wrong is swallowed. An error in the log, one
that nobody has awaited, and a process that ends with one: each ends the simulation.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from contextvars import Context, ContextVar
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from outlast.store import Hint, Store, open_store
from outlast.testing.clock import FakeClock
from outlast.testing.faults import WELL, DrawnFaults, Fate, Fault, FaultyStore, Odds
from outlast.testing.simulation.loop import SimulatedLoop
from outlast.testing.simulation.process import Process, State, Work
from outlast.testing.simulation.trace import Happening, SimulationFailed, listening
from outlast.testing.wrapping import Verb

T = TypeVar("T")

PATIENCE: Final = 3.0
"""Seconds for which a process waits for an answer of the store."""

NEARBY: Final = Odds(latency=(0.0005, 0.02))
"""A network on which nothing is lost."""

asking: Final[ContextVar[str]] = ContextVar("asking", default="late")
"""Which request the store answers."""

_PLURALS: Final[dict[Fault, str]] = {
    "lost request": "lost requests",
    "lost reply": "lost replies",
    "late request": "late requests",
    "pause": "pauses",
    "lost hint": "lost hints",
    "late hint": "late hints",
    "repeated hint": "repeated hints",
}


class Simulation:
    """A store, a clock, and processes that come and go; a context manager.

    Time passes only while nobody has anything to do. The same seed gives the same trace.

    Args:
        seed: draws all chance: the network's, that of the processes, and who is next.
        odds: what happens on the way between processes and the store.
        make_store: makes the store that they share, which goes by the simulation's clock, and waits
            for nothing; None: one in memory.

    Attributes:
        clock: of everybody.
        chance: the seed's, for whatever else is to be drawn.
        totals: how often what happened.
        processes: all that there were, in the order in which they were opened.
        ended: the names that were given to those that have ended by themselves.
        at_request: called with each process that makes a request, before that is on its way.
    """

    seed: int
    clock: FakeClock
    chance: random.Random
    odds_on_the_way: Odds

    def __init__(
        self,
        seed: int,
        *,
        odds: Odds = NEARBY,
        make_store: Callable[[Simulation], Store] | None = None,
    ) -> None:
        self.seed = seed
        self.clock = FakeClock()
        self.chance = random.Random(seed)
        self.odds = odds
        self.totals: Counter[str] = Counter()
        self.processes: list[Process] = []
        self.ended: set[str] = set()
        self.at_request: Callable[[Process], None] = lambda _: None
        # In half of the simulations callbacks run in their order, as asyncio promises; in the other
        # half in any, as where events come from outside.
        self._shuffled = self.chance.choice((random.Random(seed), None))
        self._trace: list[Happening] = []
        self._failure: SimulationFailed | None = None
        self._cause: BaseException | None = None
        self._requests = 0
        self._names: Counter[str] = Counter()
        self._stack = ExitStack()
        self._is_over = False
        self._awake: dict[SimulatedLoop, None] = {}  # what has something to do, in a certain order
        self._alarms: list[tuple[float, int, SimulatedLoop]] = []  # a heap
        self._numbers = count()
        self._loops: list[SimulatedLoop] = []
        self._server_loop = self.open_loop()
        store = make_store(self) if make_store else open_store("memory://", clock=self.clock)
        self._server = FaultyStore(store, _Pauses(self), patience=PATIENCE)
        self._links: list[FaultyStore] = [self._server]

    # Being a context manager

    def __enter__(self) -> Self:
        is_enabled = gc.isenabled()
        gc.disable()  # it would end what is left at some moment that no seed decides
        if is_enabled:
            self._stack.callback(gc.enable)
        self._stack.enter_context(listening(self._hear))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go what is left; raise what has gone wrong, if nobody has.

        Raises:
            SimulationFailed: something went wrong.
        """
        if kind is None:
            gc.collect(0)  # an error that nobody has awaited says so now
            for process in self.processes:
                if process.state is State.ENDED and (left := process.tasks()):
                    self.fail(f"{process.name} has ended, and has left {left[0]!r} behind")
        with self._stack:
            self._bury()
        if kind is None:
            self._check()

    # What happens

    @property
    def odds(self) -> Odds:
        """What happens to requests; it may be changed at any time."""
        return self._odds

    @odds.setter
    def odds(self, odds: Odds) -> None:
        self._odds = odds
        self.odds_on_the_way = replace(odds, pause=0.0)  # the server pauses for all of them

    @property
    def now(self) -> float:
        """The simulation's seconds."""
        return self.clock.boot()

    def trace(self, who: str, what: str) -> None:
        """Note that something happens."""
        if not self._is_over:
            self._trace.append(Happening(self.now, who, what))

    def happenings(self, last: int | None = None) -> Sequence[Happening]:
        """Return what has happened, or only the last of it."""
        return self._trace[-last:] if last else self._trace

    def digest(self) -> str:
        """Return a digest of all that has happened."""
        hasher = hashlib.sha256()
        for happening in self._trace:
            hasher.update(f"{happening}\n".encode())
        return hasher.hexdigest()

    def fail(self, message: str, cause: BaseException | None = None) -> None:
        """End the simulation: something went wrong; the first one counts."""
        if self._failure is None and not self._is_over:
            self.trace("!", message)
            self._failure = SimulationFailed(message, self.seed, self._trace)
            self._cause = cause

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure from self._cause

    def _hear(self, level: int, message: str) -> None:
        if level >= logging.ERROR:
            self.fail(message)
        else:
            self.trace("log", message)

    # Processes

    def open(self, name: str, work: Work | None = None, **settings: Any) -> Process:
        """Start a process.

        Args:
            name: for the trace; numbered where it was used before.
            work: what it does with its app; None: it is there for its worker, until it is asked to
                end.
            **settings: those of `outlast.open`.
        """
        self._names[name] += 1
        numbered = name if self._names[name] == 1 else f"{name}.{self._names[name]}"
        link = FaultyStore(self._server, patience=PATIENCE)
        self._links.append(link)
        self.trace(numbered, "begins")
        process = Process(self, name, numbered, work=work, link=link, settings=settings)
        link.faults = _Way(self, process)
        self.processes.append(process)
        return process

    def open_loop(self) -> SimulatedLoop:
        """Return another event loop, which takes its steps from now on; it ends with this."""
        loop = SimulatedLoop(self.clock, self._shuffled, self.wake, self.fail)
        self._loops.append(loop)
        return loop

    def wake(self, loop: SimulatedLoop, at: float = 0.0) -> None:
        """Let the loop take a step at this time; by then it may have nothing to do."""
        if at:
            heappush(self._alarms, (at, next(self._numbers), loop))
        else:
            self._awake[loop] = None

    def carry(
        self,
        process: Process,
        verb: Verb,
        request: Callable[[Store], Awaitable[T]],
        answered: asyncio.Future[T],
    ) -> None:
        """Carry a request to the store, and its answer back."""
        self._requests += 1
        name = f"{process.name}#{self._requests}"
        self.trace(name, f"asks: {verb}")

        async def serve() -> None:
            asking.set(name)
            answer: T | Exception
            try:
                answer = await request(process.link)
            except Exception as error:  # noqa: BLE001 - it is the answer
                answer = error
                self.trace(name, f"{type(error).__name__}: {error}")
            else:
                self.trace(name, "is answered")
            process.answer(answered, answer)

        self._server_loop.create_task(serve(), name=name, context=Context())

    # Time

    def run(self, until: Callable[[], bool], *, within: float) -> None:
        """Let things happen until `until()`, which is asked again and again.

        Raises:
            SimulationFailed: something went wrong; or it did not come within so many seconds.
        """
        ends = self.now + within
        while not until():
            if self.now > ends:
                self.fail(f"it did not come to its end within {within:g} s")
            elif not self._go_on():
                self.fail("everybody waits, and nothing is to come")
            self._check()

    def _go_on(self) -> bool:
        """Let one loop take a step, or time pass until one may; False if none ever will."""
        if awake := self._awake:
            loop = next(iter(awake)) if len(awake) == 1 else self.chance.choice(list(awake))
            del awake[loop]
            if loop.held_until > self.now:
                self.wake(loop, loop.held_until)
            else:
                loop.step()
                if loop.is_ready:
                    awake[loop] = None
        elif self._alarms:
            first = self._alarms[0][0]
            self.clock.advance(max(0.0, first - self.now))
        else:
            return False
        until = self.now
        while self._alarms and self._alarms[0][0] <= until:
            awake[heappop(self._alarms)[-1]] = None
        return True

    def count(self) -> Counter[str]:
        """Return how often what happened, the network's faults included."""
        totals = self.totals.copy()
        for link in self._links:
            for fault, plural in _PLURALS.items():
                totals[plural] += link.counts[fault]
        return totals

    # The end

    def _bury(self) -> None:
        """End what still lives, so that nothing of it is left in memory."""
        self._is_over = True
        for process in self.processes:
            process.bury()
        self._awake, self._alarms = dict.fromkeys(self._loops), []
        while left := [task for loop in self._loops for task in asyncio.all_tasks(loop)]:
            for task in left:
                task.cancel()
            ends = self.now + 100
            while self.now < ends and not all(task.done() for task in left):
                self._go_on()
        for loop in self._loops:
            loop.close()
        self.processes.clear()
        gc.collect(1)  # all that has come to be since the simulation began, and is not needed


class _Way:
    """What happens on the way between one process and the server."""

    def __init__(self, simulation: Simulation, process: Process) -> None:
        self._simulation, self._process = simulation, process
        self._drawn = DrawnFaults(simulation.chance, simulation.odds)

    def of_request(self, verb: Verb) -> Fate:
        simulation = self._simulation
        simulation.at_request(self._process)
        self._drawn.odds = simulation.odds_on_the_way
        fate = self._drawn.of_request(verb)
        if fate.there is None or fate.back is None or fate.there > PATIENCE:
            simulation.trace(asking.get(), f"fares badly: {fate}")
        return fate

    def of_hint(self, hint: Hint) -> Sequence[float]:
        self._drawn.odds = self._simulation.odds_on_the_way
        return self._drawn.of_hint(hint)


class _Pauses:
    """When the server answers nobody."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def of_request(self, verb: Verb) -> Fate:  # noqa: ARG002 - all verbs are alike
        chance, odds = self._simulation.chance, self._simulation.odds
        if chance.random() >= odds.pause:
            return WELL
        fate = Fate(pause=chance.uniform(*odds.pauses_for))
        self._simulation.trace("server", f"pauses for {fate.pause:.3f} s")
        return fate

    def of_hint(self, hint: Hint) -> Sequence[float]:  # noqa: ARG002 - each link has its own
        return (0.0,)
