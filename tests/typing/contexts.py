"""What a handler may ask for, as a type checker sees it. Only checked, never run."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, assert_type

from outlast import RetryPolicy, Step, TaskContext


@dataclass
class Plan:
    queries: list[str]


async def make_plan(topic: str, *, depth: int = 1) -> Plan:
    return Plan([topic] * depth)


def search(query: str, limit: int) -> list[str]:
    return [query] * limit


async def known(ctx: TaskContext[str]) -> None:
    assert_type(ctx.input, str)
    assert_type((ctx.id, ctx.input_id, ctx.name), tuple[str, str, str])
    assert_type((ctx.turn, ctx.attempt), tuple[int, int])
    assert_type((ctx.recovery_count, ctx.token), tuple[int, int])
    assert_type(ctx.entry_mode, Literal["fresh", "resumed", "steered", "recovered"])
    assert_type(ctx.session_id, str | None)
    assert_type(ctx.tags, Mapping[str, str])
    assert_type((ctx.cancel, ctx.shutdown), tuple[asyncio.Event, asyncio.Event])
    assert_type(
        ctx.stop_reason,
        Literal["cancel", "timeout", "steered", "shutdown", "lease_lost"] | None,
    )
    assert_type((ctx.was_steered, ctx.deadline), tuple[bool, datetime | None])
    assert_type(ctx.previous_input, str | None)
    assert_type(ctx.pending_inputs, tuple[str, ...])
    ctx.input = "another"  # type: ignore[misc]


async def steered(ctx: TaskContext[str]) -> int:
    assert_type(await ctx.next_input(), str | None)
    if ctx.turn == 1:
        await ctx.suspend(3)  # type: ignore[arg-type]
    if ctx.turn == 2:
        await ctx.continue_with(3)  # type: ignore[arg-type]
    if ctx.turn == 3:
        await ctx.exit_for_recovery()
    if ctx.turn == 4:
        await ctx.continue_with("more")
    return await ctx.suspend("for more", output={"so": "far"})


async def stepped(ctx: TaskContext[str]) -> None:
    assert_type(await ctx.step("plan", make_plan, "rivers"), Plan)
    assert_type(await ctx.step("plan", make_plan, "rivers", depth=2), Plan)
    assert_type(await ctx.step("search", search, "rivers", 3), list[str])
    assert_type(await ctx.step("search", search, "rivers", limit=3), list[str])

    await ctx.step("search", search, "rivers")  # type: ignore[call-overload]
    await ctx.step("search", search, "rivers", "3")  # type: ignore[call-overload]
    await ctx.step("plan", make_plan, "rivers", deep=2)  # type: ignore[call-arg]
    await ctx.step(search, "rivers", 3)  # type: ignore[call-overload]


async def stepped_with_options(ctx: TaskContext[str]) -> None:
    pay = ctx.step.options(
        retry=RetryPolicy(5, initial_delay=timedelta(seconds=2), backoff=1.0),
        timeout=timedelta(seconds=30),
        key=f"pay-{ctx.id}",
    )
    assert_type(pay, Step)
    assert_type(await pay("pay", search, "rivers", 1), list[str])
    assert_type(await ctx.step.options(at_most_once=True)("plan", make_plan, "seas"), Plan)

    await pay("pay", search)  # type: ignore[call-overload]
    ctx.step.options(timeout=30)  # type: ignore[arg-type]


async def waited(ctx: TaskContext[str]) -> None:
    assert_type(await ctx.sleep("nap", timedelta(days=1)), None)
    assert_type(await ctx.wait("approval", bool, timeout=timedelta(days=3)), bool)
    assert_type(await ctx.wait("plan", Plan), Plan)
    assert_type(await ctx.wait("anything"), Any)
    assert_type(await ctx.emit({"done": 1}), None)

    await ctx.sleep("nap", 3)  # type: ignore[arg-type]
    await ctx.wait("approval", bool, timedelta(days=3))  # type: ignore[call-overload]


def retried() -> None:
    RetryPolicy(
        3,
        max_delay=timedelta(minutes=1),
        backoff=lambda retry: timedelta(seconds=retry),
        jitter=False,
        retry_on=(ConnectionError,),
    )
    RetryPolicy(initial_delay=1)  # type: ignore[arg-type]
    RetryPolicy(3, timedelta(seconds=1))  # type: ignore[call-arg]
    RetryPolicy(retry_on=ConnectionError)  # type: ignore[arg-type]
