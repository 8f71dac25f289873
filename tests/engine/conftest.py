"""What holds for every test of the engine: it waits for nothing, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from outlast import App
from outlast.stores.memory import MemoryStore
from outlast.testing import FakeClock, FakeSystem, SkippingLoop
from tests.engine.turns import LOOPS, Turn
from tests.engine.world import Wire, World, open_app, worlds


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give a module's tests the event loop that it names as `loop_factory`."""
    module: Any = item.getparent(pytest.Module)
    return {"loop": getattr(module.obj, "loop_factory", asyncio.new_event_loop)}


class Machine:
    """A machine whose time flies, with one store for all its apps."""

    def __init__(self, loop: SkippingLoop) -> None:
        self.clock = loop.clock
        self.system = FakeSystem(loop)
        self.store = MemoryStore(loop.clock)
        self.wire = Wire(self.store)
        """The way to the store of every app that gets none of its own."""

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """Let nobody hear of what is written meanwhile."""
        listeners, self.store._listeners = self.store._listeners, {}
        try:
            yield
        finally:
            self.store._listeners = listeners

    def open(self, *, store: Wire | None = None, **settings: Any) -> App:
        """Return another app on the store."""
        return open_app(self.system, store or self.wire, **settings)


@pytest.fixture(scope="module")
def quick_collections() -> Iterator[None]:
    """Spare the collections after each test what was there before them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=LOOPS)
def turn(request: pytest.FixtureRequest) -> Iterator[Turn]:
    """Yield a turn on each loop; nothing may be logged, and nothing left."""
    loop: asyncio.AbstractEventLoop = request.param()
    turn = Turn(loop)
    yield turn
    turn.door.set()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gc.collect()
    assert not left
    assert not turn.said


@pytest.fixture
async def machine(nothing_is_left: None) -> Machine:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    return Machine(loop)


@pytest.fixture
async def app(machine: Machine) -> AsyncIterator[App]:
    """Yield an open app with a worker."""
    async with machine.open() as app:
        yield app


@pytest.fixture
def clock(machine: Machine) -> FakeClock:
    return machine.clock


@pytest.fixture
def make_world() -> Iterator[Callable[[], World]]:
    """Yield what makes worlds of processes that die."""
    with worlds() as make:
        yield make


@pytest.fixture
async def nothing_is_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task or a thread of ours behind."""
    yield

    for _ in range(3):  # what was cancelled last may end
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"
    for thread in threading.enumerate():
        if thread.name.startswith("outlast"):
            thread.join(5)  # it looks every second whether its loop is still there
            assert not thread.is_alive(), f"{thread.name} is left"


@pytest.fixture(autouse=True)
def nothing_is_wrong(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Fail a test of ours that leaves an error in the log; `caplog.clear()` takes it back."""
    yield
    if hasattr(request.module, "loop_factory"):
        gc.collect()  # asyncio says of a lost error when its task goes
        errors = [
            record
            for record in caplog.get_records("call")
            # A process that died has nobody left to hear of its own end.
            if record.levelno >= logging.ERROR and "the process is dead" not in record.getMessage()
        ]
        assert not errors, errors
