"""Tasks that do everything that a handler may do, and tell the oracle what they see.

They are ordinary tasks. Each returns what it was told and what it has emitted, so that a result can
be held against the journal.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from outlast import RetryPolicy, StepUnknown, Task, TaskContext, task
from outlast.testing.simulation.budget import Budget
from outlast.testing.simulation.oracle import Oracle


class Flaw(Exception):
    """A step failed by chance."""


@dataclass(slots=True)
class Story:
    """What a handler was told, by label, and the items that it has emitted."""

    told: dict[str, str]
    emitted: list[str]


@dataclass(frozen=True, slots=True)
class Outside:
    """What handlers get as `ctx.resources`: who notes what they do, and their chance."""

    oracle: Oracle
    chance: random.Random


class Act:
    """One entry into a handler."""

    def __init__(self, ctx: TaskContext[Any]) -> None:
        self._ctx = ctx
        outside: Outside = ctx.resources
        self._oracle, self._chance = outside.oracle, outside.chance
        self._story = Story({}, [])
        self._emitted: dict[str, int] = {}

    @property
    def story(self) -> Story:
        """What it amounts to."""
        return self._story

    def tell(self, label: str, outcome: str, *, after: float = 0.0) -> str:
        """Note what the handler was told."""
        self._oracle.tell(self._ctx.input_id, label, outcome, after=after)
        self._story.told[label] = outcome
        return outcome

    async def step(
        self,
        label: str,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        fails: float = 0.0,
        emits: int = 0,
        at_most_once: bool = False,
        lasts: float = 1.0,
    ) -> str:
        """Run a step of about so many seconds, which fails by chance; return what came of it."""
        ctx, chance = self._ctx, self._chance

        async def body(label: str) -> str:
            execution = self._oracle.begin(ctx.input_id, label, ctx.token, once=at_most_once)
            for number in range(emits):
                await ctx.emit(f"{execution}/{number}")
                await asyncio.sleep(chance.random() * lasts / 4)
            await asyncio.sleep(chance.random() * lasts)
            if chance.random() < fails:
                raise Flaw(execution)
            return execution

        step = ctx.step.options(retry=retry, at_most_once=at_most_once)
        try:
            return self.tell(label, await step(name or label, body, label))
        except StepUnknown:
            return self.tell(label, "unknown")

    async def emit(self, origin: str = "main") -> None:
        """Emit an item outside of steps."""
        self._emitted[origin] = number = self._emitted.get(origin, 0) + 1
        item = f"{origin}:{number}"
        self._story.emitted.append(item)
        await self._ctx.emit(item)

    async def wait(self, label: str, timeout: float | None = None) -> str:
        """Wait for the next word, perhaps not for ever."""
        self._oracle.ask(self._ctx.input_id, label)
        limit = None if timeout is None else timedelta(seconds=timeout)
        try:
            return self.tell(label, await self._ctx.wait("word", str, timeout=limit))
        except TimeoutError:
            assert timeout is not None
            return self.tell(label, "nothing", after=timeout)

    async def sleep(self, label: str, seconds: float) -> None:
        """Sleep."""
        self._oracle.ask(self._ctx.input_id, label)
        await self._ctx.sleep(label, timedelta(seconds=seconds))
        self.tell(label, "slept", after=seconds)


QUICKLY: Final = RetryPolicy(
    6, initial_delay=timedelta(seconds=0.2), max_delay=timedelta(seconds=2)
)


RARELY: Final = RetryPolicy(3, initial_delay=timedelta(seconds=0.1))


@task(name="simulated.work", retry=QUICKLY, errors=[Flaw])
async def work(ctx: TaskContext[int]) -> Story:
    """Do steps that fail, and are tried again, with the run or by themselves."""
    act = Act(ctx)
    for number in range(ctx.input):
        await act.emit()
        await act.step(f"plain{number}", emits=1)
        await act.step(f"tried{number}", retry=QUICKLY, fails=0.3, emits=2)
    await act.step("fragile", fails=0.3, emits=1)
    await act.emit()
    return act.story


@task(name="simulated.talk")
async def talk(ctx: TaskContext[int]) -> Story:
    """Wait for one word after the other, for some of them not for ever."""
    act = Act(ctx)
    for number in range(ctx.input):
        await act.wait(f"word{number}", timeout=2.0 + number if number % 2 else None)
        await act.emit()
        await act.step(f"answer{number}", lasts=0.3)
    return act.story


@task(name="simulated.tell")
async def tell(ctx: TaskContext[int]) -> Story:
    """Emit from everywhere."""
    act = Act(ctx)

    async def aside(origin: str) -> None:
        for number in range(ctx.input):
            await act.emit(origin)
            await act.step(f"{origin}{number}", lasts=0.4)
            await act.emit(origin)

    beside = asyncio.gather(aside("left"), aside("right"))
    for number in range(ctx.input):
        for _ in range(3):
            await act.emit()
        await act.step(f"loud{number}", retry=QUICKLY, fails=0.4, emits=4)
        await act.emit()
        await act.sleep(f"breath{number}", 0.2)
    await beside
    return act.story


@task(name="simulated.crowd")
async def crowd(ctx: TaskContext[int]) -> Story:
    """Do several things at once, and go on with the first that is done."""
    act = Act(ctx)
    for number in range(ctx.input):
        async with asyncio.TaskGroup() as group:
            group.create_task(act.step(f"left{number}"))
            group.create_task(act.step(f"right{number}", retry=QUICKLY, fails=0.3))
            group.create_task(act.sleep(f"nap{number}", 1.0))
            group.create_task(act.wait(f"word{number}", timeout=3.0))
        await asyncio.gather(
            *(act.step(f"same{number}{letter}", name="same", emits=1) for letter in "abc")
        )
        racing = [
            asyncio.create_task(act.step(f"{racer}{number}"))  # noqa: TID251 - a handler's own
            for racer in ("hare", "tortoise")
        ]
        await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
        act.tell(f"first{number}", "+".join(racer.result() for racer in racing if racer.done()))
        await act.emit()
        await asyncio.gather(*racing)
    return act.story


@task(name="simulated.pay", retry=QUICKLY, errors=[Flaw])
async def pay(ctx: TaskContext[int]) -> Story:
    """Do what must not be done twice."""
    act = Act(ctx)
    for number in range(ctx.input):
        await act.step(f"bill{number}", emits=1)
        await act.step(f"pay{number}", at_most_once=True)
        await asyncio.gather(
            act.step(f"fee{number}", name="once", at_most_once=True),
            act.step(f"tip{number}", name="once", at_most_once=True),
        )
    await act.step("fragile", fails=0.3)
    return act.story


@task(name="simulated.nap")
async def nap(ctx: TaskContext[int]) -> Story:
    """Sleep, and tidy up at the end."""
    act = Act(ctx)
    for number in range(ctx.input):
        try:
            await act.sleep(f"sleep{number}", 0.5 + 2.5 * (number % 3))
            await act.wait(f"word{number}", timeout=1.0)
        finally:
            await act.step(f"close{number}", lasts=0.3)
        await act.emit()
    return act.story


@task(name="simulated.obey")
async def obey(ctx: TaskContext[int]) -> Story:
    """Go on until somebody says stop, in one of three ways."""
    act = Act(ctx)
    for number in range(ctx.input):
        await act.step(f"round{number}", lasts=0.5)
        waiting = asyncio.create_task(act.wait(f"word{number}", timeout=4.0))  # noqa: TID251 - a handler's own
        stop = asyncio.create_task(ctx.cancel.wait())  # noqa: TID251 - a handler's own
        await asyncio.wait({waiting, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if ctx.cancel.is_set():
            waiting.cancel()
            await asyncio.wait({waiting})
            await act.step("tidy", lasts=0.2)
            if number % 2:
                raise asyncio.CancelledError
            return act.story
        await waiting
    return act.story


@task(name="simulated.linger")
async def linger(ctx: TaskContext[int]) -> Story:
    """Stay in memory until somebody says stop, and end by nothing else."""
    act = Act(ctx)
    await act.step("arrive", lasts=0.5)
    while not ctx.cancel.is_set():  # noqa: ASYNC110 - to wait for the event would let it leave memory
        await asyncio.sleep(0.5)
    return act.story


@task(name="simulated.falter", retry=RARELY, errors=[Flaw], max_recoveries=2)
async def falter(ctx: TaskContext[int]) -> Story:
    """Fail each time, until it has failed often enough, or two processes in a row have died."""
    act = Act(ctx)
    for number in range(ctx.input * 3):  # so that several processes die, but not in a row
        await act.step(f"plain{number}")
    await act.step("hopeless", retry=RARELY, fails=1.0, emits=1)
    return act.story


TASKS: Final[tuple[Task[int, Story], ...]] = (
    work,
    talk,
    tell,
    crowd,
    pay,
    nap,
    obey,
    linger,
    falter,
)

BUDGETS: Final[Mapping[str, Budget]] = {
    **{one.name: Budget() for one in TASKS},
    work.name: Budget(attempts=6),
    pay.name: Budget(attempts=6),
    falter.name: Budget(attempts=3, deaths=2),
}
"""What runs of these tasks may use up, as they are declared above."""
