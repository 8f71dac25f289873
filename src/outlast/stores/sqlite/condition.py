"""The condition of an open file: whether it is still there, and still what was written.

The one rule that must not be broken: once anybody in this process has seen that the file is gone or
damaged, nothing is written any more, until it is opened again. What it still holds can be read.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from outlast.errors import Unavailable
from outlast.stores.sqlite.failures import damaged, in_our_words
from outlast.stores.sqlite.place import Identity, identity, uri
from outlast.stores.sqlite.schema import APPLICATION_ID

if TYPE_CHECKING:
    from pathlib import Path

_LOG: Final = ("-wal", "-shm")
"""What SQLite keeps beside a file while it is open: lost, what was written last may be lost."""


class Condition:
    """What is known of a file that is open, by all threads of the process that use it."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._expected = {str(path): identity}
        self._is_made = False  # and has its first page
        self._complaint: Unavailable | None = None
        self._size = 0  # at the last look
        self._sequence = 0
        self._is_short = False

    def remember_log(self) -> None:
        """Take note of the log, which is there as long as a connection is open."""
        for suffix in _LOG:
            path = self._path.with_name(f"{self._path.name}{suffix}")
            self._expected[str(path)] = identity(path)
        self._is_made = True

    def check(self) -> None:
        """Refuse to go on with what is not at its path any more: nobody sees what is written.

        Raises:
            Unavailable: the file, or its log, was deleted, moved, or replaced; or emptied.
        """
        for path, expected in self._expected.items():
            try:
                found = os.stat(path)  # noqa: PTH116 - at every read and write
            except (FileNotFoundError, NotADirectoryError):
                found = None
            except OSError as error:
                raise Unavailable(f"the file '{path}' cannot be reached: {error}") from error
            if found is None or (found.st_dev, found.st_ino) != expected:
                raise Unavailable(
                    f"the file '{path}' was deleted or replaced while it was open, and nothing is"
                    " written any more: end all that use it, put back what belongs there, and open"
                    " it again",
                    is_final=True,
                )
            if not found.st_size and self._is_made and path == str(self._path):
                # Whoever connected to an empty file now would delete its log.
                raise damaged(path, "it was emptied")

    def check_writable(self) -> None:
        """Refuse to write to what is gone or damaged, or ever was since it was opened.

        Raises:
            Unavailable: says which.
        """
        self.check_complaint()
        self.check()

    def check_complaint(self) -> None:
        """Refuse to write to what is known to be gone or damaged, without a look.

        Raises:
            Unavailable: says which.
        """
        known = self._complaint
        if known is not None:  # a new one: each place where one is raised adds to it
            raise Unavailable(str(known), is_final=True) from known.__cause__

    def note(self, error: Exception) -> Exception:
        """Return the error in our words; one that is final is kept in mind."""
        told = in_our_words(error, str(self._path))
        if isinstance(told, Unavailable) and told.is_final and self._complaint is None:
            self._complaint = told
        return told

    # For the thread that looks out.

    def look(self) -> str | None:
        """Return what is wrong with the file, as far as a look at its beginning tells."""
        try:
            self.check_writable()
            if found := self._damage_at_first_sight():
                raise damaged(str(self._path), found)
        except Unavailable as error:
            return str(self.note(error))
        return None

    def _damage_at_first_sight(self) -> str | None:
        """Look at the file itself, past the log and whatever a connection remembers of it.

        What others write there, in the middle of a checkpoint, is no damage.
        """
        size = self._path.stat().st_size
        # `immutable`: no lock, and no log. A descriptor of our own would, when it is closed, take
        # SQLite's locks with it.
        with closing(sqlite3.connect(uri(self._path, "immutable=1&mode=ro"), uri=True)) as db:
            try:
                db.execute("pragma writable_schema = on")  # it may be shorter than it says
                [application] = db.execute("pragma application_id").fetchone()
            except sqlite3.DatabaseError as error:
                return f"its beginning was overwritten ({error})"
            if application != APPLICATION_ID:
                return "its beginning was overwritten"
            if self._has_gone_back(db):
                return "its content was replaced by an older one"
        was_short, self._is_short = self._is_short, size < self._size and self._misses_pages()
        if self._is_short:
            # In mid-checkpoint it misses some, too, but not twice without having grown.
            return f"it was cut to {size} bytes" if was_short else None
        self._size = size
        return None

    def _has_gone_back(self, db: sqlite3.Connection) -> bool:
        """Say whether fewer writes have been made than there had been before."""
        try:
            [sequence] = db.execute("select sequence from state").fetchone()
        except (sqlite3.Error, TypeError):  # the page is still in the log
            return False
        before, self._sequence = self._sequence, max(sequence, self._sequence)
        return bool(sequence < before)

    def _misses_pages(self) -> bool:
        """Say whether the file is shorter than its own beginning says."""
        with closing(sqlite3.connect(uri(self._path, "immutable=1&mode=ro"), uri=True)) as db:
            try:
                db.execute("pragma application_id").fetchone()
            except sqlite3.DatabaseError:
                return True
        return False
