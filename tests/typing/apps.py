"""Apps and errors, as a type checker sees them. Only checked, never run."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, assert_type

import outlast
from outlast import App, errors
from outlast.journal import Fence, Head


async def opened() -> None:
    async with outlast.open() as app:
        assert_type(app, App)
        assert_type(app.url, str)
        assert_type(app.resources, Any)
    outlast.open(
        "memory://",
        worker=False,
        concurrency=3,
        queues=("default", "slow"),
        lease=timedelta(seconds=15),
        grace=timedelta(seconds=10),
        namespace="tests",
        resources={"client": object()},
        max_payload=1_000,
    )

    outlast.open("memory://", False)  # type: ignore[call-arg]
    outlast.open(grace=10)  # type: ignore[arg-type]


def caught(error: BaseException) -> None:
    match error:
        case outlast.TaskFailed():
            assert_type(error.error, outlast.RunError)
            told = (error.error.type, error.error.message, error.error.traceback)
            assert_type(told, tuple[str, str, str])
            assert_type(error.error.attempts, int)
        case outlast.StepFailed():
            assert_type((error.type, error.message, error.traceback), tuple[str, str, str])
        case outlast.Conflict():
            assert_type((error.key, error.what), tuple[str, str])
            assert_type((error.expected, error.actual), tuple[object, object])
            assert_type(error.done, Sequence[Head])
        case outlast.Fenced():
            assert_type(error.key, str)
            assert_type((error.fence, error.current), tuple[Fence, Fence | None])
        case outlast.InputTooLarge() | outlast.Corrupt():
            assert_type(error.path, str)
        case _:
            pass


def derived() -> None:
    store: list[type[outlast.StoreError]] = [outlast.Conflict, outlast.Fenced, outlast.Unavailable]
    task: list[type[outlast.TaskError]] = [
        outlast.TaskFailed,
        outlast.TaskCancelled,
        outlast.TaskAborted,
        outlast.TaskTimedOut,
        outlast.TaskConflict,
        outlast.SteeringQueueFull,
        outlast.LastInputMismatch,
        outlast.TaskNotFound,
        outlast.StepFailed,
        outlast.StepMismatch,
        outlast.StepUnknown,
    ]
    codec: list[type[outlast.CodecError]] = [outlast.InputTooLarge, outlast.Corrupt]
    mistake: type[ValueError] = outlast.UsageError
    every: list[type[outlast.OutlastError]] = [*store, *task, *codec, outlast.UsageError]
    del mistake, every
    wrong: type[Exception] = errors.Unwound  # type: ignore[assignment]
    del wrong
