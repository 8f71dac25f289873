"""What holds for every test of isolated handlers: no process and no descriptor is left behind."""

import gc
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import outlast
from outlast import App
from outlast.engine.isolation.processes import children_of
from tests.isolation.stage import Stage


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    gc.collect()
    before = descriptors(), children_of(os.getpid())
    yield
    gc.collect()
    assert (descriptors(), children_of(os.getpid())) == before


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()]) if sys.platform == "linux" else 0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
async def app(url: str) -> AsyncIterator[App]:
    async with outlast.open(url) as app:
        yield app


@pytest.fixture
async def stage(url: str) -> AsyncIterator[Stage]:
    """Yield a client of a store whose workers are other processes."""
    async with Stage(url) as stage:
        yield stage
