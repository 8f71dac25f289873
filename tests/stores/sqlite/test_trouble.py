"""Harm that is done to a file while it is open, and what it still holds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outlast.engine.clock import System
from outlast.errors import Unavailable, UsageError
from outlast.journal import Draft
from outlast.store import Hint, Query
from outlast.stores.sqlite import SQLiteStore
from outlast.stores.sqlite.ledger import Ledger
from tests.stores.sqlite import trouble
from tests.stores.sqlite.conftest import Process
from tests.stores.sqlite.process import LANE, create, fact
from tests.stores.sqlite.trouble import Harm, beside, journals

Opened = Callable[..., Awaitable[SQLiteStore]]
Start = Callable[[str], Awaitable[Process]]

pytestmark = pytest.mark.slow

GONE: list[tuple[Harm, str]] = [
    (trouble.deleted, "was deleted or replaced"),
    (trouble.moved, "was deleted or replaced"),
    (trouble.replaced, "was deleted or replaced"),
    (trouble.without_log, r"\.db-wal' was deleted or replaced"),
    (trouble.without_index_of_log, r"\.db-shm' was deleted or replaced"),
]
DAMAGED: list[tuple[Harm, str]] = [
    (trouble.emptied, "is damaged: it was emptied"),
    (trouble.cut, "is damaged: it was cut to"),
    (trouble.beheaded, "is damaged: its beginning was overwritten"),
    (trouble.overwritten_by_another, "is damaged: its beginning was overwritten"),
    (trouble.restored, "is damaged: its content was replaced by an older one"),
]


def id_of(case: object) -> str | None:
    return getattr(case, "__name__", "")


async def fill(path: Path) -> None:
    """Make a file, a backup of it, and what is not in the backup."""
    async with SQLiteStore(path, clock=System()) as store:
        await store.commit(*(create(f"k{number:03}") for number in range(200)))
    trouble.keep_backup(path)
    async with SQLiteStore(path, clock=System()) as store:
        await store.commit(*(fact(f"k{number:03}", "later") for number in range(200)))


@asynccontextmanager
async def harmed(path: Path, harm: Harm) -> AsyncGenerator[SQLiteStore]:
    """Yield a store that has heard, without asking, that something is wrong with its file."""
    await fill(path)
    async with SQLiteStore(path, clock=System()) as store:
        await store.commit(create("accepted"))
        heard = asyncio.Event()

        def hear(hint: Hint) -> None:
            if hint.key is None:
                heard.set()

        store.watch(hear)
        harm(path)
        async with asyncio.timeout(30):
            await heard.wait()
        yield store


def writing(store: SQLiteStore) -> list[Callable[[], Awaitable[Any]]]:
    """Return what would write."""
    return [
        lambda: store.commit(create("new")),
        lambda: store.commit(fact("k000", "x")),
        store.commit,
        lambda: store.claim([LANE], "me", 15.0, 1, "f"),
        lambda: store.renew([], 15.0),
        lambda: store.delete("k000", expect=2),
    ]


@pytest.mark.parametrize(("harm", "message"), GONE + DAMAGED, ids=id_of)
async def test_harm_is_noticed_by_itself_and_nothing_is_acknowledged_afterwards(
    path: Path, harm: Harm, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with harmed(path, harm) as store:
        for _ in range(2):
            for verb in writing(store):
                with pytest.raises(Unavailable, match=message) as said:
                    await verb()
                assert said.value.is_final
                assert str(path) in str(said.value)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1  # said once, by the thread that looked


@pytest.mark.parametrize(("harm", "message"), GONE, ids=id_of)
async def test_what_is_gone_is_not_read(path: Path, harm: Harm, message: str) -> None:
    async with harmed(path, harm) as store:
        for verb in (lambda: store.read("k000"), lambda: store.scan(Query(kind="run"))):
            with pytest.raises(Unavailable, match=message):
                await verb()


async def test_a_file_that_comes_back_is_read_and_is_written_once_it_is_opened_again(
    path: Path,
) -> None:
    async with harmed(path, trouble.moved) as store:
        beside(path, ".moved").rename(path)

        assert (await store.read("accepted")).head is not None
        with pytest.raises(Unavailable, match="open it again"):
            await store.commit(fact("accepted", "x"))
    async with SQLiteStore(path, clock=System()) as store:
        await store.commit(fact("accepted", "y"))

    assert journals(path)["accepted"] == ["make accepted", "y"]


@pytest.mark.parametrize("harm", [trouble.without_log, trouble.without_index_of_log], ids=id_of)
async def test_what_was_accepted_survives_a_log_that_is_deleted(path: Path, harm: Harm) -> None:
    """The process that has it open puts it into the file when it closes it."""
    async with harmed(path, harm):
        pass

    assert journals(path)["accepted"] == ["make accepted"]


async def test_a_damaged_page_is_met_by_the_first_read_and_the_rest_can_be_read(
    path: Path,
) -> None:
    await fill(path)
    harm = trouble.entries_of(path, "k000")
    async with SQLiteStore(path, clock=System()) as store:
        harm(path)

        assert (await store.read("k199")).head is not None  # it does not meet it
        with pytest.raises(Unavailable, match=r"is damaged: .* restore a backup") as said:
            await store.read("k000")
        assert said.value.is_final
        for verb in writing(store):
            with pytest.raises(Unavailable, match="is damaged"):
                await verb()
        reading = await store.read("k199")
        assert [entry.change for entry in reading.entries] == ["make k199", "later"]
        scanned = await store.scan(Query(kind="run"), limit=500)
        assert len(scanned.heads) == 200


async def test_damage_that_a_write_meets_ends_all_writing(path: Path) -> None:
    await fill(path)
    harm = trouble.entries_of(path, "k000")
    async with SQLiteStore(path, clock=System()) as store:
        harm(path)

        beside_it, meets_it = await asyncio.gather(
            store.commit(fact("k199", "beside")),
            store.commit(fact("k000", "x")),
            return_exceptions=True,
        )

        assert isinstance(meets_it, Unavailable)
        with pytest.raises(Unavailable, match="is damaged"):
            await store.commit(fact("k199", "after"))
        changes = [entry.change for entry in (await store.read("k199")).entries]
        assert "after" not in changes
        assert isinstance(beside_it, Unavailable) or "beside" in changes


async def test_an_empty_file_with_a_log_is_not_taken_for_a_new_one(path: Path) -> None:
    """SQLite would delete the log, which may hold all that there is."""
    path.touch()
    beside(path, "-wal").write_bytes(b"what was written last")

    with pytest.raises(UsageError, match="is empty, and its log"):
        await SQLiteStore(path, clock=System()).__aenter__()

    assert beside(path, "-wal").read_bytes() == b"what was written last"


async def test_a_vacuum_by_another_program_is_no_damage(path: Path) -> None:
    await fill(path)
    async with SQLiteStore(path, clock=System()) as store:
        for number in range(200):
            await store.delete(f"k{number:03}", expect=2)
        with closing(sqlite3.connect(path)) as db:
            size = path.stat().st_size
            db.execute("vacuum")
            db.execute("pragma wal_checkpoint(truncate)")
            assert path.stat().st_size < size
        condition = store._entered and store._entered.file.condition
        assert condition
        assert [condition.look(), condition.look()] == [None, None]

        await store.commit(create("after"))

    assert list(journals(path)) == ["after"]


# What passes.


async def test_a_file_that_may_grow_no_more_takes_nothing_until_it_may(path: Path) -> None:
    """`max_page_count` is SQLite's own way to a full disk: the same error, at any page."""
    large = [replace(create(f"large {n}"), entries=(Draft("a", "x" * 10**5),)) for n in range(20)]
    async with SQLiteStore(path, clock=System()) as store:
        await store.commit(create("before"))
        await limit_pages(store, 100)
        accepted = ["before"]
        refused: dict[str, Unavailable] = {}

        for change in large:
            try:
                await store.commit(change)
            except Unavailable as error:
                refused[change.key] = error
            else:
                accepted.append(change.key)

        await store.commit(fact("before", "there is room for little"))
        assert refused
        for said in refused.values():
            assert "disk is full: make room, and what waits goes on" in str(said)
            assert not said.is_final
        assert list(journals(path)) == accepted
        await limit_pages(store, 2**30)
        await store.commit(*(change for change in large if change.key in refused))

    assert sorted(journals(path)) == sorted(["before", *(change.key for change in large)])


async def limit_pages(store: SQLiteStore, most: int) -> None:
    def limit(ledger: Ledger) -> None:
        ledger._db.execute(f"pragma max_page_count = {most}")

    assert store._entered
    await store._entered.write(limit)


async def test_another_program_that_locks_the_file_is_said_and_then_it_goes_on(
    path: Path, opened: Opened
) -> None:
    store = await opened()
    await store.commit(create("k"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")

        with pytest.raises(Unavailable, match="another program has locked it") as said:
            await store.commit(fact("k", "x"))

        assert not said.value.is_final
        assert (await store.read("k")).head is not None  # who reads does not wait
        other.execute("rollback")
        [head] = await store.commit(fact("k", "x"))
    assert head.revision == 2


async def test_another_program_that_reads_for_long_holds_up_nobody(
    path: Path, opened: Opened
) -> None:
    store = await opened()
    await store.commit(create("k"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin")
        other.execute("select * from heads").fetchall()

        for number in range(50):
            await store.commit(fact("k", str(number)))

        assert len(other.execute("select * from entries").fetchall()) == 1
    head = (await store.read("k")).head
    assert head is not None
    assert head.revision == 51


async def test_a_process_without_descriptors_says_so_and_then_goes_on(
    start: Start, path: Path
) -> None:
    process = await start("run_out_of_descriptors")

    said = await process.says()

    assert said["read"].startswith("Unavailable: ")
    assert "too many files open" in said["read"]
    assert said["claim"].startswith("Unavailable: ")
    assert "Too many open files" in said["claim"]
    assert said["later"] == ["done", "done"]
    assert await process.ends() == 0
    assert journals(path) == {"k": ["make k"]}
