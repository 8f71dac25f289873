"""Durable tasks for AI agents: an agent that outlasts its process.

import outlast
from outlast import TaskContext, task

@task
async def greet(ctx: TaskContext[str]) -> str:
    return await ctx.step("greet", str.upper, ctx.input)

async with outlast.open("sqlite:///agents.db"):
    result = await greet.run("hello", id="g-1")
"""

from outlast.context import Step, TaskContext
from outlast.engine.app import App, open  # noqa: A004 - `outlast.open`
from outlast.engine.handles import HistoryEntry, Retracted, StreamItem, TaskResult, TaskRun
from outlast.engine.retry import RetryPolicy
from outlast.engine.runs import Page, Runs
from outlast.errors import (
    CodecError,
    Conflict,
    Corrupt,
    Fenced,
    InputTooLarge,
    LastInputMismatch,
    OutlastError,
    RunError,
    SteeringQueueFull,
    StepFailed,
    StepMismatch,
    StepUnknown,
    StoreError,
    TaskAborted,
    TaskCancelled,
    TaskConflict,
    TaskError,
    TaskFailed,
    TaskNotFound,
    TaskTimedOut,
    Unavailable,
    UsageError,
)
from outlast.model.events import Status
from outlast.task import Task, task

__all__ = [
    "App",
    "CodecError",
    "Conflict",
    "Corrupt",
    "Fenced",
    "HistoryEntry",
    "InputTooLarge",
    "LastInputMismatch",
    "OutlastError",
    "Page",
    "Retracted",
    "RetryPolicy",
    "RunError",
    "Runs",
    "Status",
    "SteeringQueueFull",
    "Step",
    "StepFailed",
    "StepMismatch",
    "StepUnknown",
    "StoreError",
    "StreamItem",
    "Task",
    "TaskAborted",
    "TaskCancelled",
    "TaskConflict",
    "TaskContext",
    "TaskError",
    "TaskFailed",
    "TaskNotFound",
    "TaskResult",
    "TaskRun",
    "TaskTimedOut",
    "Unavailable",
    "UsageError",
    "open",
    "task",
]
