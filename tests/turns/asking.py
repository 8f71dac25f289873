"""What tests of turns ask of runs."""

from __future__ import annotations

import asyncio
from typing import Any

import outlast


async def types(run: outlast.TaskRun[Any]) -> list[str]:
    """Return the types of what is written of a run."""
    return [entry.type async for entry in run.history()]


async def status(run: outlast.TaskRun[Any]) -> str:
    """Return where the run stands now."""
    return (await run.refresh()).status


async def cancelled_or_told(ctx: outlast.TaskContext[Any], signal: str) -> None:
    """Wait for the signal, and to be asked to stop, out of memory."""
    told = asyncio.ensure_future(ctx.wait(signal))
    asked = asyncio.ensure_future(ctx.cancel.wait())
    await asyncio.wait({told, asked}, return_when=asyncio.FIRST_COMPLETED)
    for task in (told, asked):
        task.cancel()


class Gates:
    """Places at which a handler waits outside of `ctx`, until the test lets it go on."""

    def __init__(self) -> None:
        self._reached: dict[str, asyncio.Event] = {}
        self._open: dict[str, asyncio.Event] = {}

    async def wait(self, name: str) -> None:
        """Say that the gate is reached, and wait until it is opened."""
        self._event(self._reached, name).set()
        await self._event(self._open, name).wait()

    async def reached(self, name: str) -> None:
        """Return when somebody has come to the gate."""
        await self._event(self._reached, name).wait()

    def open(self, name: str) -> None:
        """Let everybody through, now and later."""
        self._event(self._open, name).set()

    @staticmethod
    def _event(events: dict[str, asyncio.Event], name: str) -> asyncio.Event:
        return events.setdefault(name, asyncio.Event())
