"""Tasks of several turns that run in processes of their own: a child imports this module."""

import os
from datetime import timedelta
from typing import Any

from outlast import TaskContext, sync, task


@task(isolation="process", steering="queue")
async def chat(ctx: TaskContext[str]) -> list[Any]:
    await ctx.emit(os.getpid())
    said = await ctx.step("say", str.upper, ctx.input)
    story = [said, ctx.turn, ctx.entry_mode, ctx.previous_input]
    if ctx.input == "wait":
        await ctx.wait("go")
    return story if ctx.input != "rest" else await ctx.suspend("rests", story)


@task(isolation="process")
def count(ctx: sync.TaskContext[int]) -> list[Any]:
    if ctx.input:
        ctx.continue_with(ctx.input - 1)
    return [ctx.turn, ctx.input_id]


@task(isolation="process", steering="inject")
async def listen(ctx: TaskContext[str]) -> list[Any]:
    await ctx.wait("go")
    return [ctx.input, await ctx.next_input(), await ctx.next_input()]


@task(isolation="process", steering="interrupt")
async def search(ctx: TaskContext[str]) -> list[Any]:
    await ctx.emit(os.getpid())
    if ctx.input == "all":
        await ctx.cancel.wait()
    return [ctx.input, ctx.stop_reason]


@task(
    isolation="process",
    timeout=timedelta(milliseconds=200),
    cancel_grace=timedelta(milliseconds=100),
)
async def blocks(ctx: TaskContext[None]) -> None:
    await ctx.emit(os.getpid())
    await ctx.step("begin", int)
    while True:
        pass


@task(isolation="process", timeout=timedelta(milliseconds=200))
async def returns_late(ctx: TaskContext[None]) -> str | None:
    await ctx.cancel.wait()
    return ctx.stop_reason


@task(
    isolation="process",
    steering="interrupt",
    cancel_grace=timedelta(milliseconds=100),
)
async def stuck(ctx: TaskContext[str]) -> str:
    if ctx.input == "a":
        await ctx.emit(os.getpid())
        await ctx.step("begin", int)
        while True:
            pass
    return ctx.input
