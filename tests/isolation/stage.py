"""Worker processes on one store, and the ends of processes: nothing here sleeps."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import outlast
from outlast import App, StreamItem, TaskRun
from outlast.engine.isolation.processes import children_of

ROOT = Path(__file__).parents[2]


class Worker:
    """A process that runs what is due until it is told to end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.pid = process, process.pid

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def guard(self) -> int:
        [guard] = children_of(self.pid)
        return guard

    async def fork(self) -> int:
        """Have it make a copy of itself, and return the number of that."""
        self.send(signal.SIGUSR1)
        assert self.process.stdout is not None
        word, _, pid = (await self.process.stdout.readline()).partition(b" ")
        assert word == b"forked"
        return int(pid)

    async def close(self) -> int:
        """Have it end as a service does, and return its status."""
        self.send(signal.SIGTERM)
        return await self.process.wait()


class Stage:
    """A client in this process, and workers in others."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._app = outlast.open(url, worker=False)
        self._workers: list[Worker] = []

    async def __aenter__(self) -> Self:
        await self._app.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.send(signal.SIGKILL)
            await worker.process.wait()
            assert worker.process.stdout is not None
            await worker.process.stdout.read()  # what it has started has ended, too
        await self._app.__aexit__(None, None, None)

    async def worker(self, *, lease: float = 600.0, grace: float = 10.0) -> Worker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.isolation.worker", self.url, str(lease), str(grace)),
            stdout=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
            cwd=ROOT,
        )
        worker = Worker(process)
        self._workers.append(worker)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"opened\n"
        return worker


async def first_item(run: TaskRun[Any], after: int = 0) -> Any:
    """Return what the run emits next, when it does."""
    async for item in run.stream(after):
        if isinstance(item, StreamItem):
            return item.value
    raise AssertionError("it has ended")


async def recorded(app: App, run: TaskRun[Any], type: str) -> None:
    """Return when the run's journal has an entry of this type."""
    with app.client.around.hints.changes(f"run/{run.id}") as changed:
        while not [entry async for entry in run.history() if entry.type == type]:
            await changed.wait()
            changed.clear()


async def gone(pids: Iterable[int]) -> None:
    """Return when these processes have ended; some may have already."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


def is_alive(pid: int) -> bool:
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return said.rpartition(") ")[2][0] not in "ZX"
