"""The thread of a plain handler, and the event loop that it waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from outlast import TaskContext, task
from outlast.engine.attempt import Calls
from outlast.engine.clock import System
from outlast.engine.emission import Emission
from outlast.engine.record import Record
from outlast.engine.steering import Steering
from outlast.engine.steps import Steps
from outlast.engine.turn import Turn
from outlast.engine.waits import Waits
from outlast.errors import Unwound
from outlast.journal import Fence, Head, Lease
from outlast.model.run import Run
from outlast.stores.memory import MemoryStore
from outlast.sync import _Bridge
from outlast.testing import FakeClock


@task(name="bridged")
async def bridged(ctx: TaskContext[None]) -> None:
    raise NotImplementedError  # nobody runs it


class Loop(asyncio.SelectorEventLoop):
    """An event loop that says when it was asked for something."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = threading.Event()

    def call_soon_threadsafe(self, *args: Any, **details: Any) -> Any:  # type: ignore[override]
        handle = super().call_soon_threadsafe(*args, **details)
        self.is_asked.set()
        return handle


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def bridge(loop: Loop) -> _Bridge:
    async def make() -> _Bridge:
        lease = Lease("run/r", "me", Fence(1, "f"), 15.0)
        head, store = Head("run/r", 1, 2, lease=lease), MemoryStore(FakeClock())
        record = Record(store, System(), head, Run())
        turn = Turn(record, System(), bridged._definition, 1000)
        emission = Emission(turn)
        steps, steering = Steps(turn, emission), Steering(turn, lambda _: None)
        return _Bridge(Calls(turn, emission, steps, Waits(turn), steering, loop))

    return loop.run_until_complete(make())


@pytest.mark.slow
def test_a_thread_does_not_wait_for_a_loop_that_is_closed_meanwhile(
    bridge: _Bridge, loop: Loop
) -> None:
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            bridge.ask(lambda: asyncio.sleep(0))
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert loop.is_asked.wait(10)
    loop.close()  # which nobody has run
    thread.join(10)

    assert not thread.is_alive()
    assert [str(error) for error in raised] == ["the app was left"]


def test_a_thread_does_not_ask_a_loop_that_is_closed(bridge: _Bridge, loop: Loop) -> None:
    loop.close()

    with pytest.raises(Unwound, match="the app was left"):
        bridge.ask(lambda: asyncio.sleep(0))
