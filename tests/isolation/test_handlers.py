"""A handler in a process of its own does what one in the worker does."""

import os
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast import App, Status, TaskFailed, UsageError
from outlast.engine.isolation import children
from outlast.model.events import TYPE_OF, Parked
from tests.isolation import handlers
from tests.isolation.handlers import Answer, Question
from tests.isolation.stage import first_item, gone, is_alive, recorded

pytestmark = pytest.mark.slow


async def items_of(run: outlast.TaskRun[Any]) -> list[Any]:
    return [item.value async for item in run.stream() if isinstance(item, outlast.StreamItem)]


async def test_types_cross_and_the_bodies_of_steps_run_in_the_child(app: App) -> None:
    result = await handlers.ask.run(Question("why"))

    assert result.output.text == "WHY"
    assert result.output.pid != os.getpid()


async def test_a_child_is_used_again(url: str) -> None:
    async with outlast.open(url, concurrency=1):  # the next run begins when it is free
        pids = {(await handlers.ask.run(Question("why"))).output.pid for _ in range(3)}

    assert len(pids) == 1


async def test_several_runs_have_a_child_each(app: App) -> None:
    runs = [await handlers.stay.start("cancel", id=f"r-{number}") for number in range(2)]

    pids = [await first_item(run) for run in runs]
    for run in runs:
        await run.cancel()
        assert (await run.result()).output == "cancel"
    assert pids[0] != pids[1]


async def test_a_plain_handler_has_the_same_face(app: App) -> None:
    run = await handlers.ask_plainly.start(Question("name?"))
    assert await first_item(run) == "name?"

    await run.signal("name", "ada")

    assert (await run.result()).output.text == "ADA"


async def test_an_error_is_retried_and_keeps_the_child(url: str) -> None:
    async with outlast.open(url, concurrency=1) as app:
        run = await handlers.refuse.start("never")
        with pytest.raises(TaskFailed) as failed:
            await run.result()
        items = await items_of(run)
        started = len(app._worker._children._guard.children)  # type: ignore[union-attr]

    assert failed.value.error.type == "tests.isolation.handlers.Refused"
    assert (failed.value.error.message, failed.value.error.attempts) == ("never", 2)
    assert [attempt for attempt, _ in items] == [0]
    assert started == 1


async def test_a_step_is_tried_again(app: App, tmp_path: Path) -> None:
    assert (await handlers.try_again.run(str(tmp_path / "tries"))).output == 3


async def test_a_run_that_only_waits_leaves_its_child_to_others(url: str) -> None:
    async with outlast.open(url, concurrency=1) as app:
        run = await handlers.wait_for.start("go")
        await recorded(app, run, TYPE_OF[Parked])

        other = (await handlers.ask.run(Question("why"))).output.pid
        await run.signal("go", 7)

        assert (await run.result()).output == [other, other, 7, "fresh"]


async def test_what_comes_while_it_waits_in_memory_is_heard(app: App) -> None:
    run = await handlers.stay.start("cancel")
    await first_item(run)

    await run.cancel()

    assert (await run.result()).output == "cancel"


async def test_a_child_starts_signals_and_lists_other_runs(app: App) -> None:
    result = await handlers.delegate.run("hello", id="d")

    assert result.output == ["hello", ["d-other"]]


async def test_a_child_cannot_end_another_run(app: App) -> None:
    other = await handlers.wait_for.start("never", id="other")

    with pytest.raises(TaskFailed, match="isolation='process'") as failed:
        await handlers.abort_another.run("other")

    assert failed.value.error.type == "outlast.errors.UsageError"
    assert (await other.refresh()).status is Status.RUNNING
    await other.abort()


async def test_a_factory_of_resources_is_entered_once_in_each_process(url: str) -> None:
    async with outlast.open(url, resources=handlers.pool, concurrency=1) as app:
        assert app.resources == [os.getpid()]
        outputs = [(await handlers.use_resources.run(None)).output for _ in range(2)]

    assert outputs[0] == outputs[1]
    assert outputs[0][0] == outputs[0][1] != os.getpid()


async def test_resources_that_cannot_be_made_in_a_child_are_refused_where_they_are_asked_for(
    url: str,
) -> None:
    async with outlast.open(url, resources={"a": "dict"}):
        assert (await handlers.ask.run(Question("why"))).output.text == "WHY"
        with pytest.raises(TaskFailed, match="returns an async context manager"):
            await handlers.use_resources.run(None)


async def test_a_factory_that_makes_no_context_manager_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="returns an async context manager"):
        async with outlast.open(url, resources=dict):
            pass


async def test_a_child_that_dies_is_a_death_of_its_run(app: App) -> None:
    assert (await handlers.die.run(2)).output == 2


async def test_a_run_that_kills_every_child_ends(app: App) -> None:
    with pytest.raises(TaskFailed, match="died 3 times in a row") as failed:
        await handlers.die.run(20)

    assert failed.value.error.type == "ProcessDied"
    assert (await handlers.ask.run(Question("next"))).output.text == "NEXT"


async def test_a_task_that_its_module_does_not_declare_fails_and_says_so(app: App) -> None:
    undeclared = outlast.task(isolation="process", name="undeclared")(handlers.declared_elsewhere)

    with pytest.raises(TaskFailed, match="'undeclared' is not declared when") as failed:
        await undeclared.run(None)

    assert failed.value.error.type == "outlast.errors.UsageError"


async def test_an_at_most_once_step_whose_child_was_killed_is_unknown(app: App) -> None:
    assert (await handlers.pay_once.run(None)).output == "unknown"


async def test_what_a_run_leaves_behind_goes_with_its_child(app: App) -> None:
    run = await handlers.have_family.start("end")
    family = await first_item(run)

    await run.result()
    await gone(family)

    assert (await handlers.ask.run(Question("why"))).output.pid not in family


async def test_a_thread_that_cannot_be_stopped_goes_with_its_child(app: App) -> None:
    run = await handlers.hang.start(None)
    pid = await first_item(run)

    await run.abort()
    await gone([pid])

    assert (await run.refresh()).status is Status.ABORTED
    assert isinstance((await handlers.ask.run(Question("why"))).output, Answer)


async def test_a_child_that_nobody_needs_is_ended(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "MAX_IDLE", 0.0)

    pid = (await handlers.ask.run(Question("why"))).output.pid
    await gone([pid])

    assert (await handlers.ask.run(Question("why"))).output.pid != pid


async def test_closing_leaves_no_process(url: str) -> None:
    async with outlast.open(url) as app:
        pid = (await handlers.ask.run(Question("why"))).output.pid
        assert is_alive(pid)
        guard = app._worker._children._guard.process.pid  # type: ignore[union-attr]

    assert not is_alive(pid)
    assert not is_alive(guard)
