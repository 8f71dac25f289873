"""Tasks that run in processes of their own: a child imports this module."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import outlast
from outlast import RetryPolicy, StepUnknown, TaskContext, sync, task

MINUTES = 600

TELLS = "OUTLAST_TEST_TELLS"
"""The variable with the pipe into which a child says its number."""


@dataclass
class Question:
    text: str


@dataclass
class Answer:
    text: str
    pid: int


class Refused(Exception):
    pass


def answer(question: Question) -> Answer:
    return Answer(question.text.upper(), os.getpid())


@task(isolation="process")
async def ask(ctx: TaskContext[Question]) -> Answer:
    return await ctx.step("answer", answer, ctx.input)


@task(isolation="process")
def ask_plainly(ctx: sync.TaskContext[Question]) -> Answer:
    ctx.emit(ctx.input.text)
    name = ctx.wait("name", str)
    return ctx.step("answer", answer, Question(name))


@task(isolation="process", errors=[Refused], retry=RetryPolicy(2, initial_delay=timedelta(0)))
async def refuse(ctx: TaskContext[str]) -> str:
    await ctx.emit([ctx.attempt, os.getpid()])
    raise Refused(ctx.input)


def fail_twice(path: str) -> int:
    with Path(path).open("a") as file:
        file.write("x")
        tries = file.tell()
    if tries < 3:
        raise OSError(tries)
    return tries


@task(isolation="process")
async def try_again(ctx: TaskContext[str]) -> int:
    policy = RetryPolicy(3, initial_delay=timedelta(0))
    return await ctx.step.options(retry=policy)("fail", fail_twice, ctx.input)


@task(isolation="process")
async def wait_for(ctx: TaskContext[str]) -> list[Any]:
    first = await ctx.step("pid", os.getpid)
    await ctx.emit("waits")
    given = await ctx.wait(ctx.input)
    return [first, os.getpid(), given, ctx.entry_mode]


@task(isolation="process")
async def stay(ctx: TaskContext[str]) -> str | None:
    """Wait for what the engine does not understand, and so in memory."""
    await ctx.emit(os.getpid())
    asked = ctx.cancel if ctx.input == "cancel" else ctx.shutdown
    while not asked.is_set():  # noqa: ASYNC110 - that is not understood, and holds it in memory
        await asyncio.sleep(0.01)
    return ctx.stop_reason


@task(isolation="process")
async def spin(ctx: TaskContext[str]) -> None:
    """Never await again; emit where we are, once that is accepted."""
    await begin(ctx)
    if ctx.input == "sleep":
        time.sleep(MINUTES)
    while True:
        pass


@task(isolation="process")
async def tell_and_spin(ctx: TaskContext[None]) -> None:
    """Say that we are here when there is no other `await`."""
    Path(os.environ[TELLS]).write_text(str(os.getpid()))
    while True:
        pass


async def begin(ctx: TaskContext[Any]) -> None:
    await ctx.emit(os.getpid())
    await ctx.step("begun", int)  # every write takes along what was emitted before it


def start_relatives() -> list[int]:
    """Return ourselves, a child, and a daemon that has left our session and our group."""
    child = subprocess.Popen(["sleep", str(MINUTES)])
    ours, theirs = os.pipe()
    program = (
        "import os, sys\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        f"os.write({theirs}, str(os.getpid()).encode())\n"
        f"os.close({theirs})\n"
        f"os.execvp('sleep', ['sleep', '{MINUTES}'])\n"
    )
    subprocess.run([sys.executable, "-c", program], pass_fds=[theirs], check=True)
    os.close(theirs)
    with os.fdopen(ours) as told:
        daemon = int(told.read())
    return [os.getpid(), child.pid, daemon]


@task(isolation="process")
async def have_family(ctx: TaskContext[str]) -> None:
    await ctx.emit(await ctx.step("start", start_relatives))
    await ctx.step("begun", int)
    while ctx.input == "spin":
        pass
    if ctx.input == "wait":
        await asyncio.Event().wait()


@task(isolation="process")
async def have_family_in_a_step(ctx: TaskContext[None]) -> None:
    """Have another one, and emit it, whenever we are entered."""

    async def work() -> None:
        await ctx.emit(start_relatives())
        await asyncio.Event().wait()

    await ctx.step("work", work)


@task(isolation="process", max_recoveries=3)
async def die(ctx: TaskContext[int]) -> int:
    """End our process, so many times."""
    if ctx.recovery_count < ctx.input:
        os._exit(7)
    return ctx.recovery_count


def die_in_a_step() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(isolation="process")
async def pay_once(ctx: TaskContext[None]) -> str:
    try:
        await ctx.step.options(at_most_once=True)("pay", die_in_a_step)
    except StepUnknown:
        return "unknown"
    return "paid"


@task(isolation="process")
async def swallow(ctx: TaskContext[None]) -> None:
    """Do not let ourselves be stopped."""
    await begin(ctx)
    while True:
        with suppress(BaseException):
            await asyncio.sleep(0.01)


@task(isolation="process")
def hang(ctx: sync.TaskContext[None]) -> None:
    ctx.emit(os.getpid())
    ctx.step("begun", int)
    threading.Event().wait()


@task(isolation="process")
async def delegate(ctx: TaskContext[str]) -> Any:
    """Start another run, and tell it something, from a child."""
    other = await wait_for.start("news", id=f"{ctx.id}-other")
    await other.signal("news", ctx.input)
    result = await other.result()
    listed = await wait_for.list()
    return [result.output[2], [run.id for run in listed.items]]


@task(isolation="process")
async def abort_another(ctx: TaskContext[str]) -> None:
    await (await wait_for.get(ctx.input)).abort()


@asynccontextmanager
async def pool() -> AsyncIterator[list[int]]:
    yield [os.getpid()]


@task(isolation="process")
async def use_resources(ctx: TaskContext[None]) -> list[int]:
    return [*ctx.resources, os.getpid()]


ENTERED_BY = "OUTLAST_TEST_ENTERED_BY"
"""The variable with the number of the process that is to be spared by the resources below."""


@asynccontextmanager
async def late_pool() -> AsyncIterator[None]:
    """Never be ready in a child, and say which one that is."""
    if os.environ[ENTERED_BY] != str(os.getpid()):
        Path(os.environ[TELLS]).write_text(str(os.getpid()))
        await asyncio.Event().wait()
    yield


@asynccontextmanager
async def broken_pool() -> AsyncIterator[None]:
    if os.environ[ENTERED_BY] != str(os.getpid()):
        raise ConnectionRefusedError("the database is down")
    yield


@asynccontextmanager
async def pool_in_a_file() -> AsyncIterator[Path]:
    """Say in a file who has left us."""
    path = Path(os.environ[ENTERED_BY])
    yield path
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")


@task(isolation="process")
async def open_an_app(ctx: TaskContext[str]) -> None:
    async with outlast.open(ctx.input, worker=False):
        pass


@task(isolation="process")
async def count_up(ctx: TaskContext[int]) -> float:
    """Return the seconds of a step."""
    began = time.perf_counter()
    for number in range(ctx.input):
        await ctx.step("one", abs, number)
    return (time.perf_counter() - began) / max(1, ctx.input)


@task
async def count_up_inline(ctx: TaskContext[int]) -> float:
    began = time.perf_counter()
    for number in range(ctx.input):
        await ctx.step("one", abs, number)
    return (time.perf_counter() - began) / max(1, ctx.input)


def fork_a_copy() -> list[int]:
    """Return ourselves, and a copy of ourselves that lives on with all that we have open."""
    pid = os.fork()
    if not pid:
        time.sleep(MINUTES)
        os._exit(0)
    return [os.getpid(), pid]


@task(isolation="process")
async def fork(ctx: TaskContext[str]) -> int:
    """Have a copy; when we are entered anew, return how often our process has died."""
    if ctx.recovery_count:
        return ctx.recovery_count
    await ctx.emit(await ctx.step("fork", fork_a_copy))
    await ctx.step("begun", int)
    if ctx.input == "die":
        os._exit(7)
    await asyncio.Event().wait()
    return 0


@task(isolation="process")
async def crash(ctx: TaskContext[None]) -> int:
    """Read where nothing is, once."""
    if not ctx.recovery_count:
        ctypes.string_at(0)
    return ctx.recovery_count


@task(isolation="process")
async def babble(ctx: TaskContext[None]) -> int:
    """Send our worker what it cannot understand, once."""
    if not ctx.recovery_count:
        os.write(int(sys.orig_argv[-1]), b"\0\0\0\5hello")
        await asyncio.Event().wait()
    return ctx.recovery_count


@task(isolation="process")
async def list_descriptors(ctx: TaskContext[None]) -> list[str]:
    """Return what our process has open."""
    found = []
    for place in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(place.readlink()))
    return found


def repeat(size: int) -> str:
    return "x" * size


@task(isolation="process")
async def carry(ctx: TaskContext[str]) -> str:
    """Return as much as we were given, by way of a step."""
    return await ctx.step("repeat", repeat, len(ctx.input))


@task(isolation="process")
async def outlive(ctx: TaskContext[float]) -> int:
    """Work for so many seconds without a write, and return how often we have died of it."""
    await ctx.step("work", time.sleep, ctx.input)
    return ctx.recovery_count


async def declared_elsewhere(ctx: TaskContext[None]) -> None: ...


@task
async def block(ctx: TaskContext[None]) -> None:
    """Hold up the event loop of the worker."""
    await ctx.emit(os.getpid())
    await ctx.step("begun", int)
    time.sleep(MINUTES)


@task
async def inline(ctx: TaskContext[str]) -> str:
    return ctx.input


@task(isolation="process")
async def ask_a_lot(ctx: TaskContext[int]) -> int:
    """Ask the worker so many things at once."""
    other = await inline.start("other", id="other")
    found = await asyncio.gather(*(other.refresh() for _ in range(ctx.input)))
    return len(found)
