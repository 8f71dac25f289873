"""What the processes that are killed work on, and what must come of it."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, NoReturn

from outlast import RetryPolicy, StepUnknown, TaskContext, task
from outlast.model.events import TYPE_OF, Emitted
from tests.crash.fate import Fate, die
from tests.crash.ledger import Ledger

INPUT: Final = "a journey"
ANSWER: Final = "go!"
RESULT: Final = ["first", "a", "b", "c", "thread", "stream", "flaky", "pay", ANSWER, "last"]
UNKNOWN: Final = "unknown"
STREAM: Final = [
    ("hello", None),
    ("between", None),
    ("s1", "stream"),
    ("s2", "stream"),
    ("bye", None),
]

SOON: Final = timedelta(milliseconds=10)

MAX_RECOVERIES: Final = 3


class Here:
    """What the tasks know of the process that they are in.

    Attributes:
        hear: waits until the process was told one of these names.
        emitted: set when items of a stream were written.
    """

    def __init__(
        self,
        ledger: Ledger,
        fate: Fate,
        say: Callable[[str], None],
        hear: Callable[..., Awaitable[None]],
    ) -> None:
        self.ledger, self.fate, self.say, self.hear = ledger, fate, say, hear
        self.emitted = asyncio.Event()

    def take_note(self, types: Sequence[str]) -> None:
        if TYPE_OF[Emitted] in types:
            self.emitted.set()


_here: list[Here] = []


def enter(here: Here) -> None:
    """Be in this process from now on."""
    _here[:] = [here]


def here() -> Here:
    return _here[0]


async def work(run: str, label: str) -> str:
    """Do something outside, and give its name."""
    await here().fate.moment(f"begin of {label}")
    here().ledger.write("did", run, label)
    here().say("did")
    await here().fate.moment(f"end of {label}")
    return label


def work_in_thread(run: str, label: str) -> str:
    here().fate.meets("at", f"begin of {label}")
    here().ledger.write("did", run, label)
    here().fate.meets("at", f"end of {label}")
    return label


async def flaky(run: str, label: str) -> str:
    """Fail for the first time."""
    if not here().ledger.lines("failed", run, label):
        here().ledger.write("failed", run, label)
        await here().fate.moment(f"failure of {label}")
        raise ValueError(label)
    return await work(run, label)


@task(name="crash.journey", retry=RetryPolicy(3, initial_delay=SOON, jitter=False))
async def journey(ctx: TaskContext[str]) -> list[str]:
    """Do everything that a run may do."""
    assert ctx.input == INPUT
    here().ledger.write("entered", ctx.id, str(ctx.recovery_count))
    here().say("entered")
    await ctx.emit("hello")
    await here().fate.moment("emitted hello")
    done = [await ctx.step("work", work, ctx.id, "first")]
    await ctx.emit("between")
    done += await asyncio.gather(*(ctx.step("work", work, ctx.id, label) for label in "abc"))
    done.append(await ctx.step("thread", work_in_thread, ctx.id, "thread"))

    async def stream(run: str, label: str) -> str:
        here().emitted.clear()
        await ctx.emit("s1")
        await here().fate.moment("emitted s1")
        await here().emitted.wait()
        await here().fate.moment("accepted s1")
        await ctx.emit("s2")
        return await work(run, label)

    done.append(await ctx.step("stream", stream, ctx.id, "stream"))
    patient = ctx.step.options(retry=RetryPolicy(3, initial_delay=SOON, jitter=False))
    done.append(await patient("flaky", flaky, ctx.id, "flaky"))
    try:
        done.append(await ctx.step.options(at_most_once=True)("pay", work, ctx.id, "pay"))
    except StepUnknown:
        done.append(UNKNOWN)
    await ctx.sleep("pause", SOON)
    here().say("waits")
    await here().fate.moment("waiting")
    done.append(await ctx.wait("go", str))
    if ctx.attempt == 0:
        raise RuntimeError("the first attempt fails")
    done.append(await ctx.step("work", work, ctx.id, "last"))
    await ctx.emit("bye")
    await here().fate.moment("emitted bye")
    return done


@task(name="crash.errand")
async def errand(ctx: TaskContext[str]) -> str:
    """Do one thing."""
    here().ledger.write("entered", ctx.id, str(ctx.recovery_count))
    return await ctx.step("work", work, ctx.id, ctx.input)


@task(name="crash.patient")
async def patient(ctx: TaskContext[None]) -> int:
    """Wait for a signal, and tell how often somebody had to go on with it."""
    here().say("waits")
    await ctx.wait("go")
    return ctx.recovery_count


@task(name="crash.doomed", max_recoveries=MAX_RECOVERIES, queue="doomed")
async def doomed(ctx: TaskContext[None]) -> str:
    """Die, each time."""
    await ctx.step("work", work, ctx.id, "once")
    return await ctx.step("death", killing, ctx.id)


async def killing(run: str) -> str:
    here().ledger.write("did", run, "death")
    die()


@task(name="crash.parent")
async def parent(ctx: TaskContext[None]) -> int:
    """Leave a child behind, and go on working."""
    child = await ctx.step("fork", forking, ctx.id)
    here().say("holds")
    await ctx.step("hold", holding)
    return child


async def forking(run: str) -> int:
    child = os.fork()
    if child == 0:
        _live_on()
    here().ledger.write("child", run, str(child))
    return child


async def holding() -> None:
    await here().hear("go")


def _live_on() -> NoReturn:
    """Keep all that was inherited, but the pipes that the test waits for the end of."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    while True:
        signal.pause()
