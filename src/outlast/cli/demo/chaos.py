"""Kills the process that an agent works in, again and again, and starts another each time.

The one rule that must not be broken: when to kill follows from the seed and from how far the agent
has come, never from the clock alone, so that every kill finds the agent at work on machines of any
speed.
"""

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from outlast.cli.demo.agent import LAST_STEP, Step, steps_of
from outlast.cli.demo.ledger import Ledger, Line

MIN_KILLS: Final = 5
MAX_KILLS: Final = 8

MAX_DELAY: Final = 0.03
"""Seconds at most from seeing the agent begin a step to the kill, inside this step or after it."""

POLL: Final = 0.002
"""Seconds between two looks into the ledger."""

MAX_ACCIDENTS: Final = 3
"""Workers that die more often than this without being killed by us do not die by accident."""


LAST_WORDS: Final = 20
"""So many lines of the workers' log are shown when it goes wrong."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill: `delay` seconds after the agent was seen to begin a step."""

    step: Step
    delay: float


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed.

    Attributes:
        line: the last line that it wrote into the ledger.
        status: what became of the process, as its parent was told: minus the signal's number.
        resumed_after: seconds until the worker that came next wrote its first line; None: it has
            not yet.
    """

    pid: int
    line: Line
    status: int
    at: float
    resumed_after: float | None = None

    @property
    def is_inside_step(self) -> bool:
        """Whether a step had begun and not ended."""
        return self.line.mark == "began"


class WorkerDied(Exception):
    """The worker ends by itself, again and again; the message shows what it said last."""


def plan(files: int, seed: int) -> list[Moment]:
    """Choose when to kill: at least `MIN_KILLS` different steps, none of them the last one."""
    chance = random.Random(seed)  # noqa: S311 - a seed is to bring the same moments back
    steps = steps_of(files)[:-1]
    count = min(chance.randint(MIN_KILLS, MAX_KILLS), len(steps))
    chosen = sorted(chance.sample(range(len(steps)), count))
    return [Moment(steps[index], chance.uniform(0, MAX_DELAY)) for index in chosen]


class Disruption:
    """One worker process at a time, killed at the planned moments; the last one is left alone.

    Args:
        arguments: of the worker: the database, and the queue.
        ledger: what its steps write to.
        log: where its output goes.
        files: how many the agent reads.
        moments: when to kill.
        on_kill: called with each kill, and again when the next worker has gone on.

    Attributes:
        kills: those that were done.
        accidents: how many workers died without being killed by us.
        lines: what was seen in the ledger.
        is_over: set once no kill is left to do.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        ledger: Path,
        log: Path,
        *,
        files: int,
        moments: Sequence[Moment] = (),
        on_kill: Callable[[Kill], None] = lambda _: None,
    ) -> None:
        self.kills: list[Kill] = []
        self.accidents: int = 0
        self.lines: list[Line] = []
        self.is_over: asyncio.Event = asyncio.Event()
        self._arguments, self._log, self._moments = arguments, log, moments
        self._places = {step: place for place, step in enumerate(steps_of(files))}
        self._ledger = Ledger(ledger)
        self._on_kill = on_kill

    async def run(self) -> None:
        """Disrupt, then keep a worker running; until cancelled. No worker is left behind.

        Raises:
            WorkerDied: workers die without our doing.
        """
        # A worker whose kill is late stops where the next one is to die.
        holds = [*(moment.step for moment in self._moments[1:]), LAST_STEP]
        for moment, hold in zip(self._moments, holds, strict=False):
            while not await self._work_until(moment, hold):
                pass
        self.is_over.set()
        while True:
            await self._work_until(None, None)

    async def _work_until(self, moment: Moment | None, hold: Step | None) -> bool:
        """Run a worker until it is killed at its moment; return False if it dies before that."""
        worker = await self._start(hold)
        try:
            while worker.returncode is None:
                lines = await self._look(worker.pid)
                if moment is not None and self._is_reached(moment, lines):
                    await asyncio.sleep(moment.delay)
                    break
            at = time.monotonic()
        finally:
            status = await _kill(worker)
            self.lines += self._ledger.new_lines()
        if moment is not None and status == -signal.SIGKILL:
            last = next(line for line in reversed(self.lines) if line.pid == worker.pid)
            self.kills.append(Kill(worker.pid, last, status, at))
            self._on_kill(self.kills[-1])
            return True
        self._take_note_of_accident(status)
        return False

    async def _start(self, hold: Step | None) -> asyncio.subprocess.Process:
        """Start a worker; it dies with us, because its standard input is a pipe that we hold."""
        arguments = (*self._arguments, *map(str, hold or ()))
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "outlast.cli.demo.worker", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at the terminal is for us
            )

    async def _look(self, pid: int) -> list[Line]:
        """Return what the worker wrote into the ledger since the last look."""
        await asyncio.sleep(POLL)
        new = [line for line in self._ledger.new_lines() if line.pid == pid]
        self.lines += new
        if new and self.kills and self.kills[-1].resumed_after is None:
            kill = self.kills[-1]
            self.kills[-1] = replace(kill, resumed_after=new[0].at - kill.at)
            self._on_kill(self.kills[-1])
        return new

    def _is_reached(self, moment: Moment, lines: Sequence[Line]) -> bool:
        wanted = self._places[moment.step]
        return any(self._places[line.step, line.number] >= wanted for line in lines)

    def _take_note_of_accident(self, status: int) -> None:
        self.accidents += 1
        if self.accidents > MAX_ACCIDENTS:
            raise WorkerDied(f"they end by themselves, with status {status}{self.last_words()}")

    def last_words(self) -> str:
        """Return the last lines that workers wrote into their log, if any."""
        if not self._log.exists():
            return ""
        lines = self._log.read_text(errors="backslashreplace").splitlines()[-LAST_WORDS:]
        return "".join(f"\n  {line}" for line in lines)


async def _kill(worker: asyncio.subprocess.Process) -> int:
    """Kill the worker, if it still lives, and return its status once it is gone."""
    if worker.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
    return await worker.wait()
