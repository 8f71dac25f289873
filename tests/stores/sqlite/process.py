"""Another process that has the same file open: it does what its role says, and tells in JSON lines.

    python process.py ROLE FILE

It goes on, where a role waits, when it reads a line.
"""

import asyncio
import json
import os
import resource
import selectors
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from time import perf_counter
from typing import Any

from outlast.engine.clock import System
from outlast.errors import OutlastError
from outlast.journal import Change, Claim, Draft, Head
from outlast.store import Lane
from outlast.stores.sqlite import SQLiteStore
from outlast.stores.sqlite.ledger import Ledger

LANE = Lane("queue", "name")


def create(key: str, **details: Any) -> Change:
    """Return the change that makes a journal."""
    card: Any = {"kind": "run", "queue": LANE.queue, "name": LANE.name, "due": 0.0}
    return Change(
        key=key, id=f"make {key}", entries=(Draft("made", "1"),), revision=0, card=card, **details
    )


def fact(key: str, id: str) -> Change:
    """Return a fact about a journal."""
    return Change(key=key, id=id, entries=(Draft("said", "1"),), fact=True)


def tell(**news: Any) -> None:
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


async def told() -> str:
    """Wait for a line."""
    return await asyncio.to_thread(sys.stdin.readline)


async def write(store: SQLiteStore) -> None:
    """Write facts as fast as it can, then tell how long each took."""
    name = f"by {os.getpid()}"
    await store.commit(create(name))
    tell(ready=True)
    count = int(await told())
    seconds: list[float] = []
    for number in range(count):
        began = perf_counter()
        await store.commit(fact("shared", f"{name}: {number}"))
        seconds.append(perf_counter() - began)
    tell(name=name, seconds=seconds)


async def keep_writing(store: SQLiteStore) -> None:
    """Write facts until it is killed, and tell of each that was accepted."""

    async def keep_on(writer: int) -> None:
        for number in count():
            id = f"{os.getpid()}, {writer}, {number}"
            await store.commit(fact("shared", id))
            tell(accepted=id)

    tell(ready=True)
    await asyncio.gather(*(keep_on(writer) for writer in range(3)))


async def stay_inside(store: SQLiteStore) -> None:
    """Write, and stay inside the transaction until it reads a line."""
    entered = store._entered
    assert entered is not None

    def stay(ledger: Ledger) -> None:
        ledger.write(entered, [create("never there")])
        tell(inside=True)
        sys.stdin.readline()

    await entered.write(stay)
    tell(outside=True)


async def fork_inside(store: SQLiteStore) -> None:
    """Stay inside a transaction for ever, with a child that was forked there and outlives it."""
    entered = store._entered
    assert entered is not None

    def fork(ledger: Ledger) -> None:
        read, _write = os.pipe()
        if not (child := os.fork()):
            os.read(read, 1)  # until the test ends it
            os._exit(0)
        tell(child=child)
        sys.stdin.readline()

    await entered.write(fork)


async def delete(store: SQLiteStore) -> None:
    """Make a journal, and delete it when told to."""
    [head] = await store.commit(create("gone"))
    tell(ready=True)
    await told()
    await store.delete("gone", expect=head.revision)
    tell(deleted=True)


async def claim(store: SQLiteStore) -> None:
    """Take a lease, and do nothing with it."""
    await take(store)
    await told()


async def take(store: SQLiteStore) -> Head:
    """Take a lease for an hour."""
    [head] = await store.commit(create("held", claim=Claim(f"process {os.getpid()}", 3600.0, "f")))
    tell(owner=head.lease and head.lease.owner)
    return head


async def write_late(store: SQLiteStore) -> None:
    """Take a lease, and write under it when told to."""
    head = await take(store)
    late = Change(key="held", id="late", entries=(Draft("late", "1"),), fence=head.fence)
    await told()
    tell(said=await tried(lambda: store.commit(late)))


async def claim_and_fork(store: SQLiteStore) -> None:
    """Take a lease, and leave a child that outlives the process that holds it."""
    await take(store)
    read, _write = os.pipe()
    if not (child := os.fork()):
        os.read(read, 1)  # until the test ends it
        os._exit(0)
    tell(child=child)
    await told()


async def use_in_child(store: SQLiteStore) -> None:
    """Fork, and try in the child whatever may be tried; then go on in the parent."""
    await store.commit(create("before"))
    done = threading.Event()

    def write_meanwhile() -> None:
        """Keep the writer busy, so that the fork comes at any moment of it."""

        async def writing() -> None:
            while not done.is_set():
                await store.renew([], 1.0)

        asyncio.run(writing())

    busy = threading.Thread(target=write_meanwhile)
    busy.start()
    loop: Any = asyncio.get_running_loop()
    if not os.fork():
        again = SQLiteStore(store._path, clock=System())
        for deed in (
            lambda: store.read("before"),
            lambda: store.commit(create("in child")),
            lambda: store.__aexit__(None, None, None),
            again.__aenter__,
        ):
            tell(child=asyncio.run(tried(deed)))
        # It shares its parent's epoll, from which a loop that is closed takes its pipe away.
        loop._selector = selectors.DefaultSelector()
        sys.exit(7)  # the interpreter ends as it always does, and closes what it can reach
    _, status = os.wait()
    done.set()
    busy.join()
    tell(status=os.waitstatus_to_exitcode(status))
    await store.commit(create("after"))
    tell(parent="went on")


async def tried(deed: Callable[[], Awaitable[Any]]) -> str:
    """Return what came of it."""
    try:
        await deed()
    except OutlastError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


async def fill(store: SQLiteStore) -> None:
    """Write more than there is room for, then make room."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, most))
    large = replace(create("large"), entries=(Draft("a", "1"), Draft("b", "x" * 2**21)))
    tell(full=await tried(lambda: store.commit(large)))
    tell(read=(await store.read("large")).head)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    tell(again=await tried(lambda: store.commit(large)))


async def run_out_of_descriptors(store: SQLiteStore) -> None:
    """Do what needs another file while none may be opened, and again when it may."""
    await store.commit(create("k"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    deeds = (lambda: store.read("k"), lambda: store.claim([LANE], "me", 15.0, 1, "f"))
    read, claimed = [await tried(deed) for deed in deeds]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    tell(read=read, claim=claimed, later=[await tried(deed) for deed in deeds])


ROLES = {
    role.__name__: role
    for role in (
        *(write, keep_writing, stay_inside, fork_inside, delete),
        *(claim, write_late, claim_and_fork, use_in_child, fill, run_out_of_descriptors),
    )
}


async def main(role: str, path: str) -> None:
    async with SQLiteStore(path, clock=System()) as store:
        await ROLES[role](store)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
