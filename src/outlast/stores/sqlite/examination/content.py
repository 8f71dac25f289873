"""Checks of what is in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from outlast.journal import SNAPSHOT
from outlast.stores.sqlite.examination.findings import Finding
from outlast.stores.sqlite.schema import FORMAT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

MAX_NAMED: Final = 5
"""Journals that one finding names."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What entries mean, which a store does not know: in journals of a kind, facts and ends."""

    kind: str = ""
    facts: Sequence[str] = ()
    ends: Sequence[str] = ()


def check_format(version: int) -> Finding:
    """Say whether this version of outlast reads it."""
    if version > FORMAT:
        return Finding(
            "format",
            "error",
            f"it has format {version}, and this version of outlast knows up to {FORMAT}",
            "install the version of outlast that wrote it, or a newer one",
            {"format": version},
        )
    if version < FORMAT:
        return Finding(
            "format",
            "warning",
            f"it has format {version}, and {FORMAT} is that of today",
            "open it with this version of outlast, which brings it up to date",
            {"format": version},
        )
    return Finding("format", "ok", f"it has format {version}", values={"format": version})


def check_integrity(db: sqlite3.Connection, *, is_full: bool) -> Iterator[Finding]:
    """Have SQLite look through its pages."""
    pragma = "integrity_check" if is_full else "quick_check"
    rows = db.execute(f"pragma {pragma}({MAX_NAMED})").fetchall()
    lines = [line for (text,) in rows for line in text.splitlines()]
    wrong = [line for line in lines if line != "ok" and not line.startswith("***")]
    if wrong:
        yield Finding(
            "integrity",
            "error",
            f"the file is damaged: {'; '.join(wrong)}",
            "end all that use it, and restore a backup; without one, rescue what is left with"
            " `sqlite3 FILE 'pragma writable_schema = on' .dump`",
            {"damage": wrong},
        )
    else:
        yield Finding("integrity", "ok", "its pages are sound")


def check_journals(db: sqlite3.Connection, meaning: Meaning) -> Iterator[Finding]:
    """Check that heads are the sum of their entries."""
    facts, ends = (
        ", ".join(f"'{type}'" for type in types) or "''" for types in (meaning.facts, meaning.ends)
    )
    sql = f"""
        select key, kind, first, heads.revision, facts, since, closed, sums.*
        from heads left join (
          select journal, min(revision), max(revision), count(*), sum(type in ({facts})),
            max(case when type = '{SNAPSHOT}' then revision else 0 end), sum(type in ({ends}))
          from entries group by journal
        ) as sums on sums.journal = heads.id
    """
    wrong: list[str] = []
    count = 0
    for row in db.execute(sql):
        count += 1
        wrong += [f"{row[0]!r}: {what}" for what in _contradictions(row, meaning.kind)]
    [strays] = db.execute(
        "select count(distinct journal) from entries where journal not in"
        " (select id from heads union all select journal from deleted)"
    ).fetchone()
    if strays:
        wrong.append(f"entries of {strays} journals have no head")
    if wrong:
        more = f", and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        yield Finding(
            "journals",
            "error",
            f"heads do not match their entries: {'; '.join(wrong[:MAX_NAMED])}{more}",
            "somebody else has written to the tables, or the file is damaged: restore a backup",
            {"wrong": wrong},
        )
    else:
        yield Finding(
            "journals", "ok", f"the heads of {count} journals match", values={"count": count}
        )


def _contradictions(row: Sequence[Any], kind_of_runs: str) -> Iterator[str]:
    """Say in what a head is not the sum of its entries."""
    _, kind, first, revision, facts, since, closed, journal, low, high, count, *sums = row
    if journal is None:
        yield "it has no entries"
        return
    fact_count, snapshot, ends = sums
    if (low, high, count) != (first, revision, revision - first + 1):
        yield (
            f"its entries are {count} from {low} to {high}, and its head says {first} to {revision}"
        )
    if since != snapshot:
        yield f"its newest snapshot is {snapshot}, and its head says {since}"
    if kind == kind_of_runs:
        if facts != fact_count:
            yield f"it has {fact_count} facts, and its head says {facts}"
        if bool(closed) != bool(ends):
            yield f"it has {'ended' if ends else 'not ended'}, and its head says otherwise"
