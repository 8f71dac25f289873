"""Which files the agent reads, and how their paths are written down.

A path is bytes, and a journal holds text, so a path is written as in a URL: `%` and two digits
stand for a byte that is no plain character. The one rule that must not be broken: whatever lies
under the path, what is here gives an answer in bounded time, and says in a line what it could not
read.
"""

import os
import stat
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

MAX_FILES: Final = 16_000
"""More than these are refused: with three checkpoints for each, one turn has no room for them."""

MAX_BYTES: Final = 2 * 1024 * 1024
"""A larger file is not read: it was most likely written by a program."""

DEFAULT_PACKAGES: Final = ("idlelib", "encodings")
"""Packages of the standard library: the first is the better read, the second is always there."""

MIN_DEFAULT_FILES: Final = 40

SUFFIX: Final = ".py"

_PLAIN: Final = "/-._~ !@#$&'()+,=[]{}^;"


class UnusablePath(Exception):
    """There is nothing to read under the path; the message says why."""


class Unreadable(Exception):
    """A file has no content for us; the message says why."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The Python files under `root`, in order.

    Attributes:
        root: a directory, as it was given, or the directory of the only file.
        files: paths below it.
        skipped: directories below it that could not be listed, with the reason.
    """

    root: str
    files: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def written(path: Path | str) -> str:
    """Return the path as it stands in journal and ledger."""
    return quote_from_bytes(os.fsencode(path), safe=_PLAIN)


def located(text: str) -> Path:
    """Return the path that is written as `text`."""
    return Path(os.fsdecode(unquote_to_bytes(text)))


def shown(text: str) -> str:
    """Return a written path for people: one line, and no surrogates."""
    readable = unquote_to_bytes(text).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in readable)


def default_path() -> Path:
    """Return a package of this interpreter's standard library.

    Raises:
        UnusablePath: there is none with enough files, say because the library is in an archive.
    """
    library = Path(sysconfig.get_path("stdlib"))
    for name in DEFAULT_PACKAGES:
        if sum(1 for _ in (library / name).rglob("*.py")) >= MIN_DEFAULT_FILES:
            return library / name
    raise UnusablePath(
        f"the standard library in {str(library)!r} has no package to read: name a PATH"
    )


def find_sources(path: Path) -> Sources:
    """Return the Python files under the path, which may be one itself.

    Links to directories are not followed, so that no file is met twice, and no walk is without end.

    Raises:
        UnusablePath: it does not exist, or holds no Python file, or too many.
    """
    name = shown(written(path))
    try:
        top = path.absolute()
        is_folder = stat.S_ISDIR(top.stat().st_mode)
    except (OSError, ValueError) as error:
        raise UnusablePath(f"{name}: {_reason(error)}") from error
    if not is_folder:
        if top.suffix != SUFFIX:
            raise UnusablePath(f"{name} is neither a directory nor a Python file")
        return Sources(written(top.parent), (written(top.name),))
    skipped: list[tuple[str, str]] = []
    found = list(islice(_walk(top, skipped), MAX_FILES + 1))
    if not found:
        raise UnusablePath(f"there is no Python file under {name}")
    if len(found) > MAX_FILES:
        raise UnusablePath(f"there are more than {MAX_FILES:,} Python files under {name}")
    return Sources(written(top), tuple(sorted(found)), tuple(sorted(skipped)))


def read_source(root: str, file: str) -> bytes:
    """Return what the file holds.

    Raises:
        Unreadable: it is gone, forbidden, not a plain file, or larger than `MAX_BYTES`.
    """
    path = located(root) / located(file)
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise Unreadable("not a plain file")
            source = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Unreadable(_reason(error)) from error
    if len(source) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES // 1024:,} KiB")
    return source


def _open_without_waiting(path: str, flags: int) -> int:
    # A pipe that nobody writes to would hold us up: it is opened, and then told apart.
    return os.open(path, flags | os.O_NONBLOCK)


def _walk(top: Path, skipped: list[tuple[str, str]]) -> Iterator[str]:
    def skip(error: OSError) -> None:
        folder = Path(error.filename or top).relative_to(top)
        skipped.append((written(folder), _reason(error)))

    for folder, _, names in os.walk(top, onerror=skip):
        below = Path(folder).relative_to(top)
        yield from (written(below / name) for name in names if name.endswith(SUFFIX))


def _reason(error: OSError | ValueError) -> str:
    """Say why, in words that name no path: it is shown beside them."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
