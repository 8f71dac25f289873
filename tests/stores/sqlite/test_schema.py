"""How a file comes to today's format."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outlast.errors import UsageError
from outlast.stores.sqlite.schema import MIGRATIONS, prepare

SECOND = (
    "alter table heads add column colour text not null default 'red'",
    "create table more (a)",
)


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


def version(db: sqlite3.Connection) -> int:
    [version] = db.execute("pragma user_version").fetchone()
    return int(version)


def test_an_older_file_is_migrated_with_what_is_in_it(db: sqlite3.Connection) -> None:
    prepare(db, "file", [MIGRATIONS[0]])
    db.execute("insert into namespaces values (1, 'default', 77)")

    prepare(db, "file", [MIGRATIONS[0], SECOND])
    prepare(db, "file", [MIGRATIONS[0], SECOND])

    assert version(db) == 2
    assert db.execute("select floor from namespaces").fetchall() == [(77,)]
    assert db.execute("select colour from heads").fetchall() == []


def test_a_new_file_goes_through_all_formats(db: sqlite3.Connection) -> None:
    prepare(db, "file", [MIGRATIONS[0], SECOND])

    assert version(db) == 2
    assert db.execute("select * from more").fetchall() == []


def test_a_migration_that_fails_leaves_the_file_as_it_was(db: sqlite3.Connection) -> None:
    prepare(db, "file", [MIGRATIONS[0]])
    before = db.execute("select sql from sqlite_master").fetchall()

    with pytest.raises(sqlite3.OperationalError):
        prepare(db, "file", [MIGRATIONS[0], SECOND, ("create table broken (",)])

    assert version(db) == 1
    assert db.execute("select sql from sqlite_master").fetchall() == before
    prepare(db, "file", [MIGRATIONS[0], SECOND])


def test_a_newer_file_is_refused(db: sqlite3.Connection) -> None:
    prepare(db, "file", [MIGRATIONS[0], SECOND])

    with pytest.raises(UsageError, match=r"has format 2, .* up to 1"):
        prepare(db, "file", [MIGRATIONS[0]])
