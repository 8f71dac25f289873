"""What is read: a journal's head and entries, and pages of heads.

Each is read in one transaction, so that it shows one instant. The one rule that must not be broken:
what is read costs what it returns, however long the journal and however many others there are.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlast.errors import UsageError
from outlast.store import Reading, Scanned
from outlast.stores.sqlite.rows import ENTRY, HEAD, to_entry, to_head
from outlast.stores.sqlite.schema import check_format

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from outlast.journal import Entry, Head
    from outlast.store import Query
    from outlast.stores.sqlite.scope import Scope

MAX_SCANNED: Final = 1_000
"""Heads that one page of a scan looks at."""

MAX_MERGED: Final = 16
"""Statuses whose parts of the index one scan merges."""

_COLUMNS: Final = {"key": "key", "created": "id", "updated": "updated"}
_COUNT_WIDTH: Final = 20


class Extent(NamedTuple):
    """Which entries of a journal are asked for; see `Store.read`."""

    after: int | None
    limit: int | None
    last: int | None
    types: Sequence[str] | None


def read_journal(db: sqlite3.Connection, scope: Scope, key: str, extent: Extent) -> Reading:
    """Return the head of a journal and some of its entries."""
    floor, rebooted = _floor(db, scope)
    sql = f"select {HEAD} from heads where namespace = ? and key = ?"
    row = db.execute(sql, (scope.namespace, key)).fetchone()
    if row is None:
        return Reading(None, [], floor)
    head = to_head(row, rebooted=rebooted)
    return Reading(head, _entries(db, head, extent), floor)


def _floor(db: sqlite3.Connection, scope: Scope) -> tuple[int, bool]:
    """Return the floor, and whether the machine was started anew since leases were last written.

    Raises:
        UsageError: another process has brought the file to a newer format.
    """
    check_format(db)
    sql = "select floor, boot from namespaces, state where namespaces.id = ?"
    [(floor, boot)] = db.execute(sql, (scope.namespace,)).fetchall()
    return floor, boot != scope.clock.boot_id()


def _entries(db: sqlite3.Connection, head: Head, extent: Extent) -> list[Entry]:
    after, limit, last, types = extent
    start = max(head.since - 1, 0) if after is None else after
    nothing = limit == 0 or last == 0 or (types is not None and not types)
    if nothing or start >= head.revision:
        return []
    most = limit if last is None else last
    most = -1 if most is None else most
    if types is None:
        sql = _SELECT_LAST if last is not None else _SELECT_FIRST
        rows = db.execute(sql, (head.created, start, most)).fetchall()
    else:
        chosen = dict.fromkeys(types)
        sql = _select_types(len(chosen), descending=last is not None)
        values = [value for type in chosen for value in (head.created, type, start)]
        rows = db.execute(sql, (*values, most, head.created)).fetchall()
    rows.sort(key=itemgetter(0))
    return [to_entry(row) for row in rows[:limit]]


_SELECT_FIRST: Final = (
    f"select {ENTRY} from entries where journal = ? and revision > ? order by revision limit ?"
)
_SELECT_LAST: Final = (
    f"select {ENTRY} from entries where journal = ? and revision > ? order by revision desc limit ?"
)


@cache
def _select_types(types: int, *, descending: bool) -> str:
    """Return the statement for the entries of so many types.

    It merges the revisions of each type from the index, as far as it needs, and reads these only.
    """
    order = "desc" if descending else "asc"
    branch = "select revision from entries where journal = ? and type = ? and revision > ?"
    branches = " union all ".join([branch] * types)
    columns = ", ".join(f"entries.{column}" for column in ENTRY.split(", "))
    return (
        f"select {columns} from ({branches} order by revision {order} limit ?) as chosen"
        " cross join entries on journal = ? and entries.revision = chosen.revision"
    )


def scan_heads(
    db: sqlite3.Connection, scope: Scope, query: Query, limit: int, after: str | None
) -> Scanned:
    """Return a page of heads; see `Store.scan`."""
    start = None if after is None else _start(query, after)
    inner, values = _walk(scope.namespace, query, start)
    outer, more = _filter(query)
    _, rebooted = _floor(db, scope)
    sql = f"select {HEAD} from ({inner} limit {MAX_SCANNED}) where {outer}"
    heads: list[Head] = []
    for row in db.execute(sql, (*values, *more)):
        head = to_head(row, rebooted=rebooted)
        if query.matches(head):
            if len(heads) == limit:
                return Scanned(heads, _cursor(query, heads[-1]))
            heads.append(head)
    # All were looked at that a page may look at; if they were so many, the next one goes on.
    sql = f"{inner} limit 1 offset {MAX_SCANNED - 1}"
    row = db.execute(sql, values).fetchone()
    return Scanned(heads, _cursor(query, to_head(row)) if row else None)


def _walk(namespace: int, query: Query, start: str | int | None) -> tuple[str, list[Any]]:
    """Return the statement that goes along the best index, in order, and its values.

    Without an index of its own, what is asked for is filtered out of what another one gives. Those
    of several statuses are merged, each from its own part of the index, as far as one goes on.
    """
    column = _COLUMNS[query.order]
    terms: list[str] = ["namespace = ?"]
    values: list[Any] = [namespace]
    statuses: list[str] = []
    if query.order == "created" and query.session:
        terms.append("session = ? and session <> ''")
        values.append(query.session)
    else:
        terms.append("kind = ?")
        values.append(query.kind)
        if query.order == "created" and len(query.statuses) <= MAX_MERGED:
            statuses = sorted(query.statuses)
    if query.order == "key" and query.prefix:
        terms.append("key >= ?")
        values.append(query.prefix)
        if (end := _end(query.prefix)) is not None:
            terms.append("key < ?")
            values.append(end)
    if start is not None:
        terms.append(f"{column} {'<' if query.descending else '>'} ?")
        values.append(start)
    branch = f"select {HEAD} from heads where {' and '.join(terms)}"
    if statuses:
        branch = " union all ".join([f"{branch} and status = ?"] * len(statuses))
        values = [value for status in statuses for value in (*values, status)]
    return f"{branch} order by {column} {'desc' if query.descending else 'asc'}", values


def _filter(query: Query) -> tuple[str, list[Any]]:
    """Return what SQLite can leave out by itself of what does not match."""
    terms: list[str] = ["kind = ?"]
    values: list[Any] = [query.kind]
    if query.statuses:
        terms.append(f"status in ({', '.join('?' * len(query.statuses))})")
        values.extend(query.statuses)
    for column in ("session", "name", "source"):
        wanted = getattr(query, column)
        if wanted is not None:
            terms.append(f"{column} = ?")
            values.append(wanted)
    if query.created_after is not None:
        terms.append("created_at >= ?")
        values.append(query.created_after)
    if query.created_before is not None:
        terms.append("created_at < ?")
        values.append(query.created_before)
    return " and ".join(terms), values


def _end(prefix: str) -> str | None:
    """Return the first text behind all that begin so; None: there is none."""
    last, largest = prefix.rstrip("\U0010ffff"), 0xD7FF
    if not last:
        return None
    code = ord(last[-1])
    return last[:-1] + chr(0xE000 if code == largest else code + 1)


def _cursor(query: Query, head: Head) -> str:
    match query.order:
        case "key":
            return f"key:{head.key}"
        case "created":
            return f"created:{head.created}"
        case "updated":
            return f"updated:{head.updated}"


def _start(query: Query, cursor: str) -> str | int:
    order, colon, place = cursor.partition(":")
    if order == query.order and colon:
        if order == "key":
            return place
        if place.isdecimal() and place.isascii() and len(place) < _COUNT_WIDTH:
            return int(place)
    raise UsageError(f"{cursor!r} is not the cursor of a scan ordered by {query.order!r}")
