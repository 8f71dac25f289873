"""What holds for every test that kills processes: none of them is left behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.crash.stage import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Yield a stage, which is cleared afterwards."""
    async with Stage(tmp_path) as stage:
        yield stage
