"""What befalls the processes of a simulation, until it is to heal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from outlast.testing.faults import Odds
from outlast.testing.simulation.process import Process, State
from outlast.testing.simulation.simulation import Simulation

Blow = Literal["kill", "freeze", "block", "shutdown", "jump"]

BLOWS: Final[Mapping[Blow, float]] = {"kill": 4, "freeze": 4, "block": 1, "shutdown": 2}
"""How likely each blow is, unless you say something else."""

_LOOKS_AGAIN: Final = 0.01
"""Seconds until another look at a process that is to be blocked, and waits for an answer."""

NETWORK: Final = Odds(
    lost_request=0.02,
    lost_reply=0.03,
    late_request=0.01,
    pause=0.001,
    lost_hint=0.3,
    late_hint=0.05,
    repeated_hint=0.05,
    latency=(0.0005, 0.03),
    late_by=(3.5, 12.0),
    pauses_for=(0.5, 5.0),
)
"""What happens on the network, unless you say something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How much befalls a simulation.

    Attributes:
        lasts: seconds until it heals.
        odds: what happens on the network.
        blows: how likely each is, compared with the others. `block` stops an event loop and not its
            threads, `jump` sets the wall clock.
        every: seconds, at least and at most, between two blows.
        at_request: how likely a blow that kills or freezes waits for the next request of its
            process, and comes while that is on its way.
        freezes_for, blocks_for: seconds, at least and at most.
        restarts_after: seconds, at least and at most, until what was killed has a successor.
        jumps_by: seconds, at most, by which the wall clock is set forward or back.
    """

    lasts: float = 16.0
    odds: Odds = NETWORK
    blows: Mapping[Blow, float] = field(default_factory=lambda: dict(BLOWS))
    every: tuple[float, float] = (0.3, 3.0)
    at_request: float = 0.5
    freezes_for: tuple[float, float] = (0.5, 10.0)
    blocks_for: tuple[float, float] = (1.0, 6.0)
    restarts_after: tuple[float, float] = (0.1, 2.0)
    jumps_by: float = 3.0


class Troublemaker:
    """Brings trouble over the processes of a simulation; what was killed gets a successor.

    Attributes:
        on_jump: called with the seconds by which the wall clock was set, forward or back.
    """

    def __init__(self, simulation: Simulation, trouble: Trouble) -> None:
        self.on_jump: Callable[[float], None] = lambda _: None
        self._simulation, self._trouble = simulation, trouble
        self._chance = simulation.chance
        self._armed: dict[Process, Literal["kill", "freeze"]] = {}
        self._loop = simulation.open_loop()
        self._is_over = False

    def begin(self) -> None:
        """Let it begin now, and end by itself."""
        simulation = self._simulation
        simulation.odds = self._trouble.odds
        simulation.at_request = self._strike_at_request
        self._loop.call_later(self._trouble.lasts, self._heal)
        self._plan()

    def _plan(self) -> None:
        self._loop.call_later(self._within(self._trouble.every), self._strike)

    def _strike(self) -> None:
        if self._is_over:
            return
        blows = self._trouble.blows
        [blow] = self._chance.choices(list(blows), list(blows.values()))
        process = self._chance.choice(self._alive())
        match blow:
            case "jump":
                self._jump()
            case "shutdown":
                if process.work is None:
                    process.ask_to_end()
                    self._succeed(process)
            case "block":
                self._block(process, self._within(self._trouble.blocks_for))
            case _ if self._chance.random() < self._trouble.at_request:
                self._armed[process] = blow
            case _:
                self._hit(process, blow)
        self._plan()

    def _block(self, process: Process, seconds: float) -> None:
        """Block it as soon as it waits for no answer: nobody keeps a lease unheard of."""
        if process.state is not State.ALIVE or self._is_over:
            return
        if process.is_asking:
            self._loop.call_later(_LOOKS_AGAIN, self._block, process, seconds)
        else:
            process.block(seconds)

    def _alive(self) -> list[Process]:
        return [p for p in self._simulation.processes if p.state is State.ALIVE]

    def _strike_at_request(self, process: Process) -> None:
        blow = self._armed.pop(process, None)
        if blow is not None and process.state is State.ALIVE and not self._is_over:
            self._hit(process, blow)

    def _hit(self, process: Process, blow: Literal["kill", "freeze"]) -> None:
        if blow == "freeze":
            process.freeze(self._within(self._trouble.freezes_for))
        else:
            process.kill()
            self._succeed(process)

    def _succeed(self, process: Process) -> None:
        """Open a successor after a while, unless the process has done its work."""

        def open_successor() -> None:
            self._simulation.open(process.base, process.work, **process.settings)

        self._loop.call_later(self._within(self._trouble.restarts_after), open_successor)

    def _jump(self) -> None:
        seconds = self._chance.uniform(-1, 1) * self._trouble.jumps_by
        self._simulation.trace("clock", f"is set by {seconds:+.3f} s")
        self._simulation.totals["jumps"] += 1
        self._simulation.clock.jump(seconds)
        self.on_jump(abs(seconds))

    def _heal(self) -> None:
        """Let all be well from now on: only what is on its way may still be late."""
        self._is_over = True
        self._simulation.trace("world", "heals")
        self._simulation.odds = Odds(latency=self._trouble.odds.latency)
        for process in self._alive():
            process.thaw()

    @property
    def is_over(self) -> bool:
        """Whether nothing befalls anybody any more."""
        return self._is_over

    def _within(self, bounds: tuple[float, float]) -> float:
        return self._chance.uniform(*bounds)
