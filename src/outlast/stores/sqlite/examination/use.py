"""Checks of who uses a file, and of what nobody does with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from outlast.stores.sqlite.examination.findings import Finding, moment
from outlast.stores.sqlite.processes import is_stopped, owners, writer_in_turn, writer_of
from outlast.stores.sqlite.schema import FREE, HELD

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from outlast.store import Clock

OVERDUE_SECONDS: Final = 60.0
"""After which a worker would have taken what is due."""

LONG_WRITE_SECONDS: Final = 1.0
"""Longer than one of our writes takes."""


def _locks(path: Path) -> Path:
    return path.with_name(f"{path.name}-locks")


def check_clock(db: sqlite3.Connection, clock: Clock) -> Iterator[Finding]:
    """Say whether something was written later than now."""
    [latest] = db.execute("select max(updated_at) from heads").fetchone()
    ahead = (latest or 0.0) - clock.wall()
    if ahead > OVERDUE_SECONDS:
        yield Finding(
            "clock",
            "warning",
            f"the last write says {moment(latest)}, {ahead:.0f} s after now: the clock was set"
            " back",
            "set the clock right; until then what is to begin at a time begins late",
            {"seconds": ahead},
        )
    else:
        yield Finding("clock", "ok", "no write is of the future")


def check_writing(path: Path) -> Iterator[Finding]:
    """Say who writes, if it takes too long for a write."""
    end = time.monotonic() + LONG_WRITE_SECONDS
    writer = _writer(path)
    while writer is not None and not is_stopped(writer) and time.monotonic() < end:
        time.sleep(LONG_WRITE_SECONDS / 50)
        if _writer(path) != writer:
            writer = None
    if writer is None:
        yield Finding("writing", "ok", "nobody keeps others from writing")
    elif is_stopped(writer):
        yield Finding(
            "writing",
            "error",
            f"process {writer} stands still in the middle of a write: nobody else can write",
            f"let it go on (`kill -CONT {writer}`), or end it (`kill -KILL {writer}`)",
            {"pid": writer},
        )
    else:
        yield Finding(
            "writing",
            "error",
            f"process {writer} has locked the file for longer than a write takes",
            "end that program's transaction, or the process if it hangs",
            {"pid": writer},
        )


def _writer(path: Path) -> int | None:
    return writer_of(path) or writer_in_turn(_locks(path))


def check_leases(db: sqlite3.Connection, path: Path, clock: Clock) -> Iterator[Finding]:
    """Say who holds leases, and whether they live."""
    [boot] = db.execute("select boot from state").fetchone()
    now = clock.boot()
    held: dict[str, tuple[int, float]] = {}
    if boot == clock.boot_id():
        rows = db.execute(
            "select owner, count(*), max(until) from heads where stage = ? and until > ?"
            " group by owner",
            (HELD, now),
        )
        held = {owner: (count, until - now) for owner, count, until in rows}
    signs = owners(_locks(path) / "owners")
    wrong = list(_bad_leases(held, signs))
    yield from wrong
    living = [pid for pid in signs.values() if pid is not None]
    if not wrong:
        count = sum(count for count, _ in held.values())
        yield Finding(
            "leases",
            "ok",
            f"{len(living)} workers live, and hold {count} runs",
            values={"workers": sorted(living), "held": count},
        )


def _bad_leases(
    held: Mapping[str, tuple[int, float]], signs: Mapping[str, int | None]
) -> Iterator[Finding]:
    for owner, pid in signs.items():
        count, _ = held.get(owner, (0, 0.0))
        values = {"owner": owner, "pid": pid, "held": count}
        if pid is not None and is_stopped(pid):
            yield Finding(
                "leases",
                "error",
                f"process {pid}, which holds {count} runs, stands still",
                f"let it go on (`kill -CONT {pid}`), or end it (`kill -KILL {pid}`): others"
                " then take over",
                values,
            )
        elif pid is None and count:
            yield Finding(
                "leases",
                "warning",
                f"a worker has died that holds {count} runs, and nobody has noticed",
                "start a worker: it takes over at once",
                values,
            )
    for owner, (count, seconds) in held.items():
        if owner not in signs:
            yield Finding(
                "leases",
                "warning",
                f"nothing tells whether the worker lives that holds {count} runs: somebody has"
                " removed its lock file",
                f"wait: its leases end within {seconds:.0f} s unless it renews them",
                {"owner": owner, "pid": None, "held": count},
            )


def check_overdue(db: sqlite3.Connection, clock: Clock) -> Iterator[Finding]:
    """Say what nobody takes."""
    wall, now = clock.wall(), clock.boot()
    [boot] = db.execute("select boot from state").fetchone()
    rows = db.execute(
        "select queue, name, count(*), min(due) from heads"
        " where due <= ? and (stage = ? or stage = ? and (until <= ? or ?))"
        " group by namespace, queue, name order by min(due)",
        (wall - OVERDUE_SECONDS, FREE, HELD, now, boot != clock.boot_id()),
    ).fetchall()
    for queue, name, count, due in rows:
        yield Finding(
            "overdue",
            "warning",
            f"{count} runs of the task {name!r} in the queue {queue!r} are due, the first since"
            f" {moment(due)}, and no worker takes them",
            f"start a worker whose module declares {name!r} and whose queues have {queue!r}, or"
            " give it more `concurrency`",
            {"queue": queue, "name": name, "count": count, "due": due},
        )
    if not rows:
        yield Finding("overdue", "ok", "nothing is overdue")
