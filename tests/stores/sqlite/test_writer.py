"""What waits together is written together, and each call stands for itself."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from outlast.errors import Conflict, Unavailable, UsageError
from outlast.journal import Change, Claim, Draft
from outlast.stores.sqlite import SQLiteStore
from outlast.stores.sqlite.ledger import Ledger
from outlast.testing import FakeClock
from tests.stores.sqlite.conftest import Process
from tests.stores.sqlite.process import LANE, create, fact

Opened = Callable[..., Awaitable[SQLiteStore]]


@asynccontextmanager
async def held_up(store: SQLiteStore) -> AsyncIterator[list[str]]:
    """Let all calls wait that are made meanwhile; yield the statements that are run then."""
    began, goes_on = asyncio.Event(), threading.Event()
    loop, statements = asyncio.get_running_loop(), list[str]()

    def hold_up(ledger: Ledger) -> None:
        loop.call_soon_threadsafe(began.set)
        goes_on.wait()

    def listen(ledger: Ledger) -> None:
        ledger._db.set_trace_callback(statements.append)

    assert store._entered
    first = asyncio.ensure_future(store._entered.write(hold_up))
    await began.wait()
    second = asyncio.ensure_future(store._entered.write(listen))
    await asyncio.sleep(0)
    try:
        yield statements
    finally:
        goes_on.set()
        await asyncio.gather(first, second, return_exceptions=True)


def soon(call: Awaitable[Any]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(call)


def another(key: str) -> Change:
    """Return a change that makes a journal which is there already."""
    return replace(create(key), id="another")


async def test_what_waits_together_is_one_transaction(opened: Opened) -> None:
    store = await opened()
    async with held_up(store) as statements:
        calls = [soon(store.commit(create(f"k{number}"))) for number in range(50)]
        await asyncio.sleep(0)

    heads = [head for [head] in await asyncio.gather(*calls)]

    assert [head.created for head in heads] == list(range(1, 51))
    assert statements.count("commit") < 10  # one, unless the machine is slow


async def test_two_stores_of_a_file_share_one_writer(opened: Opened) -> None:
    stores = [await opened(), await opened(namespace="other"), await opened()]

    heads = [head for [head] in [await store.commit(create("k")) for store in stores[:2]]]

    names = [thread.name for thread in threading.enumerate()]
    assert names.count("outlast-writer") == 1
    assert [head.created for head in heads] == [1, 2]
    assert (await stores[2].read("k")).head == heads[0]
    assert (await stores[1].read("k")).head == heads[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [("\ud800", "cannot be written as text"), (object(), "cannot be written")],
)
async def test_a_call_that_cannot_be_written_takes_nobody_with_it(
    opened: Opened, data: Any, message: str
) -> None:
    store = await opened()
    await store.commit(create("there"))
    strange = replace(create("strange"), entries=(Draft("a", "1"), Draft("a", data)))
    async with held_up(store):
        before = soon(store.commit(create("before")))
        refused = soon(store.commit(another("there")))
        spoiled = soon(store.commit(strange))
        after = soon(store.commit(create("after")))
        await asyncio.sleep(0)

    await asyncio.gather(before, after)
    with pytest.raises(Conflict):
        await refused
    with pytest.raises(UsageError, match=message):
        await spoiled
    assert (await store.read("strange")).head is None
    assert (await store.read("before")).head == (await before)[0]
    assert (await store.read("after")).head == (await after)[0]


async def test_a_change_said_again_is_found_among_new_ones(opened: Opened) -> None:
    store = await opened()
    await store.commit(create("old"))
    said_before = fact("old", id="said")
    await store.commit(said_before)
    async with held_up(store) as statements:
        calls = [
            soon(store.commit(change))
            for change in (create("new"), said_before, fact("old", id="later"), create("newer"))
        ]
        await asyncio.sleep(0)

    heads = [head for [head] in await asyncio.gather(*calls)]

    assert [(head.key, head.revision) for head in heads] == [
        ("new", 1),
        ("old", 2),
        ("old", 3),
        ("newer", 1),
    ]
    assert len((await store.read("old")).entries) == 3
    assert statements.count("rollback") == 1


async def test_what_is_new_is_not_asked_for_first(opened: Opened) -> None:
    store = await opened()
    await store.commit(create("k"))
    async with held_up(store) as statements:
        calls = [soon(store.commit(fact("k", id=f"said-{number}"))) for number in range(5)]
        await asyncio.sleep(0)

    await asyncio.gather(*calls)

    assert not any("change = " in statement for statement in statements)


async def test_a_number_that_is_too_large_is_the_callers_mistake(opened: Opened) -> None:
    store = await opened()

    with pytest.raises(UsageError, match="larger than SQLite takes"):
        await store.commit(replace(create("k"), card={"priority": 2**70}))
    with pytest.raises(UsageError, match="cannot be written as text"):
        await store.read("\ud800")

    assert (await store.read("k")).head is None


async def test_a_transaction_that_fails_fails_all_its_calls_and_the_writer_goes_on(
    opened: Opened,
) -> None:
    store = await opened()
    await store.commit(create("k"))

    def fail(ledger: Ledger) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    assert store._entered
    async with held_up(store):
        before = soon(store.commit(fact("k", "before")))
        failing = soon(store._entered.write(fail))
        after = soon(store.commit(fact("k", "after")))
        await asyncio.sleep(0)

    for call in (before, failing):
        with pytest.raises(Unavailable, match="disk is full") as said:
            await call
        assert isinstance(said.value.__cause__, sqlite3.OperationalError)
    await asyncio.gather(after, return_exceptions=True)  # it may have waited with them, or not
    heads = [await store.commit(fact("k", id)) for id in ("before", "after")]
    assert [head.revision for [head] in heads][1] == 3
    changes = {entry.change for entry in (await store.read("k", 1)).entries}
    assert changes == {"before", "after"}


@pytest.mark.slow
async def test_a_full_disk_is_unavailable_and_then_is_not(
    start: Callable[[str], Awaitable[Process]], opened: Opened
) -> None:
    process = await start("fill")

    said = [await process.says() for _ in range(3)]

    assert said[0]["full"].startswith("Unavailable: ")
    assert said[1:] == [{"read": None}, {"again": "done"}]
    await process.ends()
    assert (await (await opened()).read("large")).head is not None


async def test_a_call_of_several_changes_is_written_whole_or_not_at_all(opened: Opened) -> None:
    store = await opened()
    await store.commit(create("there"))
    async with held_up(store) as statements:
        beside = soon(store.commit(create("beside")))
        refused = soon(store.commit(create("a"), fact("there", "x"), another("there")))
        again = soon(store.commit(create("a")))
        await asyncio.sleep(0)

    with pytest.raises(Conflict):
        await refused
    await asyncio.gather(beside, again)

    assert (await store.read("there")).head == (await store.read("there", 1)).head
    assert [entry.change for entry in (await store.read("there")).entries] == ["make there"]
    assert not any("savepoint" in text for text in statements)


async def test_changes_of_one_call_see_each_other(opened: Opened) -> None:
    store = await opened()

    heads = await store.commit(create("k"), fact("k", "x"), create("k"), fact("k", "x"))

    assert [(head.revision, head.facts) for head in heads] == [(1, 0), (2, 1), (2, 1), (2, 1)]
    assert (await store.read("k")).head == heads[-1]


async def test_more_heads_than_are_remembered_are_written(opened: Opened) -> None:
    store = await opened()
    keys = [f"k{number}" for number in range(1_100)]
    await store.commit(*(create(key) for key in keys))

    heads = await store.commit(*(fact(key, "x") for key in keys))

    assert {head.revision for head in heads} == {2}
    assert len({head.created for head in heads}) == 1_100


async def test_a_renewed_lease_is_known_to_the_next_commit(path: Path) -> None:
    clock = FakeClock()
    async with SQLiteStore(path, clock=clock) as store:
        [head] = await store.commit(create("k", claim=Claim("me", 15.0, "f")))
        assert head.lease
        clock.advance(14)
        await store.renew([head.lease], 15.0)
        clock.advance(2)

        await store.commit(Change(key="k", id="x", fence=head.fence, entries=(Draft("a", "1"),)))

        assert (await store.claim([LANE], "another", 15.0, 1, "g")).heads == []


async def test_a_lease_that_ended_stays_ended_when_the_machine_starts_anew(path: Path) -> None:
    clock = FakeClock(boot=5_000.0)
    async with SQLiteStore(path, clock=clock) as store:
        [head] = await store.commit(create("k", claim=Claim("me", 15.0, "f")))
        clock.advance(20)
        await store.commit(Change(key="k", id="x", fence=head.fence, card={"due": None}))

        clock.reboot(boot=1.0)

        assert await store.delete("k", expect=1)


async def test_tags_that_the_caller_alters_are_kept_as_they_were(opened: Opened) -> None:
    store = await opened()
    tags = {"a": "1"}
    await store.commit(replace(create("k"), card={"tags": tags}))

    tags["a"] = "2"
    [head] = await store.commit(fact("k", "x"))

    assert head.card.tags == {"a": "1"}
    assert (await store.read("k")).head == head


async def test_tags_that_a_caller_alters_in_an_answer_are_not_written(opened: Opened) -> None:
    store = await opened()
    await store.commit(replace(create("k"), card={"tags": {"a": "1"}}))
    [head] = await store.commit(fact("k", "x"))

    cast("dict[str, str]", head.card.tags)["a"] = "2"
    await store.commit(fact("k", "y"))

    kept = (await store.read("k")).head
    assert kept is not None
    assert kept.card.tags == {"a": "1"}


async def test_more_calls_than_may_wait_wait_for_a_place(opened: Opened) -> None:
    store = await opened()
    assert store._entered
    store._entered.writes = asyncio.Semaphore(2)

    calls = [soon(store.commit(create(f"k{number}"))) for number in range(20)]
    await asyncio.sleep(0)

    assert store._entered.writes.locked()
    assert len({head.key for [head] in await asyncio.gather(*calls)}) == 20
    assert not store._entered.writes.locked()
