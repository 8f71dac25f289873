"""Other processes, and stores of the file that they have open."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from outlast.engine.clock import System
from outlast.stores.sqlite import SQLiteStore

PROGRAM = Path(__file__).with_name("process.py")
SECONDS = 60


class Process:
    """A process of `process.py`: it is told lines, and says JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def says(self) -> dict[str, Any]:
        """Wait for what it says next."""
        assert self._process.stdout
        async with asyncio.timeout(SECONDS):
            line = await self._process.stdout.readline()
        assert line, "it has ended"
        said: dict[str, Any] = json.loads(line)
        return said

    async def rest(self) -> list[dict[str, Any]]:
        """Return what else it says until it has ended, but for a line that it did not end."""
        assert self._process.stdout
        async with asyncio.timeout(SECONDS):
            said = await self._process.stdout.read()
        return [json.loads(line) for line in said.split(b"\n")[:-1]]

    def tell(self, text: str = "") -> None:
        """Write it a line."""
        assert self._process.stdin
        self._process.stdin.write(f"{text}\n".encode())

    def send(self, signal: int) -> None:
        self._process.send_signal(signal)

    async def ends(self) -> int:
        """Wait until it has ended, and return how."""
        async with asyncio.timeout(SECONDS):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it, if it has not ended by itself, and hear the last of it."""
        if self._process.returncode is None:
            self._process.kill()
        assert self._process.stdin
        self._process.stdin.close()
        # Its output ends with the last process that holds it, and a forked child may be that one:
        # what is left open here would be a warning in some later test.
        await self.rest()
        await self.ends()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outlast.db"


@pytest.fixture
async def start(path: Path) -> AsyncIterator[Callable[[str], Awaitable[Process]]]:
    """Return what starts another process in a role, on the same file."""
    processes: list[Process] = []

    async def start(role: str) -> Process:
        pipe = asyncio.subprocess.PIPE
        process = Process(
            await asyncio.create_subprocess_exec(
                *(sys.executable, str(PROGRAM), role, str(path)),
                stdin=pipe,
                stdout=pipe,
                limit=2**20,
            )
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        await process.kill()


@pytest.fixture
async def opened(path: Path) -> AsyncIterator[Callable[..., Awaitable[SQLiteStore]]]:
    """Return what opens a store of the file by the machine's own clocks."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> SQLiteStore:
            store = SQLiteStore(path, clock=System(), **settings)
            return await stack.enter_async_context(store)

        yield opened
