"""A client process, to be killed: `python -m tests.crash.client FILE LEDGER NAME`.

It starts journeys one after the other, several at a time, tells each to go, and waits for its
result. What it asks for and what it was answered it writes into the ledger, each the moment it
does so. It ends when nobody holds its standard input any more.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import outlast
from tests.crash import tasks
from tests.crash.ledger import Ledger
from tests.crash.worker import Ears, say

AT_ONCE: Final = 3


async def ask(file: str, ledger: Ledger, name: str) -> None:
    numbers = count(1)
    listening = asyncio.create_task(Ears().listen())
    async with outlast.open(f"sqlite:///{file}", worker=False):
        say("opened")
        await asyncio.gather(*(_travel(ledger, name, numbers) for _ in range(AT_ONCE)))
    listening.cancel()


async def _travel(ledger: Ledger, name: str, numbers: Iterator[int]) -> None:
    """Make one journey after the other."""
    for number in numbers:
        id = f"{name}-{number}"
        ledger.write("asked", id)
        run = await tasks.journey.start(tasks.INPUT, id=id)
        ledger.write("accepted", id, "start")
        await run.signal("go", tasks.ANSWER, id=f"go-{id}")
        ledger.write("accepted", id, "go")
        ledger.write("saw", id, json.dumps((await run.result()).output))


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1], Ledger(Path(sys.argv[2])), sys.argv[3]))
