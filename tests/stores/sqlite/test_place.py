"""Which files are opened, and that the others are left as they are."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from outlast.errors import Unavailable, UsageError
from outlast.store import open_store
from outlast.stores.sqlite import SQLiteStore
from outlast.stores.sqlite.place import _linux_mount, _mac_mount, check_place, file_system
from outlast.stores.sqlite.schema import APPLICATION_ID, FORMAT
from outlast.testing import FakeClock
from tests.stores.sqlite.process import create


async def refused(path: Path) -> str:
    """Return why the file is not opened."""
    with pytest.raises(UsageError) as said:
        async with SQLiteStore(path, clock=FakeClock()):
            pass
    return str(said.value)


@contextmanager
def left_as_it_is(directory: Path) -> Iterator[None]:
    """Assert that no file in the directory is changed, made or removed."""

    def everything() -> dict[str, tuple[bytes, int]]:
        return {
            file.name: (file.read_bytes() if file.is_file() else b"", file.stat().st_mtime_ns)
            for file in directory.iterdir()
        }

    before = everything()
    yield
    assert everything() == before


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "make it first" in await refused(tmp_path / "nowhere" / "outlast.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"hello", b"x" * 100_000, b"SQLite format 3\0" + b"\0" * 84])
async def test_a_file_that_is_no_database_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with left_as_it_is(path.parent):
        assert "left as it is" in await refused(path)


async def test_a_directory_is_no_file(path: Path) -> None:
    path.mkdir()

    with left_as_it_is(path.parent):
        assert "name a file" in await refused(path)


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("application", [0, 17])
async def test_a_database_of_another_application_is_left_as_it_is(
    path: Path, mode: str, application: int
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"pragma application_id = {application}")
        db.execute(f"pragma journal_mode = {mode}")
        db.execute("create table theirs (a)")
        db.commit()

        with left_as_it_is(path.parent):
            assert "another application" in await refused(path)
    with left_as_it_is(path.parent):
        assert "another application" in await refused(path)


@pytest.mark.slow
async def test_what_another_part_of_the_process_has_locked_stays_locked(path: Path) -> None:
    """A descriptor that is closed takes the process's locks of that file with it."""
    try_it = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('begin immediate')"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("create table theirs (a)")
        db.execute("begin immediate")

        await refused(path)

        run = subprocess.run([sys.executable, "-c", try_it], capture_output=True, check=False)
        assert b"database is locked" in run.stderr


async def test_a_newer_file_is_left_as_it_is(path: Path) -> None:
    async with SQLiteStore(path, clock=FakeClock()) as store:
        await store.commit(create("k"))
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"pragma user_version = {FORMAT + 1}")
        assert db.execute("pragma wal_checkpoint(truncate)").fetchone() == (0, 0, 0)
    before = path.read_bytes()

    said = await refused(path)

    assert f"has format {FORMAT + 1}" in said
    assert f"up to {FORMAT}" in said
    assert path.read_bytes() == before


async def test_an_empty_file_is_a_new_one(path: Path) -> None:
    path.touch()

    async with SQLiteStore(path, clock=FakeClock()) as store:
        await store.commit(create("k"))

    with closing(sqlite3.connect(path)) as db:
        assert db.execute("pragma application_id").fetchone() == (APPLICATION_ID,)
        assert db.execute("pragma user_version").fetchone() == (FORMAT,)


async def test_a_file_whose_making_was_interrupted_is_made(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"pragma application_id = {APPLICATION_ID}")

    async with SQLiteStore(path, clock=FakeClock()) as store:
        await store.commit(create("k"))


async def test_a_file_of_ours_is_known_in_the_middle_of_a_checkpoint(path: Path) -> None:
    """Its first page says how long it will be, and it is not so long yet."""
    async with SQLiteStore(path, clock=FakeClock()) as store:
        await store.commit(*(create(f"k{number}") for number in range(500)))
    os.truncate(path, 8_192)

    check_place(path)


@contextmanager
def as_nobody() -> Iterator[Path]:
    """Yield a directory, without the rights of a superuser to everything."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o777)
        user = os.geteuid()
        if not user:
            os.seteuid(65534)
        try:
            yield place
        finally:
            os.seteuid(user)
            place.chmod(0o777)


async def test_a_file_that_cannot_be_written_is_refused() -> None:
    with as_nobody() as place:
        path = place / "outlast.db"
        path.touch()
        path.chmod(0o444)

        assert "not readable and writable" in await refused(path)


async def test_a_directory_that_cannot_be_written_is_refused() -> None:
    with as_nobody() as place:
        inner = place / "inner"
        inner.mkdir()
        inner.chmod(0o555)

        assert "is not writable" in await refused(inner / "outlast.db")


async def test_a_directory_that_cannot_be_entered_is_said_to_be() -> None:
    with as_nobody() as place:
        inner = place / "inner"
        inner.mkdir(mode=0)

        with pytest.raises(Unavailable, match=r"cannot be used: .*Permission denied"):
            await SQLiteStore(inner / "outlast.db", clock=FakeClock()).__aenter__()


async def test_a_file_in_the_place_of_the_locks_is_said_to_be_there(path: Path) -> None:
    path.with_name(f"{path.name}-locks").touch()

    for _ in range(2):
        with pytest.raises(Unavailable, match=r"cannot be used: .*-locks"):
            await SQLiteStore(path, clock=FakeClock()).__aenter__()


async def test_what_is_no_path_is_refused() -> None:
    assert "is no path" in await refused(Path("a\0b.db"))


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs", "fuseblk", "virtiofs"])
def test_a_file_system_that_others_share_is_refused(path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=kind):
        check_place(path, lambda _: kind)


@pytest.mark.parametrize("kind", ["", "ext4", "xfs", "apfs", "overlay", "tmpfs", "btrfs"])
def test_a_file_system_of_one_machine_is_taken(path: Path, kind: str) -> None:
    check_place(path, lambda _: kind)


@pytest.mark.skipif(sys.platform == "darwin", reason="there is no /proc")
def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path("/sys/kernel")) == "sysfs"


def test_tables_of_mounts_are_read() -> None:
    assert _linux_mount(
        r"36 35 0:44 / /mnt/a\040b rw,noatime shared:1 master:2 - nfs4 server:/x rw,vers=4.2"
    ) == ("/mnt/a b", "nfs4")
    assert _linux_mount("36 35 98:0 /mnt1 / rw - ext3 /dev/root rw,errors=continue") == (
        "/",
        "ext3",
    )
    assert _mac_mount("//me@server/a (b) on /Volumes/a (b) (smbfs, nodev, nosuid)") == (
        "/Volumes/a (b)",
        "smbfs",
    )
    assert _mac_mount("/dev/disk3s1 on / (apfs, local)") == ("/", "apfs")


@pytest.mark.parametrize("name", ["a b?c=d&e#f%20.db", "ümlaut 🐍.db", "file:x.db", "'\".db"])
async def test_a_name_may_have_any_characters(tmp_path: Path, name: str) -> None:
    async with SQLiteStore(tmp_path / name, clock=FakeClock()) as store:
        await store.commit(create("k"))

    assert (tmp_path / name).stat().st_size
    assert {file.name for file in tmp_path.iterdir()} == {name, f"{name}-locks"}


async def test_links_lead_to_one_file(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "outlast.db")

    async with (
        SQLiteStore(tmp_path / "link.db", clock=FakeClock()) as one,
        SQLiteStore(tmp_path / "outlast.db", clock=FakeClock()) as other,
    ):
        await one.commit(create("k"))
        assert (await other.read("k")).head is not None

    assert {file.name for file in tmp_path.iterdir()} == {
        "link.db",
        "outlast.db",
        "outlast.db-locks",
    }


async def test_urls_name_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, file in (
        ("sqlite:///relative.db", "relative.db"),
        (f"sqlite:///{tmp_path}/absolute.db?synchronous=normal", "absolute.db"),
        ("sqlite:///with%20blank.db?synchronous=full", "with blank.db"),
    ):
        async with open_store(url, clock=FakeClock()) as store:
            await store.commit(create("k"))

        assert (tmp_path / file).stat().st_size


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite://host/x.db",
        "sqlite:///x.db?sync=1",
        "sqlite:///x.db?sync",
        "sqlite:///x.db?synchronous=off",
        "sqlite://[::1",
        Path("sqlite.db"),
    ],
)
def test_strange_urls_are_refused(url: Any) -> None:
    with pytest.raises(UsageError, match="sqlite"):
        open_store(url, clock=FakeClock())
