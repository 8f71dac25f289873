"""A store from its opening to its end, and what is left behind."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from outlast.errors import Unavailable, UsageError
from outlast.journal import Head
from outlast.store import Hint
from outlast.stores.sqlite import SQLiteStore
from outlast.stores.sqlite.ledger import Ledger
from outlast.stores.sqlite.schema import FORMAT
from outlast.testing import FakeClock
from tests.stores.sqlite.process import create, fact

Opened = Callable[..., Awaitable[SQLiteStore]]


@pytest.fixture(autouse=True)
def nothing_is_left(path: Path) -> Iterator[None]:
    """Assert that no thread of ours runs on, and no descriptor of the file is open."""
    yield
    assert [thread.name for thread in threading.enumerate() if "outlast" in thread.name] == []
    assert open_files(path) == []


def open_files(path: Path) -> list[str]:
    """Return the files of this process that belong to the store's file."""
    directory = Path("/dev/fd" if sys.platform == "darwin" else "/proc/self/fd")
    names: list[str] = []
    for link in directory.iterdir():
        try:
            names.append(str(link.readlink()))
        except OSError:
            continue
    return [name for name in names if name.startswith(str(path))]


def store_of(path: Path, **settings: Any) -> SQLiteStore:
    return SQLiteStore(path, clock=FakeClock(), **settings)


async def test_nothing_is_opened_before_it_is_entered(path: Path) -> None:
    store_of(path)

    assert not list(path.parent.iterdir())


async def test_a_store_is_used_inside_its_with(path: Path) -> None:
    store = store_of(path)
    verbs: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.commit(create("k")),
        lambda: store.read("k"),
        lambda: store.claim([], "me", 1.0, 1, "f"),
        lambda: store.renew([], 1.0),
        lambda: store.delete("k", expect=1),
    ]
    for _ in range(2):
        for verb in verbs:
            with pytest.raises(UsageError, match="async with"):
                await verb()
        with pytest.raises(UsageError, match="async with"):
            store.watch(lambda hint: None)
        async with store:
            with pytest.raises(UsageError, match="open already"):
                await store.__aenter__()
            await store.commit(create("k"))


async def test_a_store_is_closed_when_its_block_raises(path: Path) -> None:
    async def divide() -> None:
        async with store_of(path) as store:
            await store.commit(create("k"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await divide()


async def test_what_was_called_is_done_before_it_is_closed(path: Path) -> None:
    async with store_of(path) as store:
        calls = [asyncio.ensure_future(store.commit(create(f"k{n}"))) for n in range(20)]
        reading = asyncio.ensure_future(store.read("k0"))
        await asyncio.sleep(0)

    heads = [head for [head] in await asyncio.gather(*calls)]
    await reading
    assert len({head.key for head in heads}) == 20


async def test_what_is_called_by_many_at_the_end_is_done_or_refused(path: Path) -> None:
    """Calls that come while the store is closed are answered, one way or the other."""
    store = store_of(path)
    await store.__aenter__()
    calls = [asyncio.ensure_future(store.commit(create(f"k{number}"))) for number in range(600)]
    await asyncio.sleep(0)

    await store.__aexit__(None, None, None)

    heads = [head for [head] in await asyncio.gather(*calls)]
    assert len(heads) == 600


async def test_one_that_closes_leaves_the_file_to_the_others(path: Path) -> None:
    async with store_of(path) as other:
        async with store_of(path) as store:
            await store.commit(create("k"))

        await other.commit(fact("k", "x"))
        head = (await other.read("k")).head
    assert head is not None
    assert head.revision == 2


async def test_leaving_a_file_keeps_only_it_and_its_locks(path: Path) -> None:
    async with store_of(path) as store:
        await store.commit(create("k"))

    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}-locks"}


async def test_an_opening_that_is_cancelled_leaves_nothing(path: Path) -> None:
    for turns in range(6):
        entering = asyncio.ensure_future(store_of(path).__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
    await until_quiet()


async def test_an_opening_that_fails_leaves_nothing(path: Path) -> None:
    async with store_of(path) as store:
        await store.commit(create("k"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma user_version = 999")

    for _ in range(3):
        with pytest.raises(UsageError):
            await store_of(path).__aenter__()


async def test_many_open_and_close_at_once(path: Path) -> None:
    async def visit(number: int) -> Head:
        async with store_of(path) as store:
            [head] = await store.commit(create(f"k{number}"))
            return head

    heads = await asyncio.gather(*(visit(number) for number in range(12)))

    assert len({head.created for head in heads}) == 12


async def test_namespaces_see_nothing_of_each_other(path: Path) -> None:
    async with store_of(path) as one, store_of(path, namespace="other") as other:
        heard: list[Hint] = []
        other.watch(heard.append)
        await one.commit(create("k"))
        await one.delete("k", expect=1)
        await one.commit(create("k"))

        assert (await other.read("k")).floor == 0
        assert (await one.read("k")).floor == 1
        [head] = await other.commit(create("k"))
        assert head.first == 1
    assert {hint.key for hint in heard} <= {"k"}
    assert heard[-1].revision == 1


@pytest.mark.parametrize("end", ["unlink", "replace"])
async def test_a_file_that_is_gone_is_noticed_before_anything_is_acknowledged(
    path: Path, end: str
) -> None:
    async with store_of(path, patience=5.0) as store:
        await store.commit(create("k"))
        if end == "replace":
            path.with_name("else").touch()
            path.with_name("else").replace(path)
        else:
            path.unlink()

        for _ in range(2):
            with pytest.raises(Unavailable, match="deleted or replaced"):
                await store.commit(fact("k", "x"))
            with pytest.raises(Unavailable, match="deleted or replaced"):
                await store.read("k")


async def test_a_copy_that_vacuum_made_is_opened(path: Path) -> None:
    """It has no log until it is read."""
    copy = path.with_name("copy.db")
    async with store_of(path) as store:
        await store.commit(create("k"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("vacuum into ?", (str(copy),))

    async with store_of(copy) as store:
        await store.commit(fact("k", "x"))


async def test_a_file_without_its_tables_is_said_to_be_damaged(path: Path) -> None:
    async with store_of(path) as store:
        await store.commit(create("k"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("drop table state")

    with pytest.raises(Unavailable, match="is damaged: no such table: state"):
        await store_of(path).__aenter__()


async def test_a_damaged_file_is_said_to_be(path: Path) -> None:
    async with store_of(path) as store:
        await store.commit(*(create(f"k{number:05}") for number in range(2_000)))
    content = bytearray(path.read_bytes())
    content[8_192:] = b"\xff" * len(content[8_192:])
    path.write_bytes(content)

    with pytest.raises(Unavailable, match=r"is damaged: .* restore a backup"):
        async with store_of(path) as store:
            await store.read("k00001")


async def test_a_file_that_a_newer_version_migrates_is_not_written_any_more(path: Path) -> None:
    async with store_of(path) as store:
        await store.commit(create("k"))
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"pragma user_version = {FORMAT + 1}")

        with pytest.raises(UsageError, match="start it again"):
            await store.commit(fact("k", "x"))
        with pytest.raises(UsageError, match="start it again"):
            await store.read("k")


async def test_who_waits_for_a_place_while_it_closes_is_told(path: Path) -> None:
    async with store_of(path) as other:
        store = store_of(path)
        await store.__aenter__()
        assert store._entered
        store._entered.reads = asyncio.Semaphore(0)
        waiting = asyncio.ensure_future(store.read("k"))
        await asyncio.sleep(0)
        places = store._entered.reads

        await store.__aexit__(None, None, None)
        places.release()

        with pytest.raises(UsageError, match="was closed"):
            await waiting
        await other.commit(create("k"))


async def test_synchronous_is_that_of_who_asks_for_more(path: Path) -> None:
    async def setting(store: SQLiteStore) -> int:
        def ask(ledger: Ledger) -> int:
            [level] = ledger._db.execute("pragma synchronous").fetchone()
            return int(level)

        assert store._entered
        return await store._entered.write(ask)

    async with store_of(path, synchronous="normal") as store:
        assert await setting(store) == 1
        async with store_of(path) as other:
            assert await setting(other) == 2
            assert await setting(store) == 2
    async with store_of(path) as store:
        assert await setting(store) == 2


async def test_the_connection_has_its_settings(path: Path) -> None:
    def ask(db: sqlite3.Connection) -> dict[str, Any]:
        names = ("journal_mode", "foreign_keys", "busy_timeout", "query_only")
        return {name: db.execute(f"pragma {name}").fetchone()[0] for name in names}

    async with store_of(path) as store:
        assert store._entered
        reading = await store._entered.read(ask)
        writing = await store._entered.write(lambda ledger: ask(ledger._db))

    assert writing == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "busy_timeout": 5_000,
        "query_only": 0,
    }
    assert reading == {**writing, "query_only": 1}


async def test_a_listener_that_fails_harms_nobody(path: Path) -> None:
    heard: list[Hint] = []
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def fail(hint: Hint) -> None:
        raise ZeroDivisionError

    async with store_of(path) as store:
        store.watch(fail)
        store.watch(heard.append)
        await store.commit(create("k"))
        await asyncio.sleep(0)

    assert heard == [Hint("k", 1)]
    assert [type(failure["exception"]) for failure in failures] == [ZeroDivisionError]


async def until_quiet() -> None:
    """Wait until the threads that were given up have ended."""
    for thread in threading.enumerate():
        if "outlast" in thread.name:
            await asyncio.to_thread(thread.join)
            await until_quiet()
