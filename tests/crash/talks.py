"""Runs of several turns, which are steered while their processes are killed, and what they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final

from outlast import RetryPolicy, TaskContext, task
from tests.crash.tasks import MAX_RECOVERIES, SOON, here, killing, work

INPUTS: Final = {1: "a", 2: "c", 3: "c, continued", 4: "d"}
"""What each turn of a talk has: `b` is taken by the first one while it runs."""

OUTPUTS: Final[Mapping[str, list[Any]]] = {
    "a": ["a", "first a", None, "b", "go!", "last a"],
    "b": ["a", "first a", None, "b", "go!", "last a"],
    "c": ["c, continued", "first c, continued", None, "c"],
    "d": ["d", "first d", None, "c, continued"],
}
"""What each caller gets."""


def enter(ctx: TaskContext[Any], input: str) -> None:
    """Write into the ledger with what a handler is entered."""
    here().ledger.write("entered", ctx.id, f"{ctx.turn} {input} {ctx.entry_mode}")
    here().say("entered")


@task(name="crash.talk", steering="inject")
async def talk(ctx: TaskContext[str]) -> list[Any]:
    """Do everything that a handler may do about turns."""
    enter(ctx, ctx.input)
    await ctx.emit(ctx.input)
    done: list[Any] = [ctx.input, await ctx.step("work", work, ctx.id, f"first {ctx.input}")]
    if ctx.turn == 1:
        done.append(ctx.previous_input)
        here().say("waits")
        await here().fate.moment("waiting")
        go = await ctx.wait("go", str)
        done += [await ctx.next_input(), go]
        await here().fate.moment("taken")
        return [*done, await ctx.step("work", work, ctx.id, f"last {ctx.input}")]
    done += [await ctx.next_input() if ctx.turn > 2 else None, ctx.previous_input]
    await here().fate.moment(f"end of turn {ctx.turn}")
    if ctx.turn == 2:
        await ctx.continue_with("c, continued")
    if ctx.turn == 3:
        await ctx.suspend("enough", done)
    return done


async def swayed(ctx: TaskContext[str]) -> list[Any]:
    """Work on the first input until there is another one."""
    enter(ctx, ctx.input)
    await ctx.emit(ctx.input)
    done = [ctx.input, await ctx.step("work", work, ctx.id, f"first {ctx.input}")]
    if ctx.input == "a":
        here().say("waits")
        await here().fate.moment("waiting")
        await ctx.cancel.wait()
        await here().fate.moment("asked to end")
        done.append(await ctx.step("work", work, ctx.id, "tidied up"))
    return [*done, ctx.previous_input]


interrupted = task(name="crash.interrupted", steering="interrupt")(swayed)
rolled_back = task(name="crash.rolled back", steering="rollback")(swayed)


@task(name="crash.cursed", steering="queue", max_recoveries=MAX_RECOVERIES, queue="cursed")
async def cursed(ctx: TaskContext[str]) -> str:
    """Die in the second turn, each time."""
    enter(ctx, ctx.input)
    if ctx.turn == 1:
        here().say("waits")
        return await ctx.wait("go", str)
    await ctx.step("work", work, ctx.id, "once")
    return await killing(ctx.id)


class Colour(Enum):
    """What JSON has no word for."""

    RED = "red"


@dataclass(frozen=True)
class Order:
    """What a handler is entered with, and what only its annotations tell from JSON."""

    at: datetime
    colours: frozenset[Colour]
    amounts: dict[int, tuple[float, ...]]


@task(name="crash.typed")
async def typed(ctx: TaskContext[Order]) -> tuple[Order, int]:
    """Fail twice; whoever declared the task wants no retry, whoever started it does."""
    enter(ctx, str(ctx.attempt))
    await here().fate.moment(f"attempt {ctx.attempt}")
    if ctx.attempt < 2:
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    return ctx.input, ctx.attempt


THREE_TIMES: Final = RetryPolicy(3, initial_delay=SOON, jitter=False)


@task(name="crash.large", steering="queue")
async def large(ctx: TaskContext[str]) -> list[int]:
    """Tell how long the input is, and the one before."""
    enter(ctx, ctx.input[:1])
    if ctx.turn == 1:
        here().say("waits")
        await here().fate.moment("waiting")
        await ctx.wait("go")
    else:
        await here().fate.moment(f"turn {ctx.turn}")
    return [len(ctx.input), len(ctx.previous_input or "")]
