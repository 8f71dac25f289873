"""Trouble with the file of an app that has runs under way: it is said, nothing hangs, and what was
accepted is there when the trouble is over."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

import outlast
from outlast import App, TaskContext, TaskRun, Unavailable, task
from outlast.engine.clock import System
from outlast.engine.payloads import MAX_PAYLOAD
from outlast.stores.sqlite import SQLiteStore
from outlast.stores.sqlite.ledger import Ledger
from tests.stores.sqlite import trouble
from tests.stores.sqlite.conftest import Process
from tests.stores.sqlite.trouble import Harm, journals

pytestmark = pytest.mark.slow

Start = Callable[[str], Awaitable[Process]]

BOUND: Final = 120.0
"""Seconds after which something hangs: far more than the limits that are promised together."""

LONG: Final = 5_000
"""Times that a name is in an outcome, so that each needs pages of its own."""

PATIENCE: Final = 0.5
"""Seconds that a call waits for the store, 10 unless a test says so."""


@dataclass
class Gates:
    """Where a handler stands, and what lets it go on."""

    is_in_step: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    steps: list[str] = field(default_factory=list[str])


async def take(gates: Gates, name: str) -> str:
    """Be a step, which is told of when it has begun and goes on when it may."""
    gates.steps.append(name)
    if name == "middle":
        gates.is_in_step.set()
        await gates.goes_on.wait()
    return name * LONG


@task(name="trouble.steps")
async def steps(ctx: TaskContext[str]) -> list[str]:
    gates: Gates = ctx.resources
    taken: list[str] = []
    for name in ("first", "middle", "last"):
        taken.append(await ctx.step(name, take, gates, name))
        await ctx.emit(name)
    return taken


@task(name="trouble.wait")
async def wait(ctx: TaskContext[None]) -> str:
    return await ctx.wait("word", str)


@dataclass
class Scene:
    """An app with a run inside a step, a run that only waits, and somebody who follows each."""

    app: App
    store: SQLiteStore
    gates: Gates
    at_work: TaskRun[list[str]]
    parked: TaskRun[str]
    waiting: dict[str, asyncio.Task[Any]]

    async def ends_of_waiting(self) -> dict[str, Any]:
        """Return what came of those who wait."""
        ended = await asyncio.gather(*self.waiting.values(), return_exceptions=True)
        return dict(zip(self.waiting, ended, strict=True))


async def follow(run: TaskRun[Any]) -> list[Any]:
    return [item async for item in run.stream()]


def open_app(path: Path, gates: Gates) -> tuple[App, SQLiteStore]:
    system = System()
    store = SQLiteStore(path, clock=system, patience=PATIENCE)
    app = App(
        f"sqlite:///{path}",
        worker=True,
        concurrency=10,
        queues=("default",),
        lease=timedelta(seconds=3),
        grace=timedelta(seconds=0.2),
        namespace="default",
        resources=gates,
        max_payload=MAX_PAYLOAD,
        system=system,
        store=store,
    )
    return app, store


@asynccontextmanager
async def at_work(path: Path) -> AsyncGenerator[Scene]:
    """Yield an app with everything under way, and leave it, in bounded time."""
    for past in ("older", "newer"):
        async with outlast.open(f"sqlite:///{path}", worker=False):
            for number in range(25):
                await (await wait.start(None, id=f"{past}-{number}")).abort()
        if past == "older":
            trouble.keep_backup(path)
    gates = Gates()
    app, store = open_app(path, gates)
    async with asyncio.timeout(BOUND):
        async with app:
            parked = await wait.start(None, id="parked")
            at_work = await steps.start("", id="at-work")
            await gates.is_in_step.wait()
            await left_memory(app)
            waiting: dict[str, asyncio.Task[Any]] = {
                "result": asyncio.create_task(at_work.result()),
                "stream": asyncio.create_task(follow(at_work)),
                "result of parked": asyncio.create_task(parked.result()),
                "stream of parked": asyncio.create_task(follow(parked)),
            }
            await asyncio.sleep(0)
            yield Scene(app, store, gates, at_work, parked, waiting)


async def left_memory(app: App) -> None:
    """Return when no worker holds the run that only waits."""
    with app.client.around.hints.changes("run/parked") as changed:
        while (await app.client.head("run/parked")).lease is not None:
            await changed.wait()
            changed.clear()


LOST: list[Harm] = [
    trouble.deleted,
    trouble.moved,
    trouble.replaced,
    trouble.without_log,
    trouble.without_index_of_log,
    trouble.emptied,
    trouble.cut,
    trouble.beheaded,
    trouble.restored,
    trouble.overwritten_by_another,
]


@pytest.mark.parametrize("harm", LOST, ids=lambda harm: harm.__name__)
async def test_all_are_told_when_the_file_is_lost_and_nothing_is_acknowledged(
    path: Path, harm: Harm
) -> None:
    async with at_work(path) as scene:
        harm(path)

        told = await scene.ends_of_waiting()

        for what, error in told.items():
            assert isinstance(error, Unavailable), what
            assert error.is_final, what
        for verb in (
            lambda: steps.start("", id="new"),
            lambda: wait.run(None, id="new"),
            lambda: scene.parked.signal("word", "x"),
            scene.at_work.cancel,
            scene.parked.abort,
        ):
            with pytest.raises(Unavailable):
                await verb()
        scene.gates.goes_on.set()
    assert scene.gates.steps == ["first", "middle"]


Trouble = Callable[[Scene, Path, Start], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def full(scene: Scene, path: Path, start: Start) -> AsyncGenerator[None]:
    """Let the file not grow any more."""

    async def limit(most: int) -> None:
        def limit(ledger: Ledger) -> None:
            ledger._db.execute(f"pragma max_page_count = {most}")

        assert scene.store._entered
        is_done = False
        while not is_done:  # it may share a transaction with what finds no room
            with suppress(Unavailable):
                await scene.store._entered.write(limit)
                is_done = True

    await limit(1)  # as many as there are
    yield
    await limit(2**30)


@asynccontextmanager
async def locked(scene: Scene, path: Path, start: Start) -> AsyncGenerator[None]:
    """Let another program be in the middle of a write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        yield
        other.execute("rollback")


@asynccontextmanager
async def frozen(scene: Scene, path: Path, start: Start) -> AsyncGenerator[None]:
    """Let another process of ours stand still in the middle of a write."""
    process = await start("stay_inside")
    assert (await process.says())["inside"]
    process.send(signal.SIGSTOP)
    yield
    process.send(signal.SIGCONT)
    process.tell()
    assert (await process.says())["outside"]


@asynccontextmanager
async def killed(scene: Scene, path: Path, start: Start) -> AsyncGenerator[None]:
    """Let it stand still, and then be killed."""
    process = await start("stay_inside")
    assert (await process.says())["inside"]
    process.send(signal.SIGSTOP)
    yield
    process.send(signal.SIGKILL)
    await process.ends()


@pytest.mark.parametrize("begin", [full, locked, frozen, killed], ids=lambda begin: begin.__name__)
async def test_what_was_accepted_goes_on_when_the_trouble_is_over(
    path: Path, start: Start, begin: Trouble
) -> None:
    async with at_work(path) as scene:
        async with begin(scene, path, start):
            with pytest.raises(Unavailable) as said:
                await steps.start("new" * LONG, id="new")
            assert str(path) in str(said.value)
            assert not said.value.is_final
            scene.gates.goes_on.set()  # and its outcome is to be recorded
            assert (await scene.parked.refresh()).status == "running"  # who reads does not wait
            assert not any(waiting.done() for waiting in scene.waiting.values())

        await scene.parked.signal("word", "go")
        new = await steps.run("new" * LONG, id="new")
        told = await scene.ends_of_waiting()

        assert told["result of parked"].output == "go"
        for output in (told["result"].output, new.output):
            assert output == [name * LONG for name in ("first", "middle", "last")]
        for items in (told["stream"], await follow(scene.at_work)):
            assert [item.value for item in items] == ["first", "middle", "last"]
    assert scene.gates.steps.count("first") == 2  # once in each run: it was recorded
    found = journals(path)
    assert ("never there" in found) == (begin is frozen)  # its write is whole, or not there
    assert len(found) == 50 + 3 + (begin is frozen)


async def test_an_app_is_left_behind_a_frozen_process_and_another_goes_on(
    path: Path, start: Start
) -> None:
    async with at_work(path) as scene:
        process = await start("stay_inside")
        assert (await process.says())["inside"]
        process.send(signal.SIGSTOP)
        scene.gates.goes_on.set()
    told = await scene.ends_of_waiting()
    os.kill(process.pid, signal.SIGKILL)
    await process.ends()

    app, _ = open_app(path, scene.gates)
    async with asyncio.timeout(BOUND), app:
        runs = [await app.runs.get(id) for id in ("at-work", "parked")]
        await runs[1].signal("word", "go")
        outputs = [(await run.result()).output for run in runs]

    assert {type(what).__name__ for what in told.values()} <= {"UsageError", "Unavailable"}
    assert outputs == [[name * LONG for name in ("first", "middle", "last")], "go"]
    assert scene.gates.steps.count("first") == 1
    journals(path)
