"""The side of the test: it starts worker processes, hears what they say, and tells them what to do.

Nothing here sleeps: a process says what it has come to, and its death is the end of a pipe.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from outlast import App, Retracted, StreamItem, TaskRun
from outlast.engine.app import open as open_app
from outlast.journal import Entry
from tests.crash import tasks
from tests.crash.fate import Point
from tests.crash.ledger import Ledger
from tests.crash.worker import Orders

LEASE: Final = 600.0
"""Seconds: far more than any test takes, so that none of them can wait for a lease to end."""

PATIENCE: Final = 90.0
"""Seconds after which a test has failed, and no sooner: the machine may be busy."""

ROOT: Final = Path(__file__).parents[2]


class Worker:
    """A worker process, as its parent sees it.

    Attributes:
        gone: ends when the process has ended and all that it said was heard.
        is_dead: whether it has.
    """

    def __init__(self, process: asyncio.subprocess.Process, hear: Callable[[str], None]) -> None:
        self.process, self.pid = process, process.pid
        self._hear = hear
        self.heard: list[str] = []
        self.is_dead = False
        self._changed = asyncio.Event()
        self.gone = asyncio.create_task(self._listen())

    async def _listen(self) -> int:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.heard.append(line.decode().strip())
            self._hear(self.heard[-1])
            self._changed.set()
        status = await self.process.wait()
        self.is_dead = True
        self._changed.set()
        return status

    async def says(self, *names: str) -> bool:
        """Wait until it has said one of these; False if it died before that."""
        while not (has := self.has_said(*names)) and not self.is_dead:
            self._changed.clear()
            await self._changed.wait()
        return has

    def has_said(self, *names: str) -> bool:
        return any(name in self.heard for name in names)

    async def tell(self, name: str) -> None:
        assert self.process.stdin is not None
        with suppress(ConnectionError):  # it is dead, or about to be
            self.process.stdin.write(f"{name}\n".encode())
            await self.process.stdin.drain()

    async def open(self) -> bool:
        """Have it begin to work; return whether it does."""
        await self.tell("open")
        return await self.says("opened")

    async def close(self) -> int:
        """Have it end, in order, and return its status."""
        await self.tell("close")
        return await self.gone

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.gone

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Stage:
    """One database, a client of it in this process, the workers, and the ledger of all of them."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "runs.db"
        self.ledger = Ledger(directory / "ledger")
        self.log = directory / "workers.log"
        self.app: App = open_app(f"sqlite:///{self.file}", worker=False)
        self.workers: list[Worker] = []
        self._heard: Counter[str] = Counter()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.app.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave no process behind, whatever has happened."""
        for worker in self.workers:
            # It leads a session of its own, so that its children go with it.
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            await worker.gone
            assert worker.process.stdin is not None
            worker.process.stdin.close()
            with suppress(ConnectionError):
                await worker.process.stdin.wait_closed()
        await self.app.__aexit__(None, None, None)

    async def load(
        self,
        point: Point | None = None,
        *,
        start: str = "",
        lease: float = LEASE,
        queue: str = "default",
    ) -> Worker:
        """Start a process, which does nothing until it is told to open."""
        orders = Orders(str(self.file), str(self.ledger.path), lease, queue, point, start)
        return await self._begin("-m", "tests.crash.worker", orders.to_text())

    async def client(self, name: str) -> Worker:
        """Start a process that makes journeys until it is killed; their ids begin with the name."""
        return await self._begin(
            "-m", "tests.crash.client", str(self.file), str(self.ledger.path), name
        )

    async def command(self, module: str, *options: str) -> Worker:
        """Start the command `outlast worker`."""
        url = f"sqlite:///{self.file}"
        main = "from outlast.cli import main; main()"
        return await self._begin("-c", main, "worker", module, "--url", url, *options)

    async def _begin(self, *arguments: str) -> Worker:
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )
        self.workers.append(Worker(process, self._hear))
        return self.workers[-1]

    async def worker(
        self, point: Point | None = None, *, lease: float = LEASE, queue: str = "default"
    ) -> Worker:
        """Return a process that works."""
        worker = await self.load(point, lease=lease, queue=queue)
        assert await worker.open(), self.said()
        return worker

    def _hear(self, name: str) -> None:
        self._heard[name] += 1
        self._changed.set()

    async def hears(self, name: str, more: int) -> None:
        """Wait until the workers together have said so this many times more."""
        enough = self._heard[name] + more
        while self._heard[name] < enough:
            self._changed.clear()
            await self._changed.wait()

    async def start(self, id: str) -> TaskRun[list[str]]:
        """Start a journey, or join it."""
        run = await tasks.journey.options(app=self.app).start(tasks.INPUT, id=id)
        self.ledger.write("accepted", id, "start")
        return run

    async def start_errand(self, id: str) -> TaskRun[str]:
        run = await tasks.errand.options(app=self.app).start("errand", id=id)
        self.ledger.write("accepted", id, "start")
        return run

    async def signal(self, run: TaskRun[list[str]]) -> None:
        await run.signal("go", tasks.ANSWER, id=f"go-{run.id}")
        self.ledger.write("accepted", run.id, "go")

    async def entries(self, id: str) -> list[Entry]:
        """Return the journal of a run."""
        reading = await self.app.client.around.store.read(f"run/{id}")
        return list(reading.entries)

    def said(self) -> str:
        """Return what workers have said of their own accord."""
        return self.log.read_text(errors="backslashreplace")


async def watch(run: TaskRun[list[str]], seen: list[StreamItem | Retracted]) -> None:
    """Read the stream as it comes."""
    async for item in run.stream():
        seen.append(item)  # noqa: PERF401 - as they come, not when all have come
