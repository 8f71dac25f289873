"""What `@task` refuses."""

from __future__ import annotations

import pytest

from outlast import TaskContext, UsageError, sync, task


def test_a_coroutine_function_does_not_take_the_context_of_a_plain_one() -> None:
    async def handler(ctx: sync.TaskContext[int]) -> None:
        """Do nothing."""

    with pytest.raises(
        UsageError, match=r"async def: its first parameter is an outlast\.TaskContext"
    ):
        task(handler)


def test_a_plain_function_does_not_take_the_context_of_a_coroutine_function() -> None:
    def handler(ctx: TaskContext[int]) -> None:
        """Do nothing."""

    with pytest.raises(
        UsageError, match=r"def: its first parameter is an outlast\.sync\.TaskContext"
    ):
        task(handler)  # type: ignore[arg-type]


def test_a_context_without_a_type_has_any_input() -> None:
    @task
    async def handler(ctx: TaskContext) -> None:  # type: ignore[type-arg]
        """Do nothing."""

    assert handler.name.endswith("handler")
