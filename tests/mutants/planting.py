"""Planted defects: patches of the package, each made to be noticed.

A patch is a header in plain lines, as `git apply` allows it, and a unified diff:

    What the defect is, in a sentence.

    Breaks: 1, 3
    Noticed by: tests/test_journal.py::test_another_fence_is_refused
    Noticed in a soak by: tests/crash

`Breaks` names promises of `docs/guarantees.md`, by number. Each line that says who notices it names
a suite, in pytest's words, that notices it without the others; `make test` runs it, or only `make
soak`. A suite followed by `(hangs)` notices the defect because it does not end.

The one rule that must not be broken: what is removed, with the lines around it, stands in the file
exactly once, wherever that is. So a patch survives what changes elsewhere, and never lands where
nobody meant it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

MOST_LINES: Final = 10
"""Lines that a defect adds and removes: a larger one is not what a careless change would make."""

_DIFF: Final = re.compile(r"^(?:diff --git|--- )", re.MULTILINE)
_FIELD: Final = re.compile(r"^(Breaks|Noticed by|Noticed in a soak by): (.+)$", re.MULTILINE)
_FILE: Final = re.compile(r"^--- a/(\S+)\n\+\+\+ b/\1\n", re.MULTILINE)
_HUNK: Final = re.compile(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@.*\n", re.MULTILINE)
_HANGS: Final = " (hangs)"


class Unplantable(Exception):
    """A patch that is not one, or does not apply to the package as it is."""


@dataclass(frozen=True)
class Suite:
    """Tests that notice a defect.

    Attributes:
        tests: what pytest is told to run: node ids, files, directories.
        is_slow: whether it is left to `make soak`.
        hangs: whether it notices the defect because it does not end.
    """

    tests: tuple[str, ...]
    is_slow: bool = False
    hangs: bool = False

    def __str__(self) -> str:
        return " ".join(self.tests)


@dataclass(frozen=True)
class Hunk:
    """Lines of a file, and what the defect makes of them."""

    file: str
    sound: str
    broken: str


@dataclass(frozen=True)
class Defect:
    """One patch.

    Attributes:
        name: of its file.
        sentence: what the defect is.
        breaks: the numbers of the promises that do not hold with it.
        suites: who notices it, each without the others.
        lines: how many it adds and removes.
    """

    name: str
    sentence: str
    breaks: tuple[str, ...]
    suites: tuple[Suite, ...]
    hunks: tuple[Hunk, ...]
    lines: int

    def __str__(self) -> str:
        return self.name

    def plant(self, root: Path) -> None:
        """Make the defect in the tree whose root is given.

        Raises:
            Unplantable: the lines that it changes do not stand there exactly once.
        """
        for hunk in self.hunks:
            path = root / hunk.file
            text = "\n" + path.read_text() if path.exists() else ""
            count = text.count("\n" + hunk.sound)
            if count != 1:
                raise Unplantable(
                    f"{self.name} does not apply any more: these lines stand in {hunk.file} "
                    f"{count} times, not once; plant the defect anew, with lines around it that "
                    f"tell its place:\n{hunk.sound}"
                )
            text = text.replace("\n" + hunk.sound, "\n" + hunk.broken)
            path.write_text(text.removeprefix("\n"))
            # Changed within a second, and as long as before, it would pass for what was compiled.
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
                compiled.unlink()


def read_defect(path: Path) -> Defect:
    """Return the defect that a patch plants.

    Raises:
        Unplantable: the file is no such patch.
    """
    text = path.read_text()
    diff = _DIFF.search(text)
    head, body = (text[: diff.start()], text[diff.start() :]) if diff else (text, "")
    sentence = " ".join(head.partition("\n\n")[0].split())
    fields = _FIELD.findall(head)
    breaks = [part for name, value in fields if name == "Breaks" for part in value.split(", ")]
    suites = [_suite(name, value) for name, value in fields if name != "Breaks"]
    if not (sentence.endswith(".") and breaks and suites):
        raise Unplantable(f"{path.name} says what the defect is, what it breaks, who notices it")
    hunks = [hunk for file in _split(_FILE, body) for hunk in _hunks(path.name, *file)]
    if not hunks:
        raise Unplantable(f"{path.name} has no diff of a file: --- a/src/... +++ b/src/...")
    lines = len(re.findall(r"^[-+](?!(?:--|\+\+) )", body, re.MULTILINE))
    return Defect(path.name, sentence, tuple(breaks), tuple(suites), tuple(hunks), lines)


def _suite(field: str, value: str) -> Suite:
    return Suite(
        tuple(value.removesuffix(_HANGS).split()),
        is_slow=field == "Noticed in a soak by",
        hangs=value.endswith(_HANGS),
    )


def _split(mark: re.Pattern[str], text: str) -> list[tuple[re.Match[str], str]]:
    """Return every match, with the text from there to the next one."""
    found = list(mark.finditer(text))
    return [
        (match, text[match.end() : following.start() if following else None])
        for match, following in zip_longest(found, found[1:])
    ]


def _hunks(name: str, file: re.Match[str], text: str) -> list[Hunk]:
    hunks: list[Hunk] = []
    for head, body in _split(_HUNK, text):
        lines = [line for line in body.splitlines(keepends=True) if line[0] in " +-"]
        sound = [line[1:] for line in lines if line[0] != "+"]
        broken = [line[1:] for line in lines if line[0] != "-"]
        if [len(sound), len(broken)] != [int(count or 1) for count in head.groups()]:
            raise Unplantable(f"{name}: the lines of a hunk are not as many as {head[0].strip()}")
        hunks.append(Hunk(file[1], "".join(sound), "".join(broken)))
    return hunks
