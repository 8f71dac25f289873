"""A worker process: `python -m tests.isolation.worker URL LEASE GRACE`."""

import asyncio
import os
import signal
import sys
import time
from datetime import timedelta

import outlast
from tests.isolation import handlers


def fork() -> None:
    """Make a process that has all that we have open, and lives on."""
    if pid := os.fork():
        say(f"forked {pid}")
    else:
        time.sleep(600)
        os._exit(0)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def work(url: str, lease: str, grace: str) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, fork)
    async with outlast.open(
        url, lease=timedelta(seconds=float(lease)), grace=timedelta(seconds=float(grace))
    ):
        say("opened")
        await ended.wait()


if __name__ == "__main__":
    assert handlers.ask.name == "ask"
    asyncio.run(work(*sys.argv[1:]))
