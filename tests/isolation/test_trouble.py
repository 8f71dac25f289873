"""What goes wrong around isolated handlers, and what is left of it: nothing."""

import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import outlast
from outlast import App, Status
from outlast.engine.attempt import Stop
from outlast.engine.isolation.attempt import IsolatedAttempt
from outlast.model.events import TYPE_OF, HandedBack
from outlast.store import Hint
from tests.isolation import handlers
from tests.isolation.handlers import ENTERED_BY, TELLS, Question
from tests.isolation.stage import Stage, first_item, gone, is_alive, recorded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, and adopts orphans"),
]


@pytest.fixture
def spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have resources that trouble every process but this one."""
    monkeypatch.setenv(ENTERED_BY, str(os.getpid()))


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a pipe into which a child says its number."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    monkeypatch.setenv(TELLS, str(path))
    return path


async def told_by(pipe: Path) -> int:
    return int(await asyncio.to_thread(pipe.read_text))


def guard_of(app: App) -> int:
    worker = app._worker
    assert worker is not None
    guard = worker._children._guard
    assert guard is not None
    return guard.process.pid


def attempt_of(app: App) -> IsolatedAttempt:
    assert app._worker is not None
    [attempt] = app._worker.attempts
    assert isinstance(attempt, IsolatedAttempt)
    return attempt


# A child that starts


@pytest.mark.usefixtures("spared")
async def test_an_abort_does_not_wait_for_a_child_to_start(url: str, pipe: Path) -> None:
    async with outlast.open(url, concurrency=1, resources=handlers.late_pool):
        run = await handlers.ask.start(Question("why"))
        pid = await told_by(pipe)

        await run.abort()
        await gone([pid])

        assert (await handlers.inline.run("free")).output == "free"
        assert (await run.refresh()).status is Status.ABORTED


@pytest.mark.usefixtures("spared")
async def test_a_shutdown_does_not_wait_for_a_child_to_start(url: str, pipe: Path) -> None:
    async with outlast.open(url, grace=timedelta(0), resources=handlers.late_pool):
        await handlers.ask.start(Question("why"), id="r")
        pid = await told_by(pipe)

    assert not is_alive(pid)
    async with outlast.open(url, worker=False):
        run = await handlers.ask.get("r")
        assert run.status is Status.PENDING
        assert [entry.type async for entry in run.history()][-1] == TYPE_OF[HandedBack]


@pytest.mark.usefixtures("spared")
async def test_a_child_that_starts_goes_with_its_guard(url: str, pipe: Path) -> None:
    async with outlast.open(url, resources=handlers.late_pool) as app:
        run = await handlers.ask.start(Question("why"))
        pid = await told_by(pipe)

        os.kill(guard_of(app), signal.SIGKILL)
        await gone([pid])

        await recorded(app, run, TYPE_OF[HandedBack])
        await run.abort()


@pytest.mark.usefixtures("spared")
async def test_a_run_whose_child_does_not_start_is_put_back_and_says_why(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with outlast.open(url, resources=handlers.broken_pool) as app:
        run = await handlers.ask.start(Question("why"))

        await recorded(app, run, TYPE_OF[HandedBack])

        assert (await run.refresh()).status is Status.PENDING
        await run.abort()
    [said] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "ConnectionRefusedError: the database is down" in said.getMessage()


# A child at work


async def test_a_copy_that_a_handler_forks_ends_with_it(app: App) -> None:
    run = await handlers.fork.start("wait")
    family = await first_item(run)

    await run.abort()
    await gone(family)

    assert (await run.refresh()).status is Status.ABORTED


async def test_a_copy_of_a_dead_child_does_not_pass_for_it(app: App) -> None:
    run = await handlers.fork.start("die")
    family = await first_item(run)

    assert (await run.result()).output == 1

    assert not any(map(is_alive, family))


async def test_a_child_that_crashes_is_a_death_of_its_run(app: App) -> None:
    assert (await handlers.crash.run(None)).output == 1


async def test_a_child_that_babbles_is_a_death_of_its_run(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await handlers.babble.run(None)).output == 1

    assert "do not understand each other" in caplog.text


async def test_a_child_outlives_the_first_end_of_a_lease_that_is_renewed(url: str) -> None:
    async with outlast.open(url, lease=timedelta(seconds=1)):
        assert (await handlers.outlive.run(2.0)).output == 0


async def test_a_child_whose_lease_is_lost_stops_and_its_run_goes_on(url: str) -> None:
    async with outlast.open(url, lease=timedelta(seconds=1)) as app:
        run = await handlers.have_family_in_a_step.start(None)
        family = await first_item(run)

        attempt_of(app).stop(Stop.LEASE_LOST)
        await gone(family)

        successors = await first_item(run, after=1)
        await run.abort()
        await gone(successors)


async def test_a_child_that_does_not_stop_when_its_lease_is_lost_is_killed(
    url: str, pipe: Path
) -> None:
    async with outlast.open(url) as app:
        run = await handlers.tell_and_spin.start(None)
        pid = await told_by(pipe)

        attempt_of(app).stop(Stop.LEASE_LOST)
        await gone([pid])

        assert (await run.refresh()).status is Status.RUNNING
        await run.abort()


async def test_a_frozen_child_is_killed_at_an_abort(app: App) -> None:
    run = await handlers.stay.start("cancel")
    pid = await first_item(run)
    os.kill(pid, signal.SIGSTOP)

    await run.abort()
    await gone([pid])

    assert (await handlers.ask.run(Question("free?"))).output.text == "FREE?"


async def test_a_child_has_nothing_open_that_its_worker_has(app: App, tmp_path: Path) -> None:
    with (tmp_path / "inheritable").open("w") as file:
        os.set_inheritable(file.fileno(), True)

        found = (await handlers.list_descriptors.run(None)).output

    assert not [name for name in found if str(tmp_path) in name]
    assert len([name for name in found if name.startswith("socket:")]) == 3  # and a loop's own pair


async def test_what_is_large_crosses_the_socket(app: App) -> None:
    text = "x" * 20_000_000

    assert (await handlers.carry.run(text)).output == text


async def test_a_child_may_ask_more_than_is_answered_at_once(app: App) -> None:
    assert (await handlers.ask_a_lot.run(3_000)).output == 3_000


async def test_a_child_that_does_not_read_fills_no_memory_and_is_told_later(app: App) -> None:
    run = await handlers.stay.start("cancel")
    pid = await first_item(run)
    attempt = attempt_of(app)
    os.kill(pid, signal.SIGSTOP)

    for revision in range(100_000):
        attempt._desk.pass_on(Hint("run/another", revision))  # type: ignore[union-attr]
    held = attempt._child.wire._transport.get_write_buffer_size()  # type: ignore[union-attr]
    await run.cancel()
    os.kill(pid, signal.SIGCONT)

    assert (await run.result()).output == "cancel"
    assert held < 1_000_000


# A worker, or a guard, in trouble


async def test_a_blocked_worker_loses_an_aborted_child_with_its_lease(stage: Stage) -> None:
    worker = await stage.worker(lease=2.0)
    run = await handlers.have_family.start("spin")
    family = await first_item(run)
    blocking = await handlers.block.start(None)
    await first_item(blocking)

    await run.abort()
    await gone(family)

    assert is_alive(worker.pid)
    await blocking.abort()


async def test_a_frozen_guard_holds_up_neither_an_abort_nor_its_worker(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with outlast.open(url) as app:
        run = await handlers.have_family.start("spin")
        family = await first_item(run)
        guard = guard_of(app)
        os.kill(guard, signal.SIGSTOP)

        await run.abort()
        await gone(family[:1])
        assert (await run.refresh()).status is Status.ABORTED

    assert not is_alive(guard)
    assert not any(map(is_alive, family))
    assert "the guard of isolated handlers does not end" in caplog.text


# The end


async def test_a_handler_that_never_awaits_is_handed_back_at_a_shutdown(
    url: str, pipe: Path
) -> None:
    async with outlast.open(url, grace=timedelta(0)):
        await handlers.tell_and_spin.start(None, id="r")
        pid = await told_by(pipe)

    assert not is_alive(pid)
    async with outlast.open(url, worker=False):
        run = await handlers.tell_and_spin.get("r")
        assert run.status is Status.PENDING
        assert [entry.type async for entry in run.history()][-1] == TYPE_OF[HandedBack]


async def test_a_child_that_has_no_run_leaves_its_resources(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENTERED_BY, str(tmp_path / "left"))

    async with outlast.open(url, resources=handlers.pool_in_a_file):
        pid = (await handlers.ask.run(Question("why"))).output.pid

    assert (tmp_path / "left").read_text().split() == [str(pid), str(os.getpid())]
