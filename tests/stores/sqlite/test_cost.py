"""What a call costs does not grow with what is stored: counted in steps of SQLite's machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outlast.journal import SNAPSHOT, Change, Draft, Head
from outlast.store import Lane, Query
from outlast.stores.sqlite.ledger import MAX_REMOVED, Ledger
from outlast.stores.sqlite.pages import MAX_SCANNED, Extent, read_journal, scan_heads
from outlast.stores.sqlite.schema import FREE, HELD, RESTING, prepare
from outlast.stores.sqlite.watcher import _CHANGED
from outlast.testing import FakeClock
from outlast.testing.contract.drafting import held
from tests.stores.sqlite.process import LANE, create, fact

MANY = 20_000


class File:
    """A file, its ledger, and a store's scope of it, in one thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db, self.clock, self.ledger = db, FakeClock(), Ledger(db)
        self.namespace = self.write(lambda ledger: ledger.namespace("default"))

    def announce(self, owner: str) -> None:
        pass

    def write(self, work: Callable[[Ledger], Any]) -> Any:
        """Do the work in a transaction of its own."""
        self.ledger.begin()
        answer = work(self.ledger)
        self.ledger.commit()
        return answer

    def commit(self, *changes: Change) -> list[Head]:
        heads: list[Head] = self.write(lambda ledger: ledger.write(self, changes))
        return heads

    def claim(self, *lanes: Lane, limit: int = 3) -> list[Head]:
        claimed = self.write(
            lambda ledger: ledger.claim(self, lanes, owner="me", ttl=15.0, limit=limit, id="f")
        )
        return list(claimed.heads)

    def read(self, key: str, **extent: Any) -> list[int]:
        asked = {"after": 0, "limit": None, "last": None, "types": None} | extent
        reading = read_journal(self.db, self, key, Extent(**asked))
        return [entry.revision for entry in reading.entries]

    def scan(self, query: Query, limit: int = 50) -> list[Head]:
        return list(scan_heads(self.db, self, query, limit, None).heads)

    def steps(self, deed: Callable[[], Any]) -> int:
        """Return how many steps SQLite's machine takes."""
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        self.db.set_progress_handler(count, 1)
        try:
            deed()
        finally:
            self.db.set_progress_handler(None, 0)
        return steps

    def fill(self, number: int, stage: int, due: float | None, **card: Any) -> None:
        """Make so many journals without asking anybody."""
        held = stage == HELD
        [first] = self.db.execute("select sequence from state").fetchone()
        row = {
            "status": "completed", "priority": 0, "due": due, "stage": stage,
            "owner": "w" if held else None, "fence": "f" if held else None,
            "until": self.clock.boot() + 1e6 if held else None,
            "first": first, "number": number,
        } | card  # fmt: skip
        self.db.execute(
            """
            with recursive ids (id) as (
              select :first + 1 union all select id + 1 from ids where id < :first + :number
            )
            insert into heads
            select id, 1, 'filler/' || id, 1, 1, 0, 0, 0, 'run', 'name', '', :status, 'queue',
              :due + id, :priority, '{}', '', '', 1, :owner, :fence, :until, :stage, 1.0, 1.0, id
            from ids
            """,
            row,
        )
        self.db.execute("update state set sequence = sequence + ?", (number,))
        self.ledger.rollback()


@pytest.fixture
def file(path: Path) -> Iterator[File]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma synchronous = off")
        prepare(db, str(path))
        yield File(db)


def entries(number: int, type: str) -> tuple[Draft, ...]:
    return tuple(Draft(type, "1") for _ in range(number))


def append(key: str, *drafts: Draft, id: str) -> Change:
    return Change(key=key, id=id, entries=drafts)


def test_an_append_costs_the_same_however_long_the_journal(file: File) -> None:
    steps: list[int] = []
    for key, number in (("short", 1), ("long", MANY)):
        file.commit(replace(create(key), entries=entries(number, "said")))
        file.commit(fact(key, "first"))

        steps.append(file.steps(lambda key=key: file.commit(fact(key, "second"))))  # type: ignore[misc]

    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    ("stage", "due", "status"),
    [
        (RESTING, None, "completed"),
        (FREE, 1e12, "pending"),
        (HELD, 0.0, "running"),
    ],
)
def test_a_claim_and_an_append_cost_the_same_however_many_others_there_are(
    file: File, stage: int, due: float | None, status: str
) -> None:
    steps: list[tuple[int, int]] = []
    for others in ("few", "many"):
        file.commit(*(create(f"{others}-{number}") for number in range(8)))
        file.claim(LANE)  # another time before, so that both find leases of their own

        claim = file.steps(lambda: file.claim(LANE))
        commit = file.steps(lambda: file.commit(fact(f"{others}-0", "x")))  # noqa: B023

        steps.append((claim, commit))
        file.claim(LANE, limit=99)
        file.fill(MANY, stage, due, status=status)

    assert steps[1][0] <= steps[0][0] * 1.1
    assert steps[1][1] == steps[0][1]


def test_a_claim_looks_once_at_each_priority(file: File) -> None:
    for priority in range(10):
        file.fill(500, FREE, 1e12, priority=priority)
    file.commit(create("k"))

    few = file.steps(lambda: file.claim(LANE))
    for priority in range(10):
        file.fill(500, FREE, 1e12, priority=priority)
    file.commit(create("other"))
    many = file.steps(lambda: file.claim(LANE))

    assert many <= few * 1.1


def test_reading_some_types_costs_what_it_returns(file: File) -> None:
    file.commit(replace(create("short"), entries=entries(10, "step") + entries(10, "note")))
    noise = entries(500, "item")
    file.commit(replace(create("long"), entries=entries(5, "step") + entries(5, "note")))
    for number in range(20):
        file.commit(append("long", *noise, id=f"noise {number}"))
    file.commit(append("long", *entries(5, "step"), *entries(5, "note"), id="end"))
    wanted = ["step", "note"]

    few = file.steps(lambda: file.read("short", types=wanted))
    many = file.steps(lambda: file.read("long", types=wanted))

    assert len(file.read("long", types=wanted)) == 20
    assert many <= few * 1.1
    for extent in ({"limit": 3}, {"last": 3}, {"limit": 3, "after": 4}, {"after": 10_010}):
        assert file.steps(lambda: file.read("long", types=wanted, **extent)) <= few  # noqa: B023


def test_reading_a_page_costs_what_it_returns(file: File) -> None:
    file.commit(replace(create("k"), entries=entries(MANY, "item")))
    file.commit(append("k", Draft(SNAPSHOT, "1"), *entries(3, "step"), id="end"))

    steps = [
        file.steps(lambda: file.read("k", **extent))  # noqa: B023
        for extent in (
            {"limit": 4},
            {"after": MANY // 2, "limit": 4},
            {"after": MANY},
            {"after": None},
            {"last": 4},
            {"types": ["item"], "limit": 4},
            {"types": ["item", "step"], "limit": 4, "after": MANY // 2},
            {"types": ["item", "step"], "last": 4},
        )
    ]

    assert max(steps) < 600


def test_a_page_of_heads_looks_at_a_bounded_number(file: File) -> None:
    file.fill(MANY, RESTING, None)
    for order in ("key", "created", "updated"):
        for narrow in (
            Query(kind="run", order=order, name="unknown"),
            Query(kind="run", order=order, session="unknown"),
            Query(kind="run", order=order, prefix="unknown"),
        ):
            assert file.steps(lambda: file.scan(narrow)) < MAX_SCANNED * 120  # noqa: B023


def test_heads_of_a_status_or_a_session_are_found_at_once(file: File) -> None:
    file.fill(MANY, RESTING, None)
    for number in range(3):
        made = create(f"k{number}")
        file.commit(replace(made, card={**made.card, "status": "running", "session": "s"}))
    for number in range(3):
        made = create(f"p{number}")
        file.commit(replace(made, card={**made.card, "status": "pending"}))
    file.fill(MANY, RESTING, None)

    for query, found in (
        (Query(kind="run", statuses=frozenset({"running"}), order="created"), 3),
        (Query(kind="run", statuses=frozenset({"running", "pending"}), order="created"), 6),
        (Query(kind="run", session="s", order="created", descending=True), 3),
        (Query(kind="run", session="s", statuses=frozenset({"running"}), order="created"), 3),
        (Query(kind="run", prefix="k"), 3),
    ):
        steps = file.steps(lambda: found == len(file.scan(query)))  # noqa: B023
        assert len(file.scan(query)) == found
        assert steps < 2_000


def test_what_changed_is_found_by_its_count(file: File) -> None:
    file.fill(MANY, RESTING, None)
    file.commit(create("k"), replace(create("s"), card={"kind": "session"}))
    changed: list[Any] = []

    steps = file.steps(
        lambda: changed.extend(
            file.db.execute(_CHANGED, {"namespace": file.namespace, "after": MANY, "most": 100})
        )
    )

    assert sorted(key for _, key, _, _ in changed) == ["k", "s"]
    assert steps < 500


def test_deleting_a_long_journal_removes_a_little_at_a_time(file: File) -> None:
    file.commit(replace(create("short"), entries=entries(3, "said")))
    file.commit(replace(create("long"), entries=entries(1_000, "said")))
    file.commit(replace(create("other"), entries=entries(5, "said")))

    def left() -> list[int]:
        counts = file.db.execute("select count(*) from entries group by journal")
        return [count for [count] in counts]

    file.write(lambda ledger: ledger.delete(file, "long", 1_000))
    after = left()
    file.write(lambda ledger: ledger.delete(file, "short", 3))
    rounds = 0
    while file.ledger.remains:
        file.write(lambda ledger: None)
        rounds += 1

    assert after == [3, 1_000 - MAX_REMOVED, 5]
    assert left() == [5]
    assert rounds >= 8
    assert file.db.execute("select * from deleted").fetchall() == []
    assert file.read("other") == [1, 2, 3, 4, 5]


def test_no_statement_walks_through_a_table(file: File) -> None:
    """Whatever is asked while everything is done once goes by an index, and sorts nothing."""
    statements: set[str] = set()
    file.db.set_trace_callback(statements.add)
    file.clock.reboot()
    [head] = file.claim(LANE) or file.commit(create("a"))
    file.commit(create("b"), fact("a", "x"))
    for head in file.claim(LANE, Lane("other", "name")):
        lease = held(head)
        file.write(lambda ledger: ledger.renew(file, [lease], 15.0))  # noqa: B023
    file.write(lambda ledger: ledger.has_leases("me"))
    file.write(lambda ledger: ledger.bury("me"))
    for extent in ({}, {"last": 2}, {"types": ["a", "b"]}, {"types": ["a"], "last": 2}):
        file.read("a", **extent)
    for query in (
        Query(kind="run"),
        Query(kind="run", prefix="a"),
        Query(kind="run", order="created", descending=True),
        Query(kind="run", order="updated", descending=True),
        Query(kind="run", order="created", statuses=frozenset({"x"})),
        Query(kind="run", order="created", statuses=frozenset({"x", "y"})),
        Query(kind="run", order="created", session="x"),
    ):
        file.scan(query)
    file.db.execute(_CHANGED, {"namespace": 1, "after": 0, "most": 10}).fetchall()
    file.write(lambda ledger: ledger.delete(file, "b", 1))
    file.db.set_trace_callback(None)

    plans = {
        statement: [row[3] for row in file.db.execute("explain query plan " + statement)]
        for statement in (text.replace(" Inf", " 9e999") for text in statements)
        if statement.lstrip().split()[0] in {"select", "update", "delete", "with", "insert"}
    }

    assert len(plans) > 30
    for statement, plan in plans.items():
        for line in plan:
            small = (
                "SCAN state",
                "SCAN deleted",
                "SCAN kinds",
                "SCAN (",
                "SCAN chosen",
                "SCAN CONSTANT",
            )
            walks = line.startswith("SCAN") and not line.startswith(small)
            by_held = "USING INDEX heads_held" in line  # those that are held now, once in a while
            assert not walks or by_held, (statement, plan)
            assert "TEMP B-TREE" not in line, (statement, plan)
