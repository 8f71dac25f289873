"""How isolated handlers are stopped, and that nothing is left of them."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from outlast import App, Status, TaskAborted
from outlast.engine.isolation.processes import relatives
from outlast.model.events import TYPE_OF, AttemptBegan, HandedBack
from outlast.stores.sqlite.processes import owners
from tests.isolation import handlers
from tests.isolation.handlers import Question
from tests.isolation.stage import Stage, first_item, gone, is_alive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, and adopts orphans"),
]

SOAK = bool(os.environ.get("OUTLAST_SOAK"))
ABORTS = 200 if SOAK else 20


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_abort_from_another_process_ends_what_never_awaits(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = await stage.worker()
    took: list[float] = []

    for number in range(ABORTS):
        run = await handlers.spin.start(("spin", "sleep")[number % 2], id=f"r-{number}")
        pid = await first_item(run)
        began = time.perf_counter()
        await run.abort()
        await gone([pid])
        took.append(time.perf_counter() - began)
        assert (await run.refresh()).status is Status.ABORTED

    assert (await handlers.ask.run(Question("healthy?"))).output.text == "HEALTHY?"
    assert await worker.close() == 0
    with capsys.disabled():
        p95 = sorted(took)[int(len(took) * 0.95)]
        figures = f"p95 {p95 * 1e3:.0f} ms, at most {max(took) * 1e3:.0f} ms of {ABORTS}"
        sys.stdout.write(f"\nabort of what never awaits: {figures}\n")
    if SOAK:
        assert p95 < 1
        assert max(took) < 3


async def test_abort_takes_the_whole_tree_and_spares_the_neighbour(app: App) -> None:
    runs = [await handlers.have_family.start("spin", id=f"r-{number}") for number in range(2)]
    first, second = [await first_item(run) for run in runs]

    await runs[0].abort()
    await gone(first)

    assert all(map(is_alive, second))
    with pytest.raises(TaskAborted):
        await runs[0].result()
    await runs[1].abort()
    await gone(second)


async def test_a_killed_worker_leaves_no_process(stage: Stage) -> None:
    worker = await stage.worker()
    families = []
    for how in ("spin", "wait"):
        families += await first_item(await handlers.have_family.start(how, id=how))
    guard = worker.guard

    worker.send(signal.SIGKILL)
    await gone([*families, guard])

    assert not any(map(is_alive, families))


async def test_the_runs_of_a_killed_worker_are_free_when_its_children_are_gone(
    stage: Stage,
) -> None:
    worker = await stage.worker()  # its leases would last for minutes
    run = await handlers.have_family_in_a_step.start(None)
    family = await first_item(run)
    worker.send(signal.SIGKILL)
    other = await stage.worker()

    successors = await first_item(run, after=1)

    assert not any(map(is_alive, family))
    await run.abort()
    await gone(successors)
    assert await other.close() == 0


async def test_a_copy_of_a_killed_worker_does_not_pass_for_it(stage: Stage) -> None:
    worker = await stage.worker()
    family = await first_item(await handlers.have_family.start("wait"))
    copy = await worker.fork()

    try:
        worker.send(signal.SIGKILL)
        await gone(family)

        assert is_alive(copy)
    finally:
        os.kill(copy, signal.SIGKILL)
    await gone([copy])


async def test_the_guard_holds_the_workers_lock_until_the_last_child_is_gone(
    stage: Stage, tmp_path: Path
) -> None:
    worker = await stage.worker()
    run = await handlers.have_family.start("wait")
    family = await first_item(run)
    guard = worker.guard
    locks = tmp_path / "runs.db-locks" / "owners"
    assert list(owners(locks).values()) == [worker.pid]

    os.kill(guard, signal.SIGSTOP)
    try:
        worker.send(signal.SIGKILL)
        await gone([worker.pid])
        held_by = list(owners(locks).values())
    finally:
        os.kill(guard, signal.SIGCONT)
    await gone([*family, guard])

    assert held_by == [guard]
    assert list(owners(locks).values()) == [None]


async def test_a_frozen_worker_loses_its_children_with_its_lease(stage: Stage) -> None:
    worker = await stage.worker(lease=2.0)
    family = await first_item(await handlers.have_family.start("spin"))
    guard = worker.guard

    worker.send(signal.SIGSTOP)
    await gone(family)

    assert is_alive(guard)
    worker.send(signal.SIGKILL)
    worker.send(signal.SIGCONT)
    await gone([guard])


async def test_when_the_guard_dies_the_worker_kills(stage: Stage) -> None:
    worker = await stage.worker()
    run = await handlers.have_family_in_a_step.start(None)
    family = await first_item(run)

    os.kill(worker.guard, signal.SIGKILL)
    await gone(family)

    successors = await first_item(run, after=1)  # with another guard
    await run.abort()
    await gone(successors)
    assert await worker.close() == 0


async def test_when_both_die_the_child_ends_itself(stage: Stage) -> None:
    worker = await stage.worker()
    family = await first_item(await handlers.have_family.start("wait"))
    guard = worker.guard

    for number in (signal.SIGSTOP, signal.SIGKILL):  # neither may act for the other
        worker.send(number)
        os.kill(guard, number)

    await gone(family)


async def test_a_shutdown_within_the_grace_is_told_to_the_handler(stage: Stage) -> None:
    worker = await stage.worker()
    run = await handlers.stay.start("shutdown")
    await first_item(run)

    assert await worker.close() == 0

    assert (await run.result()).output == "shutdown"


@pytest.mark.parametrize("task", [handlers.spin, handlers.swallow, handlers.hang])
async def test_what_goes_on_past_the_grace_is_killed_and_handed_back(
    task: object, stage: Stage
) -> None:
    worker = await stage.worker(grace=0.1)
    run = await task.start("spin" if task is handlers.spin else None)  # type: ignore[attr-defined]
    pid = await first_item(run)

    assert await worker.close() == 0

    assert not is_alive(pid)
    assert (await run.refresh()).status is Status.PENDING
    types = [entry.type async for entry in run.history()]
    assert types[-1] == TYPE_OF[HandedBack]
    assert TYPE_OF[AttemptBegan] not in types
    await run.abort()


async def test_what_a_terminal_sends_to_everybody_only_the_worker_hears(app: App) -> None:
    run = await handlers.stay.start("cancel")
    pid = await first_item(run)
    guard = app._worker._children._guard.process.pid  # type: ignore[union-attr]

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
        os.kill(guard, number)
    await run.cancel()

    assert (await run.result()).output == "cancel"


def test_relatives_of_a_process_are_found_without_it(tmp_path: Path) -> None:
    assert os.getpid() not in relatives(os.getpid())
