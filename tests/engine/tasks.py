"""Tasks that several tests start."""

from __future__ import annotations

from typing import Any

from outlast import TaskContext, task


@task(name="echo")
async def echo(ctx: TaskContext[Any]) -> Any:
    return ctx.input


@task(name="patient")
async def patient(ctx: TaskContext[Any]) -> Any:
    return [ctx.input, await ctx.wait("go")]
