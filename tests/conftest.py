"""What holds for every test, and the stores under test: a store is a row in `STORES`."""

import os
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from outlast.store import Store
from outlast.stores.memory import MemoryStore
from outlast.stores.sqlite import SQLiteStore
from outlast.testing import FakeClock

# Cores are shared: a slow example is no failure, the suite's own timeout is.
settings.register_profile("brief", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=2_000)
settings.load_profile("soak" if os.environ.get("OUTLAST_SOAK") else "brief")

STORES: dict[str, Callable[[Path, FakeClock], Store]] = {
    "memory": lambda path, clock: MemoryStore(clock),
    "sqlite": lambda path, clock: SQLiteStore(path / "test.db", clock=clock),
}

SHARED = [name for name in STORES if name != "memory"]
"""Those whose data is there for whoever opens them next."""

FIGURE = "figure"
"""The property under which a test records a line that the summary prints: what it has covered."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = (report for some in terminalreporter.stats.values() for report in some)
    lines = [
        str(line)
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, line in report.user_properties
        if name == FIGURE
    ]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(sorted(lines)))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=STORES)
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Store]:
    """Yield an empty store, open; the test runs once for every store."""
    async with STORES[request.param](tmp_path, clock) as store:
        yield store


@pytest.fixture(params=SHARED)
def make_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> Callable[[], Store]:
    """Return what gives another store on the same data each time, not opened yet."""
    return lambda: STORES[request.param](tmp_path, clock)


@pytest.fixture(params=STORES)
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[FakeClock], Store]:
    """Return what gives a store of its own each time, empty, and not opened yet."""
    places = (tmp_path / str(number) for number in count())

    def new(clock: FakeClock) -> Store:
        place = next(places)
        place.mkdir()
        return STORES[request.param](place, clock)

    return new
