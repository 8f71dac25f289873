"""The process that the agent of the demo works in.

    python -m outlast.cli.demo.worker URL QUEUE [STEP NUMBER]

The one rule that must not be broken: it does not outlive the process that started it.
"""

import asyncio
import os
import sys
import threading

import outlast
from outlast.cli.demo.agent import audit
from outlast.cli.demo.ledger import hold

TASKS = (audit,)
"""What this process runs: importing a task declares it."""


async def work(url: str, queue: str) -> None:
    """Run what is due in the queue, until the process ends."""
    async with outlast.open(url, queues=(queue,), concurrency=1):
        await asyncio.Event().wait()


def end_with_parent() -> None:
    """End at once when our standard input is closed, as it is when the parent dies."""
    while os.read(0, 1):
        pass
    os._exit(0)


def main(url: str, queue: str, *held: str) -> None:
    """Work on the queue of the database at `url`, up to the step that is named, if one is."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    if held:
        step, number = held
        hold.set(step, int(number))
    asyncio.run(work(url, queue))


if __name__ == "__main__":
    main(*sys.argv[1:])
