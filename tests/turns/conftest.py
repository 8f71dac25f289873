"""What holds for every test of turns: it runs on every store, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from outlast import testing


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/test.db"


@pytest.fixture
async def app(url: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[testing.SkippingApp]:
    """Yield an open app on each store; no task is left, and nothing is logged as an error."""
    async with testing.app(url, patience=timedelta(seconds=0.05)) as app:
        yield app
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"
    assert [it for it in caplog.get_records("call") if it.levelno >= logging.ERROR] == []
