"""A worker process, to be killed: `python -m tests.crash.worker ORDERS`.

It says what happens to it on its standard output, a line each, and hears what it is told on its
standard input: `open`, `close`, or the name of what a task waits for. It ends when nobody holds
that pipe any more.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from outlast import App, TaskRun
from outlast.engine.clock import System
from outlast.engine.payloads import MAX_PAYLOAD
from outlast.stores.sqlite import SQLiteStore
from tests.crash import talks, tasks
from tests.crash.fate import Fate, FatefulStore, Point
from tests.crash.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is to do.

    Attributes:
        file: the database.
        ledger: the account that its tasks write.
        start: the id of a `journey` that it starts by itself.
    """

    file: str
    ledger: str
    lease: float
    queue: str = "default"
    point: Point | None = None
    start: str = ""

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        values: dict[str, Any] = json.loads(text)
        point = values.pop("point")
        return cls(**values, point=point and Point(**point))


class Ears:
    """What this process is told."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        """Hear until nobody speaks any more; then there is nothing to live for."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self._told.add(line.decode().strip())
            self._changed.set()
        os._exit(3)

    async def hear(self, *names: str) -> None:
        """Wait until one of these was said."""
        while not self._told.intersection(names):
            self._changed.clear()
            await self._changed.wait()

    def has_heard(self, name: str) -> bool:
        return name in self._told


def say(name: str) -> None:
    os.write(1, f"{name}\n".encode())


async def see(run: TaskRun[list[str]], ledger: Ledger) -> None:
    """Wait for the result, as whoever has started the run does."""
    ledger.write("saw", run.id, json.dumps((await run.result()).output))
    say("saw")


async def work(orders: Orders) -> None:
    ears, ledger = Ears(), Ledger(Path(orders.ledger))
    listening = asyncio.create_task(ears.listen())

    def tell(name: str) -> None:
        ledger.write(name)
        say(name)

    seeing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    fate = Fate(orders.point, tell)
    here = tasks.Here(ledger, fate, say, ears.hear)
    tasks.enter(here)
    assert talks.talk.name == "crash.talk"  # both modules declare what is run here
    say("loaded")
    await ears.hear("open", "close")
    if ears.has_heard("open"):
        system = System()
        store = FatefulStore(SQLiteStore(orders.file, clock=system), fate, here.take_note)
        app = App(
            f"sqlite:///{orders.file}",
            worker=True,
            concurrency=10,
            queues=(orders.queue,),
            lease=timedelta(seconds=orders.lease),
            grace=timedelta(seconds=10),
            namespace="default",
            resources=None,
            max_payload=MAX_PAYLOAD,
            system=system,
            store=store,
        )
        async with app:
            say("opened")
            if orders.start:
                run = await tasks.journey.start(tasks.INPUT, id=orders.start)
                ledger.write("accepted", orders.start, "start")
                say("accepted")
                seeing = asyncio.create_task(see(run, ledger))
            await ears.hear("close")
            seeing.cancel()
        say(f"claims {json.dumps(store.claims)}")
    say(f"commits {fate.commits}")
    listening.cancel()


if __name__ == "__main__":
    asyncio.run(work(Orders.from_text(sys.argv[1])))
