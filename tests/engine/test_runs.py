"""What a start does, also where its answer is lost, and what is found of a run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outlast import (
    App,
    RetryPolicy,
    Status,
    TaskConflict,
    TaskContext,
    TaskFailed,
    TaskNotFound,
    TaskRun,
    Unavailable,
    UsageError,
    task,
)
from outlast.store import Lane
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.tasks import echo, patient
from tests.engine.world import LEASE, Wire, head_of, types_of

loop_factory = SkippingLoop

MINUTE = timedelta(minutes=1)


# What a start does


async def test_a_start_is_one_write_where_there_is_a_worker(app: App, machine: Machine) -> None:
    run = await patient.start(1, id="r")

    head = head_of(machine.store, "r")
    assert (head.revision, head.card.status) == (2, "running")
    assert head.lease is not None
    assert repr(run) == "<TaskRun 'r' of 'patient': running>"
    await run.abort()


async def test_a_client_starts_a_run_that_a_worker_takes_up(machine: Machine) -> None:
    async with machine.open(worker=False) as client, machine.open(store=Wire(machine.store)):
        run = await echo.options(app=client).start(7)
        assert run.status == "pending"
        assert (await run.result()).output == 7
        assert run.status == "completed"


@pytest.mark.parametrize("when", ["running", "ended"])
@pytest.mark.parametrize(
    ("name", "input", "joins"),
    [
        ("patient", {"x": 1}, True),
        ("patient", {"x": 2}, False),
        ("patient", {"x": 1.0}, False),
        ("echo", {"x": 1}, False),
    ],
)
async def test_a_start_joins_the_run_of_its_id_if_it_says_the_same(
    app: App, when: str, name: str, input: Any, joins: bool
) -> None:
    first = await patient.start({"x": 1}, id="r")
    if when == "ended":
        await first.signal("go", 2)
        await first.result()

    again = {"patient": patient, "echo": echo}[name]
    if joins:
        second = await again.start(input, id="r")
        await first.signal("go", 2) if when == "running" else None
        assert (await second.result()).output == [{"x": 1}, 2]
    else:
        with pytest.raises(TaskConflict, match="run 'r' is"):
            await again.start(input, id="r")
        await first.abort()


async def test_of_two_starts_at_once_one_makes_the_run_and_the_other_joins(
    machine: Machine,
) -> None:
    other = Wire(machine.store)
    async with machine.open() as one, machine.open(store=other) as two:
        runs: list[TaskRun[Any]] = await asyncio.gather(
            *(patient.options(app=app).start(1, id="r") for app in (one, two, one, two))
        )
        await runs[0].signal("go", 2)
        results = [(await run.result()).output for run in runs]

    assert results == [[1, 2]] * 4
    assert types_of(machine.store, "r").count("created") == 1


async def test_a_run_without_an_id_gets_one_that_sorts_by_time(app: App) -> None:
    runs = []
    for number in range(3):
        runs.append(await echo.start(number))
        await asyncio.sleep(0.01)

    assert [run.id for run in runs] == sorted(run.id for run in runs)
    assert len(runs[0].id) == 36


async def test_a_start_that_was_written_and_not_answered_is_known_again(machine: Machine) -> None:
    lost = False

    async def lose_the_answer(verb: Verb, argument: Any) -> None:
        nonlocal lost
        if verb == "commit" and not lost:
            lost = True
            async with machine.open(worker=False, store=Wire(machine.store)) as other:
                await (await other.runs.get("r")).signal("go", 7)  # it is there for others
            raise Unavailable("no answer")

    async with machine.open() as app:
        machine.wire.after = lose_the_answer
        run = await patient.options(app=app).start(1, id="r")
        # What was written in between is taken up with it.
        assert (await run.result(timeout=timedelta(seconds=3))).output == [1, 7]

    assert types_of(machine.store, "r").count("created") == 1
    assert "attempt_began" not in types_of(machine.store, "r")


async def test_a_start_that_was_not_answered_may_find_another_worker_at_it(
    machine: Machine,
) -> None:
    async def lose_the_answer(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            machine.wire.after = nothing
            await asyncio.sleep(20)  # the lease is over, and somebody has taken the run
            raise Unavailable("no answer")

    nothing = machine.wire.after
    async with machine.open(store=Wire(machine.store)), machine.open() as app:
        machine.wire.after = lose_the_answer
        run = await patient.options(app=app).start(1, id="r")
        await run.signal("go", 7)
        assert (await run.result()).output == [1, 7]

    taken_over = ["created", "turn_began", "attempt_began", "parked", "signalled"]
    assert types_of(machine.store, "r")[:5] == taken_over


async def test_a_start_that_was_not_answered_does_not_take_the_lease_of_another_for_its_own(
    machine: Machine,
) -> None:
    async def lose_the_answer(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            machine.wire.after = nothing
            machine.clock.advance(LEASE + 1)
            # Somebody has just claimed the run, and written nothing yet.
            lane = Lane("default", "patient")
            assert (await machine.store.claim([lane], "other", LEASE, 1, "f")).heads
            raise Unavailable("no answer")

    nothing = machine.wire.after
    async with machine.open() as app:
        machine.wire.after = lose_the_answer
        run = await patient.options(app=app).start(1, id="r")
        await run.signal("go", 7)
        await asyncio.sleep(LEASE / 2)

    assert types_of(machine.store, "r") == ["created", "turn_began", "signalled"]


async def test_a_start_goes_on_after_the_runs_that_were_deleted(machine: Machine) -> None:
    async with machine.open() as app:
        for number in range(3):
            run = await echo.options(app=app).start(number, id="r")
            await run.result()
            await asyncio.sleep(0.1)
            head = head_of(machine.store, "r")
            assert await machine.store.delete("run/r", expect=head.revision)
            with pytest.raises(TaskNotFound, match="no run has the id 'r'"):
                await run.result()
            with pytest.raises(TaskNotFound):
                await run.refresh()
            for stop in (run.cancel, run.abort):
                with pytest.raises(TaskNotFound):
                    await stop()
            with pytest.raises(TaskNotFound):
                await run.signal("go")


async def test_a_start_says_when_the_store_does_not_answer(machine: Machine) -> None:
    async def no_answer(verb: Verb, argument: Any) -> None:
        raise Unavailable("the network is down")

    async with machine.open(worker=False) as app:
        machine.wire.before = no_answer
        with pytest.raises(Unavailable, match="the network is down"):
            await echo.options(app=app).start(1, id="r")

    assert not machine.store._heads


async def test_whether_a_start_was_written_and_deleted_is_not_known(machine: Machine) -> None:
    async def made_and_deleted(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            machine.wire.after = nothing
            await machine.store.delete("run/r", expect=1)
            raise Unavailable("no answer")

    nothing = machine.wire.after
    async with machine.open(worker=False) as app:
        machine.wire.after = made_and_deleted
        with pytest.raises(Unavailable, match="whether 'run/r' was made is not known"):
            await echo.options(app=app).start(1, id="r")


async def test_a_handle_is_of_one_run_also_when_its_id_is_used_again(
    app: App, machine: Machine
) -> None:
    old = await echo.start(1, id="r")
    await old.result()
    await asyncio.sleep(0.1)
    await machine.store.delete("run/r", expect=3)
    new = await patient.start(2, id="r")

    for call in (old.refresh, old.result, old.cancel, old.abort):
        with pytest.raises(TaskNotFound):
            await call()
    await new.signal("go", 3)
    assert (await new.result()).output == [2, 3]


# Results


async def test_a_result_may_be_waited_for_at_most_so_long(app: App, clock: FakeClock) -> None:
    run = await patient.start(1, id="r")
    before = clock.wall()

    with pytest.raises(TimeoutError, match="run 'r' did not end within 0:01:00"):
        await run.result(timeout=MINUTE)

    assert clock.wall() - before == pytest.approx(60, abs=0.1)
    await run.signal("go", 2)
    assert (await run.result(timeout=MINUTE)).is_completed


async def test_a_run_that_ends_soon_in_this_process_is_not_read(app: App, machine: Machine) -> None:
    await echo.run(0, id="first")
    reads: list[str] = []

    async def note(verb: Verb, argument: Any) -> None:
        if verb == "read":
            reads.append(argument)

    machine.wire.before = note
    for number in range(3):
        assert (await echo.run(number, id=f"r{number}")).output == number

    assert reads == []


async def test_an_output_is_its_own_for_each_who_asks(app: App) -> None:
    run = await echo.start([1], id="r")

    one, other = await asyncio.gather(run.result(), run.result())
    one.output.append(2)

    assert other.output == [1]
    assert (await run.result()).output == [1]


async def test_a_failure_says_what_was_raised_where_and_how_often(app: App) -> None:
    @task(retry=RetryPolicy(2, initial_delay=timedelta(0)))
    async def handler(ctx: TaskContext[None]) -> None:
        raise LookupError("gone")

    with pytest.raises(TaskFailed) as failed:
        await handler.run(None, id="r")

    error = failed.value.error
    assert (error.type, error.message, error.attempts) == ("LookupError", "gone", 2)
    assert "in handler" in error.traceback


async def test_an_output_that_cannot_be_written_fails_the_run_and_is_not_retried(
    app: App,
) -> None:
    @task(retry=RetryPolicy(3))
    async def handler(ctx: TaskContext[None]) -> Any:
        return object()

    with pytest.raises(TaskFailed, match=r"after 1 attempts: .*CodecError"):
        await handler.run(None)


async def test_a_signal_to_a_run_that_has_ended_is_a_conflict(app: App) -> None:
    run = await echo.start(1)
    await run.result()

    with pytest.raises(TaskConflict):
        await run.signal("go")


# Finding


async def test_a_run_is_found_by_its_id(app: App) -> None:
    await echo.run(7, id="r")

    assert (await (await app.runs.get("r")).result()).output == 7
    assert (await (await echo.get("r")).result()).output == 7
    with pytest.raises(TaskNotFound, match="run 'r' is of the task 'echo', not of 'patient'"):
        await patient.get("r")
    with pytest.raises(TaskNotFound, match="no run has the id 'other'"):
        await app.runs.get("other")


async def test_the_output_of_a_task_that_is_not_known_here_is_plain(
    app: App, machine: Machine
) -> None:
    @task(name="forgotten")
    async def handler(ctx: TaskContext[None]) -> tuple[int, int]:
        return (1, 2)

    await handler.run(None, id="r")
    del handler

    assert (await (await app.runs.get("r")).result()).output in ([1, 2], (1, 2))


async def test_runs_are_listed_newest_first_page_by_page(app: App) -> None:
    for number in range(5):
        await echo.run(number, id=f"r{number}")

    pages, after = [], None
    while True:
        page = await echo.list(limit=2, after=after)
        pages.append([run.id for run in page.items])
        after = page.next
        if after is None:
            break

    assert pages == [["r4", "r3"], ["r2", "r1"], ["r0"]]


async def test_runs_are_listed_by_what_they_are(app: App, clock: FakeClock) -> None:
    middle = []
    for number in range(4):
        middle.append(datetime.fromtimestamp(clock.wall(), UTC))
        await asyncio.sleep(0.5)
        own = echo.options(source=f"s{number % 2}", tags={"n": str(number), "all": "x"})
        await own.run(number, id=f"r{number}", session_id=f"k{number // 2}")
        await asyncio.sleep(0.5)
    waiting = await patient.start(0, id="w")

    async def ids(**filters: Any) -> list[str]:
        return [run.id for run in (await app.runs.list(**filters)).items]

    assert await ids() == ["w", "r3", "r2", "r1", "r0"]
    assert await ids(task="echo", tags={"n": "2", "all": "x"}) == ["r2"]
    assert await ids(status="running") == ["w"]
    assert await ids(status=["running", Status.COMPLETED]) == ["w", "r3", "r2", "r1", "r0"]
    assert await ids(status="failed") == []
    assert await ids(session_id="k1") == ["r3", "r2"]
    assert await ids(source="s1") == ["r3", "r1"]
    assert await ids(started_after=middle[1], started_before=middle[3]) == ["r2", "r1"]
    assert [run.id for run in (await patient.list()).items] == ["w"]
    await waiting.abort()


@pytest.mark.parametrize(
    "filters",
    [
        {"limit": 0},
        {"limit": 1001},
        {"status": "lost"},
        {"status": ["completed", "lost"]},
        {"started_after": datetime(2024, 1, 1)},  # noqa: DTZ001
        {"after": "nonsense"},
    ],
    ids=str,
)
async def test_what_is_no_filter_is_refused(app: App, filters: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        await app.runs.list(**filters)
