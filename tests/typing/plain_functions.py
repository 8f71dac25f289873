"""Handlers that are plain functions, as a type checker sees them. Only checked, never run."""

from datetime import timedelta
from typing import Any, assert_type

import outlast
from outlast import Task, TaskRun, task
from outlast.sync import Flag, Step, TaskContext


def search(query: str, limit: int) -> list[str]:
    return [query] * limit


async def fetch(query: str) -> bytes:
    return query.encode()


@task
def bare(ctx: TaskContext[str]) -> int:
    return len(ctx.step("search", search, ctx.input, 3))


@task(isolation="process")
def isolated(ctx: TaskContext[str]) -> int:
    return len(ctx.input)


assert_type(isolated, Task[str, int])
task(isolation="nowhere")  # type: ignore[call-overload]


@task(name="settled", queue="slow")
def with_settings(ctx: TaskContext[str]) -> list[str]:
    assert_type(ctx.input, str)
    assert_type(ctx.step, Step)
    assert_type(ctx.step("search", search, "rivers", limit=3), list[str])
    assert_type(ctx.step("fetch", fetch, "rivers"), bytes)
    assert_type(ctx.step.options(key="s")("search", search, "rivers", 3), list[str])
    assert_type(ctx.wait("approval", bool, timeout=timedelta(days=1)), bool)
    assert_type(ctx.wait("anything"), Any)
    assert_type(ctx.sleep("nap", timedelta(days=1)), None)
    assert_type(ctx.emit(1), None)
    assert_type(ctx.cancel, Flag)
    assert_type(ctx.cancel.is_set(), bool)
    assert_type(ctx.shutdown.wait(timedelta(seconds=1)), bool)

    ctx.step("search", search, "rivers")  # type: ignore[call-overload]
    return []


async def inferred() -> None:
    assert_type(bare, Task[str, int])
    assert_type(with_settings, Task[str, list[str]])
    assert_type(await bare.start("rivers"), TaskRun[int])

    await bare.start(3)  # type: ignore[arg-type]


@task  # type: ignore[arg-type]
def with_a_context_to_await(ctx: outlast.TaskContext[str]) -> int:
    return len(ctx.input)
