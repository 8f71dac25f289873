"""What is done inside a write transaction: the tables, as the one writer of a process sees them.

A call asks the rules about all of its changes first, and writes only then: one that is refused has
written nothing, and those that share its transaction need not know. The one rule that must not be
broken: what is remembered between transactions is forgotten once another process has written.

Whether a change was written before is asked where the rules refuse it. Entries that they allow show
it by themselves: the id is there already, the transaction fails, and is made again by a ledger that
`asks_first`.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import compress
from operator import ne
from typing import TYPE_CHECKING, Final, NamedTuple

from outlast.errors import Conflict, Fenced
from outlast.journal import NEVER, allow, apply, claim_order, claimable_in, is_held, numbered, take
from outlast.store import Claimed, Hint
from outlast.stores.sqlite.rows import COLUMNS, HEAD, entry_row, to_head, to_row
from outlast.stores.sqlite.schema import check_format

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from outlast.journal import Change, Head, Lease
    from outlast.store import Clock, Lane
    from outlast.stores.sqlite.rows import Row
    from outlast.stores.sqlite.scope import Scope

MAX_REMEMBERED: Final = 1_000
"""Heads that a writer keeps in mind."""

MAX_ENDED: Final = 1_000
"""Leases of one lane that one claim finds ended; the next one finds the others."""

MAX_REMOVED: Final = 100
"""Entries of deleted journals that one transaction removes: nobody waits for more than these."""

_INSERT_HEAD: Final = (
    f"insert into heads (namespace, {HEAD}) values (?, {', '.join('?' * len(COLUMNS))})"
)
_INSERT_ENTRY: Final = "insert into entries values (?, ?, ?, ?, ?, ?, ?, ?)"
_REMOVE: Final = """
    delete from entries where journal = ? and revision <= coalesce(
      (select revision from entries where journal = ? order by revision limit 1 offset ? - 1),
      9223372036854775807
    )
"""
_END_LEASE: Final = "update heads set until = 0, stage = (due is not null) where id = ?"
_NUMBERS: Final = range(len(COLUMNS))
_LANE: Final = "namespace = ? and queue = ? and name = ?"


class _Kept(NamedTuple):
    """A head, and the row that stands in the table."""

    head: Head
    row: Row


class Ledger:
    """The tables inside a write transaction, and what stays known of them from one to the next.

    Attributes:
        asks_first: it asks of each change whether it was written before.
    """

    sequence: int
    alarms: int
    asks_first: bool = False

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._seen = -1  # pragma data_version: another one says that somebody else wrote
        self._heads: dict[tuple[int, str], _Kept] = {}
        self._floors: dict[int, int] = {}
        self._state: tuple[int, int, str] = (0, 0, "")
        self.sequence, self.alarms, self._boot = self._state
        self.hints: list[tuple[int, Hint]] = []
        self.remains: bool = True  # perhaps there are entries of deleted journals

    # Transactions.

    def begin(self) -> None:
        """Begin a transaction, and forget what is not true any more.

        Raises:
            UsageError: another process has brought the file to a newer format.
        """
        if self._db.in_transaction:  # the last one could not even be rolled back
            self._db.execute("rollback")
        self._db.execute("begin immediate")
        [version] = self._db.execute("pragma data_version").fetchone()
        if version != self._seen:
            self._forget()
            self._seen = version
            check_format(self._db)
            sql = "select sequence, alarms, boot from state"
            [self._state] = self._db.execute(sql).fetchall()
            self.sequence, self.alarms, self._boot = self._state
        self.hints.clear()

    def commit(self) -> None:
        """Make the transaction durable; it also removes some of what was deleted before."""
        self._sweep()
        state = self.sequence, self.alarms, self._boot
        if state != self._state:
            self._db.execute("update state set sequence = ?, alarms = ?, boot = ?", state)
        self._db.execute("commit")
        self._state = state

    def rollback(self) -> None:
        """Leave nothing behind of the transaction, if there is still one."""
        self._forget()
        self._seen = -1
        self.remains = False  # until the next transaction looks
        self.hints.clear()
        if self._db.in_transaction:
            self._db.execute("rollback")

    def _forget(self) -> None:
        self._heads.clear()
        self._floors.clear()
        self.remains = True

    def _sweep(self) -> None:
        """Remove some entries of deleted journals.

        A deleted journal is gone with its head. Its entries lie under an id that is never used
        again, and go little by little: deleting a long journal keeps nobody waiting.
        """
        room = MAX_REMOVED if self.remains else 0
        while room:
            row = self._db.execute("select journal from deleted limit 1").fetchone()
            if row is None:
                self.remains = False
                break
            done = self._db.execute(_REMOVE, (*row, *row, room))
            if done.rowcount < room:
                self._db.execute("delete from deleted where journal = ?", row)
            room -= done.rowcount

    # The verbs.

    def write(self, scope: Scope, changes: Sequence[Change]) -> list[Head]:
        """Write the changes, all of them or none; what they raise is said at `Store.commit`."""
        now, wall = self._now(scope.clock), scope.clock.wall()
        floor = self._floor(scope.namespace)
        heads: list[Head] = []
        writes: list[tuple[Change, _Kept | None, _Kept]] = []
        latest: dict[str, _Kept] = {}
        ids: set[tuple[str, str]] = set()
        for change in changes:
            key = change.key
            old = latest.get(key) or self._find(scope.namespace, key)
            asks_first = self.asks_first or not change.entries
            is_done = (key, change.id) in ids or (asks_first and self._is_done(old, change))
            head = old.head if old else None
            try:
                if not is_done:
                    allow(change, head, floor, now=now, wall=wall)
            except (Conflict, Fenced):
                if asks_first or not self._is_done(old, change):
                    raise
                is_done = True
            if old and is_done:
                heads.append(old.head)
                continue
            updated = self.sequence + len(writes) + 1
            head = apply(change, head, floor, now=now, wall=wall, updated=updated)
            same_tags = old.row if old and "tags" not in change.card else None
            latest[key] = new = _Kept(head, to_row(head, now, same_tags))
            heads.append(head)
            writes.append((change, old, new))
            if change.entries:
                ids.add((key, change.id))
            if change.claim:
                scope.announce(change.claim.owner)
        for change, old, new in writes:
            self._keep(scope.namespace, old, new)
            self._append(change, new.head, wall)
            if change.card.get("tags"):  # the head shares them with the caller, who may alter them
                card = new.head.card._replace(tags=dict(new.head.card.tags))
                self._remember(scope.namespace, new._replace(head=new.head._replace(card=card)))
            hint = Hint(change.key, new.head.revision, new.head.closed)
            self.hints.append((scope.namespace, hint))
        self.sequence += len(writes)
        return heads

    def claim(
        self, scope: Scope, lanes: Sequence[Lane], *, owner: str, ttl: float, limit: int, id: str
    ) -> Claimed:
        """Take what is due and free; see `Store.claim`."""
        now, wall = self._now(scope.clock), scope.clock.wall()
        found: list[_Kept] = []
        waits: list[float] = []
        for lane in dict.fromkeys(lanes):
            place = (scope.namespace, lane.queue, lane.name)
            if self._end_leases(place, now):
                waits.append(0.0)
            waits += self._held(place, now, wall)
            found += self._free(place, wall, limit + 1, waits)
        found.sort(key=lambda kept: claim_order(kept.head))
        if found[:limit]:
            scope.announce(owner)
        taken: list[Head] = []
        for old in found[:limit]:
            head = take(old.head, owner, ttl, id, now)
            self._keep(scope.namespace, old, _Kept(head, to_row(head, now, old.row)))
            taken.append(head)
        waits += [wait for h in taken if (wait := claimable_in(h, wall, now)) is not None]
        if len(found) > limit:
            waits.append(0.0)
        return Claimed(taken, min(waits, default=None))

    def renew(self, scope: Scope, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        """Keep the leases that are still held; see `Store.renew`."""
        until = self._now(scope.clock) + ttl
        kept: list[Lease] = []
        for lease in leases:
            done = self._db.execute(
                "update heads set until = ?, stage = 2"
                " where namespace = ? and key = ? and token = ? and fence = ?",
                (until, scope.namespace, lease.key, lease.fence.token, lease.fence.id),
            )
            if done.rowcount:
                kept.append(lease._replace(until=until))
                self._heads.pop((scope.namespace, lease.key), None)
        return kept

    def delete(self, scope: Scope, key: str, expect: int) -> bool:
        """Forget the journal; see `Store.delete`."""
        now = self._now(scope.clock)
        old = self._find(scope.namespace, key)
        if old is None:
            return False
        head = old.head
        if is_held(head, now):
            raise Conflict(key, "lease", None, str(head.fence))
        if head.revision != expect:
            raise Conflict(key, "revision", expect, head.revision)
        self._db.execute("delete from heads where id = ?", (head.created,))
        self._heads.pop((scope.namespace, key), None)
        self._db.execute("insert into deleted values (?)", (head.created,))
        self.remains = True
        # Also above itself: who has read it before the deletion makes nothing after it.
        floor = max(self._floor(scope.namespace) + 1, expect)
        self._floors[scope.namespace] = floor
        self._db.execute("update namespaces set floor = ? where id = ?", (floor, scope.namespace))
        self.alarms += 1
        self.hints.append((scope.namespace, Hint(key, expect, closed=True)))
        return True

    # What is not a verb.

    def namespace(self, name: str) -> int:
        """Return the namespace's number, and make it if it is not there."""
        row = self._db.execute("select id from namespaces where name = ?", (name,)).fetchone()
        if row is None:
            made = self._db.execute("insert into namespaces (name, floor) values (?, 0)", (name,))
            assert made.lastrowid is not None  # it was inserted
            return made.lastrowid
        [id] = row
        return int(id)

    def bury(self, owner: str) -> None:
        """End the leases of an owner that is dead."""
        rows = self._db.execute(
            "select id, namespace from heads indexed by heads_held where stage = 2 and owner = ?",
            (owner,),
        ).fetchall()
        if not rows:
            return
        self._db.executemany(_END_LEASE, [(id,) for id, _ in rows])
        self._heads.clear()
        self.alarms += 1
        self.hints += [(namespace, Hint(None)) for namespace in {place for _, place in rows}]

    def has_leases(self, owner: str) -> bool:
        """Say whether the owner may hold leases."""
        sql = "select 1 from heads indexed by heads_held where stage = 2 and owner = ? limit 1"
        return self._db.execute(sql, (owner,)).fetchone() is not None

    # Heads.

    def _now(self, clock: Clock) -> float:
        """Return the clock for leases; another start of the machine has ended all there were."""
        boot = clock.boot_id()
        if boot != self._boot:
            self._db.execute(
                "update heads indexed by heads_held set until = 0, stage = (due is not null)"
                " where stage = 2"
            )
            self._heads.clear()
            self._boot = boot
        return clock.boot()

    def _floor(self, namespace: int) -> int:
        floor = self._floors.get(namespace)
        if floor is None:
            sql = "select floor from namespaces where id = ?"
            [floor] = self._db.execute(sql, (namespace,)).fetchone()
            self._floors[namespace] = floor
        return floor

    def _find(self, namespace: int, key: str) -> _Kept | None:
        known = self._heads.get((namespace, key))
        if known:
            return known
        sql = f"select {HEAD} from heads where namespace = ? and key = ?"
        row = self._db.execute(sql, (namespace, key)).fetchone()
        if row is None:
            return None
        kept = _Kept(to_head(row), row)
        self._remember(namespace, kept)
        return kept

    def _remember(self, namespace: int, kept: _Kept) -> None:
        if len(self._heads) >= MAX_REMEMBERED:
            self._heads.clear()
        self._heads[namespace, kept.head.key] = kept

    def _keep(self, namespace: int, old: _Kept | None, new: _Kept) -> None:
        """Write the head; only what differs, so that no other index is touched."""
        if old is None:
            self._db.execute(_INSERT_HEAD, (namespace, *new.row))
        else:
            columns = tuple(compress(_NUMBERS, map(ne, old.row, new.row)))
            if columns:
                values = [new.row[n] for n in columns]
                self._db.execute(_update(columns), (*values, new.head.created))
        self._remember(namespace, new)

    # Entries.

    def _is_done(self, old: _Kept | None, change: Change) -> bool:
        sql = "select 1 from entries where journal = ? and change = ? and part = 0"
        place = (old.head.created, change.id) if old else (0, "")
        return self._db.execute(sql, place).fetchone() is not None

    def _append(self, change: Change, head: Head, wall: float) -> None:
        rows = [
            entry_row(head.created, entry, part)
            for part, entry in enumerate(numbered(change, head, wall))
        ]
        if len(rows) == 1:
            self._db.execute(_INSERT_ENTRY, rows[0])
        else:
            self._db.executemany(_INSERT_ENTRY, rows)

    # Claims. A place is a namespace, a queue and a name.

    def _end_leases(self, place: tuple[int, str, str], now: float) -> bool:
        """Move what has a lease that ended to what is free; return whether there may be more."""
        rows = self._db.execute(
            f"select id, key from heads where {_LANE} and stage = 2 and until <= ?"
            " order by until limit ?",
            (*place, now, MAX_ENDED),
        ).fetchall()
        for id, key in rows:
            self._db.execute(_END_LEASE, (id,))
            self._heads.pop((place[0], key), None)
        return len(rows) == MAX_ENDED

    def _held(self, place: tuple[int, str, str], now: float, wall: float) -> Iterable[float]:
        """Yield in how many seconds the first of what is held is claimable."""
        sql = f"select until, due from heads where {_LANE} and stage = 2 order by until"
        soonest = math.inf
        for until, due in self._db.execute(sql, place):
            if until - now >= soonest:
                break
            if due is not NEVER:
                soonest = min(soonest, max(0.0, until - now, due - wall))
        if soonest < math.inf:
            yield soonest

    def _free(
        self, place: tuple[int, str, str], wall: float, limit: int, waits: list[float]
    ) -> list[_Kept]:
        """Return what is free and due, at most `limit`; add to `waits` when the others are due.

        One probe for each priority that occurs: what is due later is never walked through.
        """
        ready: list[_Kept] = []
        above = math.inf
        while len(ready) < limit:
            level = self._db.execute(
                f"select priority, due from heads where {_LANE} and stage = 1 and priority < ?"
                " order by priority desc, due limit 1",
                (*place, above),
            ).fetchone()
            if level is None:
                break
            above, due = level
            if due <= wall:
                rows = self._db.execute(
                    f"select {HEAD} from heads where {_LANE} and stage = 1 and priority = ?"
                    " and due <= ? order by due, key limit ?",
                    (*place, above, wall, limit - len(ready)),
                ).fetchall()
                ready += [_Kept(to_head(row), row) for row in rows]
                [due] = self._db.execute(
                    f"select min(due) from heads where {_LANE} and stage = 1 and priority = ?"
                    " and due > ?",
                    (*place, above, wall),
                ).fetchone()
            if due is not None:
                waits.append(due - wall)
        return ready


@cache
def _update(columns: tuple[int, ...]) -> str:
    """Return the statement that writes some columns of a head."""
    return f"update heads set {', '.join(f'{COLUMNS[n]} = ?' for n in columns)} where id = ?"
