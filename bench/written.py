"""The rows that outlast has written, for the limit to write them once more."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from bench.rounds import Measure, measured


class WrittenEntry(NamedTuple):
    """An entry: what the limit has to know of it, and its row as it stands in the table."""

    revision: int
    at: float
    change: str
    row: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class WrittenRun:
    """A run that has ended: its head's last row, and the entries of each of its changes."""

    head: dict[str, Any]
    changes: Sequence[Sequence[WrittenEntry]]

    @property
    def fence(self) -> str:
        """The random id of its fence, under which its changes are numbered."""
        return self.changes[-1][0].change.partition(".")[0]


def sample(
    ours: Measure, raw_of: Callable[[Sequence[WrittenRun]], Measure], within: Path
) -> list[WrittenRun]:
    """Return the runs that ours writes, once it is seen that the limit writes the same rows."""
    with tempfile.TemporaryDirectory(dir=within) as directory:
        files = Path(directory) / "ours.db", Path(directory) / "raw.db"
        measured(ours, files[0])
        runs = written_runs(files[0])
        measured(raw_of(runs), files[1])
        _assert_same_rows(*files)
    return runs


def written_runs(file: Path, limit: int = -1) -> list[WrittenRun]:
    """Return the first runs in the file, or all, in the order in which they were made."""
    with closing(sqlite3.connect(file)) as db:
        db.row_factory = sqlite3.Row
        rows = db.execute("select * from heads order by id limit ?", (limit,))
        heads = [dict(row) for row in rows]
        return [WrittenRun(head, _changes(db, head["id"])) for head in heads]


def _changes(db: sqlite3.Connection, journal: int) -> list[list[WrittenEntry]]:
    rows = db.execute("select * from entries where journal = ? order by revision", (journal,))
    entries = (WrittenEntry(row["revision"], row["at"], row["change"], tuple(row)) for row in rows)
    return [list(group) for _, group in groupby(entries, attrgetter("change"))]


def _assert_same_rows(ours: Path, raw: Path) -> None:
    with closing(sqlite3.connect(ours)) as db:
        db.execute("attach ? as raw", (str(raw),))
        for table in ("heads", "entries"):
            for here, there in (("main", "raw"), ("raw", "main")):
                one, other = f"select * from {here}.{table}", f"select * from {there}.{table}"
                row = db.execute(f"{one} except {other}").fetchone()
                assert row is None, f"{there} lacks in {table}: {row}"
