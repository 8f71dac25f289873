"""`outlast doctor`: each of its findings made real, and none for a file in good order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import outlast
from outlast import TaskContext, task
from outlast.cli.commands import app as command
from outlast.cli.doctor import MEANING
from outlast.engine.clock import System
from outlast.stores.sqlite import SQLiteStore, examination
from outlast.stores.sqlite.examination import Finding, examine
from outlast.stores.sqlite.examination.content import check_journals
from outlast.stores.sqlite.examination.place import LARGE_LOG
from outlast.stores.sqlite.schema import APPLICATION_ID, FORMAT
from outlast.testing import FakeClock
from tests.stores.sqlite import conftest, trouble
from tests.stores.sqlite.conftest import Process
from tests.stores.sqlite.process import create
from tests.stores.sqlite.test_place import as_nobody
from tests.stores.sqlite.trouble import beside

Start = Callable[[str], Awaitable[Process]]

path = conftest.path
start = conftest.start


@task(name="doctor.wait")
async def wait(ctx: TaskContext[None]) -> str:
    await ctx.emit("entered")
    return await ctx.step("ask", ctx.input.__repr__) + await ctx.wait("word", str)


@pytest.fixture
async def file(path: Path) -> Path:
    """Return a file with runs of every sort, which nobody has open."""
    async with outlast.open(f"sqlite:///{path}"):
        ended, parked, cancelled = [await wait.start(None, id=f"r-{n}") for n in range(3)]
        await ended.signal("word", "go")
        await ended.result()
        await cancelled.cancel("enough")
        await parked.signal("another", 1)
        for run in (ended, parked, cancelled):
            await run.refresh()
    return path


def looked_at(path: Path, **settings: Any) -> list[Finding]:
    clock = settings.pop("clock", None) or System()
    return examine(path, clock, MEANING, **settings)


def complaints(path: Path, **settings: Any) -> list[tuple[str, str]]:
    """Return which checks found something wrong, and how bad that is."""
    found = [one for one in looked_at(path, **settings) if one.severity != "ok"]
    assert all(one.remedy for one in found), found
    return [(one.check, one.severity) for one in found]


def complaint(path: Path, **settings: Any) -> Finding:
    """Return the only thing that is wrong."""
    [found] = [one for one in looked_at(path, **settings) if one.severity != "ok"]
    assert found.remedy
    return found


def altered(path: Path, *statements: str) -> None:
    """Let somebody else write to the tables."""
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            assert db.execute(statement).rowcount != 0
        db.commit()


# What is in good order.


async def test_a_file_in_good_order_has_no_complaints(file: Path) -> None:
    for is_full in (False, True):
        found = looked_at(file, is_full=is_full)

        assert [one.severity for one in found] == ["ok"] * 10
        assert all(not one.remedy for one in found)


async def test_one_that_is_in_use_has_none_either(file: Path) -> None:
    async with outlast.open(f"sqlite:///{file}") as app:
        run = await wait.start(None, id="now")
        async for _ in run.stream():
            break

        found = await asyncio.to_thread(looked_at, file)

        assert [one.severity for one in found] == ["ok"] * 10
        await (await app.runs.get("now")).signal("word", "still")
        assert (await run.result()).output == "Nonestill"


@pytest.mark.slow
async def test_nothing_is_changed_by_looking(file: Path, start: Start) -> None:
    process = await start("stay_inside")  # it leaves a log behind
    assert (await process.says())["inside"]
    process.send(signal.SIGKILL)
    await process.ends()
    kept = [file, beside(file, "-wal")]
    before = [one.read_bytes() for one in kept]

    assert complaints(file) == []

    assert [one.read_bytes() for one in kept] == before


async def test_a_closed_file_is_left_alone_in_its_directory(file: Path) -> None:
    before = {one.name for one in file.parent.iterdir()}

    looked_at(file)

    assert {one.name for one in file.parent.iterdir()} == before


# Where it is.


def test_a_file_that_is_not_there(path: Path) -> None:
    assert complaints(path) == [("file", "error")]
    assert not path.exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_file(path: Path, make: Callable[[Path], None]) -> None:
    make(path)

    assert complaints(path) == [("file", "error")]


@pytest.mark.parametrize("harm", [trouble.beheaded, trouble.emptied])
async def test_a_file_without_its_beginning(file: Path, harm: trouble.Harm) -> None:
    harm(file)
    beside(file, "-wal").write_bytes(b"what was written last")

    assert ("file", "error") in complaints(file)


async def test_a_database_of_another_application(file: Path) -> None:
    trouble.overwritten_by_another(file)

    assert "another application" in complaint(file).what


def test_a_file_that_may_not_be_written() -> None:
    with as_nobody() as place:
        path = place / "outlast.db"

        async def make() -> None:
            async with SQLiteStore(path, clock=FakeClock()) as store:
                await store.commit(create("k"))

        asyncio.run(make())
        path.chmod(0o444)

        found = looked_at(path, clock=FakeClock())

    wrong = [one for one in found if one.severity == "error"]
    assert ["not readable and writable" in one.what for one in wrong] == [True]
    assert len(found) == 10  # what can be read is looked at all the same


def test_a_directory_that_may_not_be_entered() -> None:
    with as_nobody() as place:
        inner = place / "inner"
        inner.mkdir(mode=0)

        found = complaints(inner / "outlast.db", clock=FakeClock())

    assert found == [("file", "error")]


async def test_a_log_that_nobody_can_move_into_the_file(file: Path) -> None:
    log = beside(file, "-wal")
    log.touch()
    os.truncate(log, LARGE_LOG + 1)

    found = complaint(file)

    assert (found.check, found.severity) == ("log", "warning")
    assert found.values == {"bytes": LARGE_LOG + 1}


@pytest.mark.parametrize(("free", "severity"), [(100_000_000, "warning"), (1_000_000, "error")])
async def test_a_disk_that_is_nearly_full(file: Path, free: int, severity: str) -> None:
    found = complaint(file, room=lambda _: free)

    assert (found.check, found.severity) == ("disk", severity)


# What is in it.


@pytest.mark.parametrize(("version", "severity"), [(FORMAT + 1, "error"), (0, "warning")])
async def test_a_file_of_another_format(file: Path, version: int, severity: str) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"pragma user_version = {version}")

    found = complaint(file)

    assert (found.check, found.severity) == ("format", severity)
    assert found.values == {"format": version}


async def test_a_damaged_page_hides_nothing_else(path: Path) -> None:
    async with SQLiteStore(path, clock=System()) as store:
        await store.commit(*(create(f"k{number:03}") for number in range(200)))
    trouble.entries_of(path, "k000")(path)

    found = complaints(path)

    assert ("integrity", "error") in found
    assert ("overdue", "warning") in found


async def test_a_file_that_was_cut(file: Path) -> None:
    trouble.cut(file)

    assert ("integrity", "error") in complaints(file)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("update heads set revision = revision + 1 where key = 'run/r-0'", "its head says 1 to"),
        ("delete from entries where revision = 2", "its entries are"),
        ("update heads set facts = facts + 1 where key = 'run/r-1'", "facts, and its head says"),
        ("update heads set closed = not closed where key = 'run/r-0'", "says otherwise"),
        ("update heads set since = 2 where key = 'run/r-0'", "its newest snapshot is 0"),
        ("delete from entries where journal = (select min(id) from heads)", "it has no entries"),
        ("delete from heads where key = 'run/r-1'", "entries of 1 journals have no head"),
    ],
)
async def test_a_head_that_is_not_the_sum_of_its_entries(
    file: Path, statement: str, what: str
) -> None:
    altered(file, statement)

    found = complaint(file)

    assert (found.check, found.severity) == ("journals", "error")
    assert what in found.what


async def test_more_than_can_be_looked_at_in_time(path: Path) -> None:
    async with SQLiteStore(path, clock=System()) as store:
        await store.commit(*(create(f"k{number:04}") for number in range(2_000)))
    with closing(sqlite3.connect(path)) as db:
        [found] = examination._made(db, "journals", lambda: check_journals(db, MEANING), 0.0)

    assert (found.check, found.severity) == ("journals", "warning")
    assert "--full" in found.remedy


# Who uses it.


async def test_a_clock_that_was_set_back(file: Path) -> None:
    found = complaint(file, clock=FakeClock(wall=System().wall() - 86_400))

    assert (found.check, found.severity) == ("clock", "warning")
    assert found.values["seconds"] == pytest.approx(86_400, abs=600)


@pytest.mark.slow
@pytest.mark.parametrize("is_stopped", [True, False])
async def test_a_process_that_stays_in_the_middle_of_a_write(
    path: Path, start: Start, is_stopped: bool
) -> None:
    process = await start("stay_inside")
    assert (await process.says())["inside"]
    if is_stopped:
        process.send(signal.SIGSTOP)

    found = complaint(path)

    assert (found.check, found.severity) == ("writing", "error")
    assert found.values == {"pid": process.pid}
    assert ("stands still" in found.what) == is_stopped


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose lock it is")
async def test_another_program_that_has_locked_it(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("begin immediate")

        found = complaint(file)

    assert (found.check, found.severity) == ("writing", "error")
    assert found.values == {"pid": os.getpid()}


@pytest.fixture
async def holder(start: Start) -> Process:
    """Return a process that holds a lease, and is the only one that has the file open."""
    process = await start("claim")
    assert (await process.says())["owner"]
    return process


@pytest.mark.slow
async def test_a_worker_that_lives(path: Path, holder: Process) -> None:
    [found] = [one for one in looked_at(path) if one.check == "leases"]

    assert (found.severity, found.values) == ("ok", {"workers": [holder.pid], "held": 1})


@pytest.mark.slow
async def test_a_worker_that_died_unnoticed(path: Path, holder: Process) -> None:
    holder.send(signal.SIGKILL)
    await holder.ends()

    found = complaint(path)

    assert (found.check, found.severity) == ("leases", "warning")
    assert (found.values["pid"], found.values["held"]) == (None, 1)


@pytest.mark.slow
async def test_a_worker_that_stands_still(path: Path, holder: Process) -> None:
    holder.send(signal.SIGSTOP)

    found = complaint(path)

    assert (found.check, found.severity) == ("leases", "error")
    assert f"kill -CONT {holder.pid}" in found.remedy


@pytest.mark.slow
async def test_a_worker_whose_lock_file_was_removed(path: Path, holder: Process) -> None:
    for sign in (beside(path, "-locks") / "owners").iterdir():
        sign.unlink()

    found = complaint(path)

    assert (found.check, found.severity) == ("leases", "warning")
    assert "removed its lock file" in found.what


async def test_what_nobody_takes(path: Path) -> None:
    async with SQLiteStore(path, clock=System()) as store:
        await store.commit(create("k"))

    found = complaint(path)

    assert (found.check, found.severity) == ("overdue", "warning")
    assert found.values == {"queue": "queue", "name": "name", "count": 1, "due": 0.0}


# The command.


def call(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["doctor", *arguments])


def test_the_command_says_that_all_is_well(file: Path) -> None:
    for arguments in ([f"sqlite:///{file}"], ["--url", f"sqlite:///{file}", "--full"]):
        result = call(*arguments)

        assert (result.exit_code, result.stderr) == (0, "")
        assert [line.split()[0] for line in result.stdout.splitlines()] == ["ok"] * 10


def test_the_command_says_what_is_wrong_first_and_what_to_do(file: Path) -> None:
    altered(file, "update heads set facts = 7 where key = 'run/r-0'")

    result = call(f"sqlite:///{file}")

    assert result.exit_code == 1
    first, second = result.stdout.splitlines()[:2]
    assert first.startswith("error    journals   heads do not match their entries: 'run/r-0'")
    assert second.split()[0] == "->"


def test_the_command_says_it_to_machines(path: Path) -> None:
    result = call(f"sqlite:///{path}", "--json")

    said = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (said["file"], said["severity"]) == (str(path), "error")
    [finding] = said["findings"]
    assert set(finding) == {"check", "severity", "what", "remedy", "values"}


def test_a_warning_is_no_failure(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"pragma application_id = {APPLICATION_ID}")

    assert call(f"sqlite:///{path}").exit_code == 0


@pytest.mark.parametrize("url", ["memory://", "postgresql://x", "sqlite:///x.db?sync"])
def test_what_is_no_file_is_refused(url: str) -> None:
    result = call(url)

    assert result.exit_code == 2
    assert url in result.stderr
