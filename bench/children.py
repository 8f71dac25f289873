"""Processes of the benchmark's own: each says lines, and hears one when it is to end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT: Final = Path(__file__).resolve().parent.parent
"""Where modules of the benchmark are found."""

PATIENCE: Final = 30.0
"""Seconds in which a process says something, or something is wrong."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that runs a module."""

    process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, module: str, *words: str, python: str = sys.executable) -> Child:
        """Start it."""
        process = await asyncio.create_subprocess_exec(
            *(python, "-m", module, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        return cls(process)

    async def hear(self, patience: float | None = PATIENCE) -> list[str]:
        """Return the words of the next line that it says; none where it has ended."""
        assert self.process.stdout
        line = await asyncio.wait_for(self.process.stdout.readline(), patience)
        return line.decode().split()

    async def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()

    async def end(self) -> list[str]:
        """Let it end, and return the words that it said last."""
        assert self.process.stdin
        self.process.stdin.close()  # `communicate` leaves it open where there is nothing to say
        said, _ = await self.process.communicate()
        assert self.process.returncode == 0, self.process.returncode
        return said.decode().split()


@asynccontextmanager
async def child(module: str, *words: str, **settings: Any) -> AsyncIterator[Child]:
    """Yield a process, and leave nothing of it behind."""
    started = await Child.start(module, *words, **settings)
    try:
        yield started
    finally:
        if started.process.returncode is None:
            await started.kill()


# In the process


def say(*words: object) -> None:
    """Say a line; whoever is killed afterwards has said it."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def until_nobody_listens() -> None:
    """Wait until the other end of standard input is closed."""
    await asyncio.to_thread(sys.stdin.read)


def now() -> float:
    """Return seconds by a clock that all processes of a machine share."""
    return time.monotonic()
