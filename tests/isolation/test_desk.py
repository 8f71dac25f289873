"""A child's store answers as its worker's does, and writes nothing that is not the run's own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextvars import Context
from typing import Any

import pytest

from outlast import Conflict, Corrupt, Fenced, Unavailable, UsageError
from outlast.engine.attempt import Surroundings
from outlast.engine.clock import System
from outlast.engine.hints import Hints
from outlast.engine.isolation import desk as desks
from outlast.engine.isolation.desk import Desk
from outlast.engine.isolation.remote import RemoteStore
from outlast.engine.isolation.wire import Wire
from outlast.engine.record import Record
from outlast.journal import FORCE, Change, Claim, Draft, Fence, Head, Lease
from outlast.model.run import Run
from outlast.store import Hint, Query
from outlast.stores.memory import MemoryStore

TTL = 60.0


def change(key: str, id: str, *entries: Draft, **settings: Any) -> Change:
    return Change(key=key, id=id, entries=entries, **settings)


class SpoiledStore(MemoryStore):
    """Raises what it is told to, once."""

    spoilt: Exception | None = None

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        if error := self.spoilt:
            self.spoilt = None
            raise error
        return await super().renew(leases, ttl)


class Pair:
    """A worker's store, and the store of a child that holds one of its journals."""

    def __init__(self, store: SpoiledStore, head: Head) -> None:
        system = System()
        self.store, self.head = store, head
        self.around = Surroundings(store, system, Hints(store), Context(), 1_000)
        self.here, self.there = (Wire(lambda _: None, lambda: None) for _ in range(2))
        self.desk = Desk(self.around, Record(store, system, head, Run()), self.here)
        self.remote = RemoteStore(self.there.send)
        self.here.hear, self.there.hear = self.desk.hear, self.remote.hear

    @property
    def fence(self) -> Fence:
        assert self.head.lease is not None
        return self.head.lease.fence


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    system = System()
    async with SpoiledStore(system) as store:
        claim = Claim("worker", TTL, "id")
        [head] = await store.commit(
            change("run/own", "1", Draft("a", '{"b":[1.5]}'), claim=claim, revision=0)
        )
        pair = Pair(store, head)
        loop = asyncio.get_running_loop()
        for end, link in zip((pair.here, pair.there), socket.socketpair(), strict=True):
            await loop.create_unix_connection(lambda end=end: end, sock=link)  # type: ignore[misc]
        yield pair
        await pair.desk.close()
        pair.here.close()
        pair.there.close()
        pair.around.hints.close()


async def test_what_is_read_is_what_the_store_gives(pair: Pair) -> None:
    await pair.store.commit(
        change("run/other", "1", Draft("x", "{}"), Draft("y", '"\\u2028"'), revision=0)
    )
    for key in ("run/own", "run/other", "run/none"):
        assert await pair.remote.read(key) == await pair.store.read(key)
    assert await pair.remote.read("run/other", 1, limit=1, types=["y"]) == await pair.store.read(
        "run/other", 1, limit=1, types=["y"]
    )
    query = Query(kind="", statuses=frozenset({""}), tags={})
    assert await pair.remote.scan(query, limit=1) == await pair.store.scan(query, limit=1)


async def test_what_is_written_is_written_under_the_workers_lease(pair: Pair) -> None:
    said = change(
        "run/own",
        "2",
        Draft("c", "{}"),
        fence=pair.fence,
        card={"title": "two", "due": None, "tags": {"a": "b"}},
        facts=0,
    )

    heads = await pair.remote.commit(said)

    reading = await pair.store.read("run/own")
    assert heads == [reading.head]
    assert [entry.type for entry in reading.entries] == ["a", "c"]


async def test_creates_and_facts_of_other_runs_are_written(pair: Pair) -> None:
    await pair.remote.commit(change("run/other", "1", Draft("x", "{}"), revision=0, first=1))
    await pair.remote.commit(change("run/other", "2", Draft("y", "{}"), fact=True))

    assert [entry.type for entry in (await pair.store.read("run/other")).entries] == ["x", "y"]


@pytest.mark.parametrize(
    "settings",
    [
        {"key": "run/own"},
        {"key": "run/own", "fence": FORCE, "close": True},
        {"key": "run/own", "fence": Fence(9, "other")},
        {"key": "run/other", "fence": FORCE, "close": True},
        {"key": "run/other", "revision": 1},
        {"key": "run/new", "revision": 0, "claim": Claim("child", TTL, "c")},
    ],
    ids=str,
)
async def test_nothing_else_is(settings: dict[str, Any], pair: Pair) -> None:
    await pair.store.commit(change("run/other", "1", Draft("x", "{}"), revision=0))
    other = {**settings, "id": "2", "entries": (Draft("y", "{}"),)}

    with pytest.raises(UsageError, match="isolation='process'"):
        await pair.remote.commit(
            change("run/own", "2", Draft("y", "{}"), fence=pair.fence), Change(**other)
        )

    assert (await pair.store.read("run/own")).head == pair.head
    assert len((await pair.store.read("run/other")).entries) == 1


async def test_a_store_that_asks_promises_nothing(pair: Pair) -> None:
    async with pair.remote as remote:
        assert not remote.traits.atomic
        assert remote.traits.sign_of("worker") is None


async def test_what_only_a_worker_does_is_refused(pair: Pair) -> None:
    lease = pair.head.lease
    assert lease is not None

    with pytest.raises(UsageError):
        await pair.remote.claim([], "child", TTL, 1, "id")
    with pytest.raises(UsageError):
        await pair.remote.delete("run/own", expect=1)
    with pytest.raises(UsageError):
        await pair.remote.renew([lease], TTL)
    with pytest.raises(UsageError, match="cannot ask for 'delete'"):
        await pair.remote._ask("delete", {"key": "run/own", "expect": 1})


async def test_whoever_lost_the_lease_hears_of_it(pair: Pair) -> None:
    refused = asyncio.Event()
    pair.desk.refused = refused.set
    await pair.store.commit(
        change("run/own", "2", Draft("end", "{}"), fence=FORCE, close=True, release=True)
    )

    with pytest.raises(Fenced) as fenced:
        await pair.remote.commit(change("run/own", "3", Draft("y", "{}"), fence=pair.fence))

    assert (fenced.value.key, fenced.value.fence) == ("run/own", pair.fence)
    assert refused.is_set()
    assert not pair.desk.concludes


async def test_a_change_that_ends_the_attempt_is_known_to_unless_it_is_refused(pair: Pair) -> None:
    last = Draft("end", "{}")

    with pytest.raises(Conflict) as conflict:
        await pair.remote.commit(
            change("run/own", "2", last, fence=pair.fence, release=True, facts=7)
        )
    assert not pair.desk.concludes
    await pair.remote.commit(change("run/own", "3", last, fence=pair.fence, release=True, facts=0))

    assert (conflict.value.what, conflict.value.expected, conflict.value.actual) == ("facts", 7, 0)
    assert pair.desk.concludes


async def test_hints_of_what_a_child_has_read_reach_it(pair: Pair) -> None:
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    ignore = pair.remote.watch(heard.put_nowait)
    await pair.remote.read("run/other")

    await pair.store.commit(change("run/other", "1", Draft("x", "{}"), revision=0))

    assert (await heard.get()) == Hint("run/other", 1)
    ignore()
    await pair.store.commit(change("run/other", "2", Draft("y", "{}"), fact=True))
    await pair.remote.read("run/other")  # it comes after the hint
    assert heard.empty()


async def test_a_child_that_asks_without_end_is_not_read_meanwhile(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "MAX_ASKED", 4)

    readings = await asyncio.gather(*(pair.remote.read("run/own") for _ in range(1_000)))

    assert {reading.head and reading.head.revision for reading in readings} == {1}


@pytest.mark.parametrize(
    "error",
    [
        Conflict("run/own", "closed", expected=False, actual=True),
        Fenced("run/own", Fence(1, "a"), Fence(2, "b")),
        Fenced("run/own", Fence(1, "a"), None),
        Unavailable("later"),
        Unavailable("never", is_final=True),
        UsageError("not so"),
        Corrupt("it is damaged"),
    ],
    ids=repr,
)
async def test_errors_of_the_store_come_as_they_are(error: Exception, pair: Pair) -> None:
    pair.store.spoilt = error

    with pytest.raises(type(error)) as raised:
        await pair.remote.renew([], TTL)

    assert str(raised.value) == str(error)
    assert {name: getattr(raised.value, name) for name in vars(error)} == vars(error)


async def test_an_error_that_no_store_raises_on_purpose_is_said(pair: Pair) -> None:
    pair.store.spoilt = ZeroDivisionError("oops")

    with pytest.raises(RuntimeError, match="ZeroDivisionError: oops"):
        await pair.remote.renew([], TTL)


async def test_a_conflict_says_what_was_written_before_it(pair: Pair) -> None:
    conflict = pair.store.spoilt = Conflict("run/other", "revision", 1, 2)
    conflict.done = [pair.head]

    with pytest.raises(Conflict) as raised:
        await pair.remote.renew([], TTL)

    assert raised.value.done == [pair.head]
