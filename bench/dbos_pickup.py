"""`bench.pickup` for DBOS Transact: one process puts workflows into a queue, another takes them.

    python -m bench.dbos_pickup FILE           takes them, and says when each was entered
    python -m bench.dbos_pickup FILE COUNT     puts them in, and says when

The queue is polled as often as DBOS does unless told otherwise: once a second.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSClient  # type: ignore[import-not-found]

from bench.children import now, say, until_nobody_listens
from bench.dbos_program import launch

QUEUE: Final = "bench"
SETTLED: Final = 2.0
"""Seconds after which a worker that was just launched polls the queue."""


async def _note(number: int) -> None:
    say(number, now())


note: Final[Any] = DBOS.workflow(name="note")(_note)


async def work(file: Path) -> None:
    launch(file, "wal")
    await DBOS.register_queue_async(QUEUE)
    await asyncio.sleep(SETTLED)
    say("ready")
    await until_nobody_listens()
    DBOS.destroy()


async def put(file: Path, count: int) -> None:
    client = DBOSClient(system_database_url=f"sqlite:///{file}")
    chance = random.Random(count)
    for number in range(count):
        await asyncio.sleep(chance.random())  # so that it comes at any moment between two polls
        began = now()
        handle = await client.enqueue_async({"workflow_name": "note", "queue_name": QUEUE}, number)
        await handle.get_result(polling_interval_sec=0.05)
        say(number, began)
    client.destroy()


if __name__ == "__main__":
    _file, *_count = sys.argv[1:]
    asyncio.run(put(Path(_file), int(_count[0])) if _count else work(Path(_file)))
