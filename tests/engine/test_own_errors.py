"""Errors that are neither the handler's nor the store's: ours, and what time does to a file."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from outlast import App, TaskContext, TaskFailed, task
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import head_of, types_of

loop_factory = SkippingLoop


async def test_a_bug_of_ours_puts_the_run_back_and_does_not_fail_it(
    app: App, machine: Machine, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    fails = iter([True])

    async def break_the_first_end(verb: Verb, argument: Any) -> None:
        is_end = verb == "commit" and argument[0].close
        if is_end and next(fails, False):
            raise ZeroDivisionError("a bug of ours")

    machine.wire.before = break_the_first_end

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        return ctx.entry_mode

    began = clock.boot()
    result = await handler.run(None, id="r")

    assert result.output == "recovered"
    assert clock.boot() - began >= 30
    assert "handed_back" in types_of(machine.store, "r")
    assert "an error of outlast's own" in caplog.text
    caplog.clear()


async def test_a_run_whose_entries_cannot_be_read_fails_with_corrupt(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> None:
        """Do nothing."""

    async with machine.open(worker=False) as client:
        await handler.options(app=client).start(None, id="r")
        entries = machine.store._entries["run/r"]
        entries[0] = entries[0]._replace(data=entries[0].data[:-1])
    async with machine.open() as app:
        run = await app.runs.get("r")

        with pytest.raises(TaskFailed) as failed:
            await run.result()

    assert failed.value.error.type.endswith("Corrupt")
    assert head_of(machine.store, "r").closed
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    caplog.clear()
