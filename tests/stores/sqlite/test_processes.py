"""Several processes on one file."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from itertools import count, pairwise
from pathlib import Path

import pytest

from outlast.engine.clock import System
from outlast.errors import Unavailable
from outlast.journal import FORCE, Change, Claim, Head
from outlast.store import Hint
from outlast.stores.sqlite import SQLiteStore
from outlast.stores.sqlite.presence import LockFiles
from tests.stores.sqlite.conftest import Process
from tests.stores.sqlite.process import LANE, create, fact

Start = Callable[[str], Awaitable[Process]]
Opened = Callable[..., Awaitable[SQLiteStore]]

pytestmark = pytest.mark.slow


async def test_processes_that_write_at_once_lose_nothing_and_wait_for_each_other(
    start: Start, opened: Opened
) -> None:
    store = await opened()
    await store.commit(create("shared"))
    processes = [await start("write") for _ in range(2)]
    for process in processes:
        assert (await process.says())["ready"]

    for process in processes:
        process.tell("400")
    told = [await process.says() for process in processes]

    written = [entry.change for entry in (await store.read("shared", 1)).entries]
    for one in told:
        mine = [change for change in written if change.startswith(one["name"])]
        assert mine == [f"{one['name']}: {number}" for number in range(400)]
        seconds = sorted(one["seconds"])
        p50, p99 = seconds[200] * 1e3, seconds[396] * 1e3
        print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms")  # noqa: T201 - a figure to look at
    writers = [change.partition(":")[0] for change in written]
    turns = sum(one != other for one, other in pairwise(writers))
    print(f"{turns} turns of 799")  # noqa: T201 - a figure to look at
    assert turns > 150
    head = (await store.read("shared", 1, limit=0)).head
    assert head is not None
    assert (head.revision, head.facts) == (801, 800)


async def test_a_process_killed_inside_a_transaction_leaves_nothing_of_it(
    start: Start, opened: Opened
) -> None:
    store = await opened()
    process = await start("stay_inside")
    assert (await process.says())["inside"]
    waiting = asyncio.ensure_future(store.commit(create("k")))
    await asyncio.sleep(0)

    process.send(signal.SIGKILL)
    [head] = await waiting

    assert head.revision == 1
    assert (await store.read("never there")).head is None


async def test_what_was_accepted_survives_whoever_dies(
    start: Start, path: Path, opened: Opened
) -> None:
    store = await opened()
    await store.commit(create("shared"))
    accepted: list[str] = []
    for number in range(3):
        process = await start("keep_writing")
        assert (await process.says())["ready"]
        for step in range(20):
            await store.commit(fact("shared", f"{number}: {step}"))
            accepted.append(f"{number}: {step}")

        process.send(signal.SIGKILL)

        accepted += [said["accepted"] for said in await process.rest()]
        await process.ends()
        await store.commit(fact("shared", f"{number}: last"))
    entries = (await store.read("shared", 1)).entries
    assert [entry.revision for entry in entries] == list(range(2, len(entries) + 2))
    written = [entry.change for entry in entries]
    assert len(set(written)) == len(written)
    assert set(accepted) <= set(written)
    assert len(written) - len(accepted) <= 3 * 3 + 3  # what nobody was told of any more
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]


async def test_a_frozen_process_is_named_and_what_came_too_late_is_not_written(
    start: Start, opened: Opened
) -> None:
    store = await opened(patience=0.2)
    process = await start("stay_inside")
    assert (await process.says())["inside"]
    process.send(signal.SIGSTOP)

    for change in (create("a"), create("b")):
        with pytest.raises(Unavailable, match=f"process {process.pid} is writing"):
            await store.commit(change)
    reading = await store.read("a")  # who reads does not wait for who writes

    process.send(signal.SIGCONT)
    process.tell()
    assert (await process.says())["outside"]
    [head] = await until(lambda: store.commit(create("c")))
    assert reading.head is None
    assert head.created == 2  # after the frozen one's
    assert [(await store.read(key)).head for key in ("a", "b")] == [None, None]


async def test_a_file_is_not_opened_behind_a_frozen_process(
    start: Start, path: Path, opened: Opened
) -> None:
    process = await start("stay_inside")
    assert (await process.says())["inside"]

    with pytest.raises(Unavailable, match=f"process {process.pid} is writing"):
        await opened(patience=0.2)
    process.tell()
    await process.says()

    await (await opened()).commit(create("k"))


async def test_a_store_is_closed_behind_a_frozen_process(
    start: Start, path: Path, opened: Opened
) -> None:
    store = SQLiteStore(path, clock=System(), patience=0.2)
    await store.__aenter__()
    await store.commit(create("held", claim=Claim("me", 3600.0, "f")))
    process = await start("stay_inside")
    assert (await process.says())["inside"]
    waiting = asyncio.ensure_future(store.commit(create("k")))
    await asyncio.sleep(0)

    await store.__aexit__(None, None, None)

    with pytest.raises(Unavailable, match=f"process {process.pid} is writing"):
        await waiting
    process.tell()
    for thread in threading.enumerate():
        if thread.name == "outlast-writer":  # it ends by itself, once it is its turn
            await asyncio.to_thread(thread.join)
    assert (await (await opened()).read("k")).head is None


async def test_a_cancelled_call_that_waits_its_turn_is_never_written(
    start: Start, opened: Opened
) -> None:
    store = await opened()
    process = await start("stay_inside")
    assert (await process.says())["inside"]
    waiting = asyncio.ensure_future(store.commit(create("gone")))
    beside = asyncio.ensure_future(store.commit(create("stays")))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    process.tell()

    await beside
    assert (await store.read("gone")).head is None


async def test_who_watches_hears_of_other_processes(start: Start, opened: Opened) -> None:
    store = await opened()
    await store.commit(create("shared"))
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    stop = store.watch(heard.put_nowait)
    process = await start("write")
    name = f"by {process.pid}"
    assert (await process.says())["ready"]
    made = await hears(heard, name)

    process.tell("1")
    said = await hears(heard, "shared")
    await process.says()
    await store.commit(fact("shared", "ours"))
    ours = await hears(heard, "shared")
    await store.commit(create("last"))
    last = await hears(heard, "last")
    stop()

    assert made in {Hint(name, 1), Hint(None)}
    assert said in {Hint("shared", 2), Hint(None)}
    assert (ours, last) == (Hint("shared", 3), Hint("last", 1))  # once, and not again later


async def test_who_watches_hears_once_of_its_own_process(start: Start, opened: Opened) -> None:
    store = await opened()
    await store.commit(create("shared"))
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    told: list[str | None] = []
    store.watch(heard.put_nowait)
    store.watch(lambda hint: told.append(hint.key))
    process = await start("write")
    assert (await process.says())["ready"]
    await store.commit(create("mine"))

    process.tell("1")  # and when this one is found, whatever was written before it was told
    while (await hears(heard, "shared")).revision != 2:
        pass

    assert told.count("mine") == 1


async def test_who_watches_hears_of_what_another_process_deletes(
    start: Start, opened: Opened
) -> None:
    store = await opened()
    process = await start("delete")
    assert (await process.says())["ready"]
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    store.watch(heard.put_nowait)

    process.tell()

    await hears(heard, None)
    assert (await process.says())["deleted"]
    assert (await store.read("gone")).head is None


async def test_a_forked_child_has_nothing_of_its_parents_store(
    start: Start, opened: Opened
) -> None:
    process = await start("use_in_child")

    said = [await process.says() for _ in range(6)]

    read, commit, leave, again = (one["child"] for one in said[:4])
    assert read.startswith("UsageError: ")
    assert "was opened before this process was forked" in read
    assert commit == read
    assert leave == "done"
    assert again.startswith("UsageError: ")
    assert "was open when this process was forked" in again
    assert said[4:] == [{"status": 7}, {"parent": "went on"}]
    assert await process.ends() == 0
    store = await opened()
    assert [(await store.read(key)).head is None for key in ("before", "in child", "after")] == [
        False,
        True,
        False,
    ]


async def test_a_child_that_was_forked_off_keeps_nobody_from_writing(
    start: Start, opened: Opened
) -> None:
    store = await opened()
    process = await start("fork_inside")
    child = (await process.says())["child"]

    process.send(signal.SIGKILL)
    await store.commit(create("k"))

    os.kill(child, signal.SIGKILL)  # raises if it was not there


# Presence.


async def test_a_lease_ends_with_the_process_that_holds_it(start: Start, opened: Opened) -> None:
    store = await opened()
    process = await start("claim")
    owner = (await process.says())["owner"]
    none = await store.claim([LANE], "another", 15.0, 1, "x")
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    store.watch(heard.put_nowait)
    loop = asyncio.get_running_loop()

    began = loop.time()
    process.send(signal.SIGKILL)
    await hears(heard, None)
    claimed = await store.claim([LANE], "another", 15.0, 1, "y")
    elapsed = (loop.time() - began) * 1e3
    print(f"{elapsed:.0f} ms from the kill to the lease")  # noqa: T201 - a figure to look at

    assert none.heads == []
    assert none.next_in is not None
    assert none.next_in > 3000
    assert [held.key for held in claimed.heads] == ["held"]
    assert owner == f"process {process.pid}"


async def test_a_lease_that_another_process_took_back_is_over(start: Start, opened: Opened) -> None:
    """No entry says so: whoever held it must see the head, not what it has of it in mind."""
    store = await opened()
    process = await start("write_late")
    await process.says()
    await store.commit(Change(key="held", id="by force", fence=FORCE, release=True))

    process.tell()
    late = await process.says()

    assert late["said"].startswith("Fenced")
    head = (await store.read("held")).head
    assert head is not None
    assert head.revision == 1


async def test_a_child_that_was_forked_off_keeps_no_lease_alive(
    start: Start, opened: Opened
) -> None:
    store = await opened()
    process = await start("claim_and_fork")
    await process.says()
    child = (await process.says())["child"]
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    store.watch(heard.put_nowait)

    process.send(signal.SIGKILL)
    await hears(heard, None)

    claimed = await store.claim([LANE], "another", 15.0, 1, "y")
    assert [head.key for head in claimed.heads] == ["held"]
    os.kill(child, signal.SIGKILL)  # raises if it was not there


async def test_a_frozen_process_is_not_taken_for_dead(
    start: Start, path: Path, opened: Opened
) -> None:
    store = await opened()
    await store.commit(create("before"))
    process = await start("claim")
    owner = (await process.says())["owner"]
    assert store._entered
    store._entered.file.presences.clear()  # nobody but us is to find it dead
    signs = LockFiles(path.with_name(f"{path.name}-locks") / "owners")

    process.send(signal.SIGSTOP)
    alive = signs.dead()
    process.send(signal.SIGKILL)
    await process.ends()
    dead = signs.dead()

    signs.close()
    assert (alive, dead) == ([], [owner])


async def test_all_who_watch_hear_of_a_death(start: Start, opened: Opened) -> None:
    one = await opened()
    process = await start("claim")
    await process.says()
    other = await start("write")  # it watches, too, and may be the one that ends the leases
    assert (await other.says())["ready"]
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    one.watch(heard.put_nowait)

    process.send(signal.SIGKILL)

    await hears(heard, None)


async def until(deed: Callable[[], Awaitable[list[Head]]]) -> list[Head]:
    """Do it again until the store answers."""
    for attempt in count():
        try:
            return await deed()
        except Unavailable:
            assert attempt < 100
    raise AssertionError


async def hears(heard: asyncio.Queue[Hint], key: str | None) -> Hint:
    """Wait for a hint about the key, or about any."""
    async with asyncio.timeout(30):
        while (hint := await heard.get()).key not in {key, None}:
            pass
    return hint
