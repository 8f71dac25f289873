"""The tables of a file, and how an older file becomes one of today.

The one rule that must not be broken: a table of a format that was ever released is changed by a
further migration, never by an edit of an old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlast.errors import UsageError
from outlast.stores.sqlite.failures import damaged

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

APPLICATION_ID: Final = 0x6F75746C
"""Stands in the header of each of our files: `outl`."""

# What a head's `stage` says of it, for those who look for journals to claim.
RESTING: Final = 0  # it is never due
FREE: Final = 1  # it is due now or later, and no lease is held
HELD: Final = 2  # a lease is held, or ended unnoticed

_FIRST: Final = (
    """
    create table state (
      id integer primary key check (id = 1),
      sequence integer not null,  -- how many writes there were: the `updated` of the last one
      alarms integer not null,    -- how many writes there were that no head tells of
      boot text not null          -- the start of the machine by whose clock leases end
    )
    """,
    "insert into state values (1, 0, 0, '')",
    """
    create table namespaces (
      id integer primary key,
      name text not null unique,
      floor integer not null
    )
    """,
    """
    create table heads (
      id integer primary key,     -- the count of writes when it was made, so never used twice
      namespace integer not null references namespaces,
      key text not null,
      first integer not null,
      revision integer not null,
      facts integer not null,
      since integer not null,
      closed integer not null,
      kind text not null,
      name text not null,
      title text not null,
      status text not null,
      queue text not null,
      due real,
      priority integer not null,
      tags text not null,         -- a JSON object
      session text not null,
      source text not null,
      token integer not null,
      owner text,                 -- of the lease; like `fence` and `until` null where there is none
      fence text,
      until real,
      stage integer not null,
      created_at real not null,
      updated_at real not null,
      updated integer not null,
      unique (namespace, key)
    )
    """,
    "create index heads_by_key on heads (namespace, kind, key)",
    "create index heads_by_age on heads (namespace, kind)",  # an index ends with the id
    "create index heads_by_update on heads (namespace, kind, updated)",
    "create index heads_by_status on heads (namespace, kind, status)",
    "create index heads_by_session on heads (namespace, session) where session <> ''",
    """
    create index heads_free on heads (namespace, queue, name, priority desc, due, key)
      where stage = 1
    """,
    "create index heads_held on heads (namespace, queue, name, until) where stage = 2",
    # Entries may outlive their head for a while (see `Ledger.commit`), so they do not reference it.
    """
    create table entries (
      journal integer not null,   -- the id of the head
      revision integer not null,
      type text not null,
      data text not null,
      at real not null,
      change text not null,
      part integer not null,      -- 0 in the first entry of a change, then 1, 2, 3 ...
      blobs text,                 -- a JSON array, or null
      primary key (journal, revision)
    ) without rowid
    """,
    "create index entries_by_type on entries (journal, type, revision)",
    "create unique index entries_by_change on entries (journal, change) where part = 0",
    "create table deleted (journal integer primary key)",  # whose entries are still to be removed
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST,)
"""What brings a file of format 0, 1, 2 ... to the next one; a new file has format 0."""

FORMAT: Final = len(MIGRATIONS)
"""That of the files that this version writes."""


def check_format(db: sqlite3.Connection) -> None:
    """Refuse to go on with a file that another process has brought to a newer format.

    Raises:
        UsageError: it has.
        Unavailable: somebody has overwritten its beginning.
    """
    [version] = db.execute("pragma user_version").fetchone()
    if version < FORMAT:
        [[*_, path]] = db.execute("pragma database_list").fetchall()
        raise damaged(path, f"its format {FORMAT} has become {version}")
    if version > FORMAT:
        raise UsageError(
            f"the file was brought to format {version} while this process had it open, which knows"
            f" format {FORMAT}: start it again with the version of outlast that did so"
        )


def prepare(
    db: sqlite3.Connection, path: str, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring a file that is new or ours to the format after the last migration, in one transaction.

    Raises:
        UsageError: the file has a newer format.
    """
    [version] = db.execute("pragma user_version").fetchone()
    newest = len(migrations)
    if version > newest:
        raise UsageError(
            f"the file {path!r} has format {version}, and this version of outlast knows formats up"
            f" to {newest}: install the version that wrote it, or a newer one"
        )
    if version == 0:
        # Before the file becomes a WAL file, so that it stands in the file itself from now on.
        db.execute(f"pragma application_id = {APPLICATION_ID}")
    [mode] = db.execute("pragma journal_mode = wal").fetchone()
    if mode != "wal":
        raise UsageError(
            f"the file {path!r} cannot have a write-ahead log: keep it on a local disk"
        )
    if version == newest:
        return
    db.execute("begin immediate")
    try:
        for migration in migrations[version:]:
            for statement in migration:
                db.execute(statement)
        db.execute(f"pragma user_version = {newest}")
        db.execute("commit")
    except BaseException:
        db.execute("rollback")
        raise
