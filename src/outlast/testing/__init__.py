"""What you need to test your own tasks and stores; nothing here runs in production.

`app` opens an app whose clock you move, and whose worker you may kill; `run` is `asyncio.run` on an
event loop whose time flies. `FakeClock` moves only when told; `SkippingLoop` moves it whenever
everything waits, and `FakeSystem` is the machine to it. `FaultyStore` loses, delays and repeats
what is asked of a store. `outlast.testing.contract` is what every store must do, as a suite for
pytest; it alone imports pytest.
"""

from outlast.testing.app import SkippingApp, app
from outlast.testing.clock import FakeClock
from outlast.testing.faults import (
    DrawnFaults,
    Fate,
    Faults,
    FaultyStore,
    Odds,
    ScriptedFaults,
)
from outlast.testing.running import run
from outlast.testing.system import FakeSystem, SkippingLoop

__all__ = [
    "DrawnFaults",
    "FakeClock",
    "FakeSystem",
    "Fate",
    "Faults",
    "FaultyStore",
    "Odds",
    "ScriptedFaults",
    "SkippingApp",
    "SkippingLoop",
    "app",
    "run",
]
