"""Rows of the tables, and the heads and entries that they stand for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from outlast.journal import NEVER, Card, Entry, Fence, Head, Lease, is_held
from outlast.stores.sqlite.schema import FREE, HELD, RESTING

if TYPE_CHECKING:
    from collections.abc import Mapping

Row: TypeAlias = tuple[Any, ...]

COLUMNS: Final = (
    "id", "key", "first", "revision", "facts", "since", "closed", "kind", "name", "title", "status",
    "queue", "due", "priority", "tags", "session", "source", "token", "owner", "fence", "until",
    "created_at", "updated_at", "updated", "stage",
)  # fmt: skip

_TAGS: Final = COLUMNS.index("tags")
HEAD: Final = ", ".join(COLUMNS)
ENTRY: Final = "revision, type, data, at, change, blobs"


def to_head(row: Row, *, rebooted: bool = False) -> Head:
    """Return the head; after another start of the machine its lease has ended."""
    (
        id, key, first, revision, facts, since, closed, kind, name, title, status,
        queue, due, priority, tags, session, source, token, owner, fence, until,
        created_at, updated_at, updated, _stage,
    ) = row  # fmt: skip
    card = Card(
        kind, name, title, status, queue, due, priority,
        {} if tags == "{}" else json.loads(tags), session, source,
    )  # fmt: skip
    lease = None
    if owner is not None:
        lease = Lease(key, owner, Fence(token, fence), 0.0 if rebooted else until)
    return Head(
        key, first, revision, facts, since, bool(closed), card, token, lease,
        created_at, updated_at, id, updated,
    )  # fmt: skip


def to_row(head: Head, now: float, old: Row | None = None) -> Row:
    """Return the row of the head, and where those who claim will find it.

    A lease that has ended ends at 0: it stays ended when the clock for leases begins anew.

    Args:
        head: what the row stands for.
        now: the clock for leases.
        old: a row of the same journal, if its tags are still the same.
    """
    card, lease, held = head.card, head.lease, is_held(head, now)
    owner = fence = until = None
    if lease:
        owner, fence, until = lease.owner, lease.fence.id, lease.until if held else 0.0
    stage = HELD if held else RESTING if card.due is NEVER else FREE
    return (
        head.created, head.key, head.first, head.revision, head.facts, head.since, head.closed,
        card.kind, card.name, card.title, card.status, card.queue, card.due, card.priority,
        old[_TAGS] if old else _json(card.tags), card.session, card.source,
        head.token, owner, fence, until,
        head.created_at, head.updated_at, head.updated, stage,
    )  # fmt: skip


def to_entry(row: Row) -> Entry:
    """Return the entry."""
    revision, type, data, at, change, blobs = row
    return Entry(revision, type, data, at, change, tuple(json.loads(blobs)) if blobs else ())


def entry_row(journal: int, entry: Entry, part: int) -> Row:
    """Return the row of a change's entry, its first, second, third ... one by `part`."""
    blobs = json.dumps(entry.blobs) if entry.blobs else None
    return (
        journal, entry.revision, entry.type, entry.data, entry.at, entry.change, part, blobs,
    )  # fmt: skip


def _json(tags: Mapping[str, str]) -> str:
    return json.dumps(dict(tags), ensure_ascii=False) if tags else "{}"
