"""What happens to files: real harm, done from outside, and a look at what is left of them.

What writes to a file does so in a process of its own: a descriptor that is closed here would take
SQLite's locks with it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

PAGE: Final = 4096

Harm = Callable[[Path], None]


def beside(path: Path, suffix: str) -> Path:
    """Return the path of what lies beside the file."""
    return path.with_name(f"{path.name}{suffix}")


def outside(program: str, *arguments: object) -> None:
    """Run a few lines of Python in another process."""
    said = [sys.executable, "-S", "-c", f"import os, shutil, sys\n{program}", *map(str, arguments)]
    subprocess.run(said, check=True)


def overwrite(path: Path, start: int, size: int) -> None:
    """Write garbage over a part of the file."""
    outside(
        "with open(sys.argv[1], 'r+b') as file:\n"
        "    file.seek(int(sys.argv[2]))\n"
        "    file.write(b'\\xa5' * int(sys.argv[3]))",
        *(path, start, size),
    )


def copy_over(source: Path, target: Path) -> None:
    """Copy as `cp` does: the target stays the same file, with other content."""
    outside("shutil.copyfile(sys.argv[1], sys.argv[2])", source, target)


def keep_backup(path: Path) -> None:
    """Keep a copy of a closed file, for `restored` and `replaced`."""
    shutil.copyfile(path, beside(path, ".backup"))


def deleted(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(beside(path, ".moved"))


def replaced(path: Path) -> None:
    """Put the backup in its place, as editors and `mv` do."""
    beside(path, ".backup").replace(path)


def restored(path: Path) -> None:
    """Copy the backup over it while it is in use, as nobody should."""
    copy_over(beside(path, ".backup"), path)


def overwritten_by_another(path: Path) -> None:
    """Copy a database of another application over it."""
    other = beside(path, ".other")
    with closing(sqlite3.connect(other)) as db:
        db.execute("create table theirs (a)")
        db.commit()
    copy_over(other, path)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    """Take away its second half."""
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)


def beheaded(path: Path) -> None:
    overwrite(path, 0, 100)


def entries_of(path: Path, key: str) -> Harm:
    """Return the harm that overwrites the pages that hold what made a journal; call it before."""
    content, made = path.read_bytes(), f"make {key}".encode()
    pages = [n for n in range(0, len(content), PAGE) if made in content[n : n + PAGE]]
    assert 0 not in pages

    def harm(path: Path) -> None:
        for page in pages:
            overwrite(path, page, PAGE)

    return harm


def without_log(path: Path) -> None:
    beside(path, "-wal").unlink()


def without_index_of_log(path: Path) -> None:
    beside(path, "-shm").unlink()


def journals(path: Path) -> dict[str, list[str]]:
    """Return the changes of each journal as the file holds them, and check that they are whole."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        found: dict[str, list[str]] = {}
        heads = db.execute("select id, key, first, revision from heads").fetchall()
        for id, key, first, revision in heads:
            sql = "select revision, change from entries where journal = ? order by revision"
            rows = db.execute(sql, (id,)).fetchall()
            assert [row[0] for row in rows] == list(range(first, revision + 1)), key
            found[key] = list(dict.fromkeys(row[1] for row in rows))
        [strays] = db.execute(
            "select count(*) from entries where journal not in (select id from heads)"
            " and journal not in (select journal from deleted)"
        ).fetchone()
        assert strays == 0
    return found
