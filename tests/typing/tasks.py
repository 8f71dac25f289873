"""Tasks, as a type checker sees them. Only checked, never run.

A call that must be refused carries a `type: ignore`; mypy and pyright complain about one that
refuses nothing.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import outlast
from outlast import (
    App,
    Page,
    Retracted,
    RetryPolicy,
    Runs,
    Status,
    StreamItem,
    Task,
    TaskContext,
    TaskResult,
    TaskRun,
    task,
)


@dataclass
class Question:
    text: str


@dataclass
class Report:
    lines: list[str]


@task
async def bare(ctx: TaskContext[Question]) -> Report:
    return Report([ctx.input.text])


@task(
    name="research",
    retry=RetryPolicy(5),
    timeout=timedelta(hours=1),
    cancel_grace=timedelta(seconds=1),
    steering="inject",
    max_pending=3,
    on_turn_error="suspend",
    errors=(ConnectionError,),
    max_recoveries=5,
    queue="slow",
    priority=3,
    title="Research",
    description=lambda question, id: f"{question.text} ({id})",
    source="tests",
    tags={"team": "blue"},
)
async def with_settings(ctx: TaskContext[Question]) -> Report | None:
    return None


@task
async def of_nothing(ctx: TaskContext[None]) -> None: ...


def inferred() -> None:
    assert_type(bare, Task[Question, Report])
    assert_type(with_settings, Task[Question, Report | None])
    assert_type(of_nothing, Task[None, None])
    assert_type(bare.name, str)
    assert_type(bare.options(queue="slow", priority=1), Task[Question, Report])
    assert_type(
        bare.options(timeout=timedelta(1), cancel_grace=timedelta(0), max_pending=1),
        Task[Question, Report],
    )


@task  # type: ignore[arg-type]
async def without_a_context(question: Question) -> Report:
    raise NotImplementedError


task(name=3)  # type: ignore[call-overload]
task(title_of="research")  # type: ignore[call-overload]
task(steering="push")  # type: ignore[call-overload]
task(timeout=3)  # type: ignore[call-overload]


async def started() -> None:
    run = await bare.start(
        Question("why"),
        id="r-1",
        input_id="i-1",
        if_last_input_id="i-0",
        session_id="s-1",
        tags={"team": "blue"},
        delay=timedelta(minutes=5),
    )
    assert_type(run, TaskRun[Report])
    assert_type(await run.result(timedelta(seconds=1)), TaskResult[Report])
    assert_type(await bare.run(Question("why")), TaskResult[Report])
    assert_type((await bare.run(Question("why"))).output, Report)
    assert_type(await bare.get("r-1"), TaskRun[Report])

    await bare.start("why")  # type: ignore[arg-type]
    await bare.run(Question("why"), id=1)  # type: ignore[arg-type]
    await run.result(5)  # type: ignore[arg-type]


async def listed(app: App) -> None:
    page = await bare.list(
        status=[Status.RUNNING, "pending"],
        session_id="s-1",
        tags={"team": "blue"},
        source="tests",
        started_after=datetime.now(UTC),
        started_before=datetime.now(UTC),
        limit=10,
    )
    assert_type(page, Page[TaskRun[Report]])
    assert_type(page.items, Sequence[TaskRun[Report]])
    assert_type(page.next, str | None)
    assert_type(await bare.list(after=page.next), Page[TaskRun[Report]])

    assert_type(app.runs, Runs)
    assert_type(await app.runs.list(task="research", status="failed"), Page[TaskRun[Any]])
    assert_type(await app.runs.get("r-1"), TaskRun[Any])


async def held(run: TaskRun[Report]) -> None:
    assert_type(run.id, str)
    assert_type(run.task, str)
    assert_type(run.status, Status)
    assert_type(run.title, str)
    assert_type(run.source, str)
    assert_type(run.session_id, str | None)
    assert_type(run.started_at, datetime)
    assert_type(run.tags, Mapping[str, str])
    assert_type(await run.refresh(), TaskRun[Report])
    assert_type(await run.signal("approval", True, id="a-1"), None)
    assert_type(await run.cancel("why"), None)
    assert_type(await run.abort(), None)
    assert_type((run.input_id, run.turn), tuple[str | None, int])
    assert_type(run.is_queued, bool)
    assert_type(await run.withdraw(), None)
    assert_type(await run.retry(), TaskRun[Report])
    assert_type(await run.resolve("pay", output=3), None)
    assert_type(await run.resolve("pay#2", error=ValueError("no")), None)
    assert_type(run.stream(after=3), AsyncIterator[StreamItem | Retracted])

    async for item in run.stream():
        assert_type(item, StreamItem | Retracted)
        assert_type((item.offset, item.turn, item.step), tuple[int, int, str | None])
        if isinstance(item, StreamItem):
            assert_type(item.value, Any)
        else:
            assert_type(item.after, int)

    async for entry in run.history(after=2):
        assert_type(entry, outlast.HistoryEntry)
        assert_type((entry.revision, entry.type, entry.at), tuple[int, str, datetime])

    any_run: TaskRun[object] = run  # what a run gives is only read
    del any_run


async def ended(result: TaskResult[Report]) -> None:
    assert_type(result.output, Report)
    assert_type(result.status, Status)
    assert_type((result.is_completed, result.is_suspended), tuple[bool, bool])
    assert_type((result.suspension_reason, result.is_superseded), tuple[str | None, bool])
    assert_type(result.status.is_final, bool)

    result.output = Report([])  # type: ignore[misc]
