"""The agent's report, in Markdown.

The one rule that must not be broken: it follows from what the steps found, and from nothing else,
so that the same findings give the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from outlast.cli.demo.analysis import (
    HIGH_COMPLEXITY,
    RELATIVE,
    Outline,
    Review,
    Tally,
)
from outlast.cli.demo.sources import shown

TOP: Final = 20
"""How many places a ranking has."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """What was found in one file."""

    file: str
    outline: Outline
    review: Review
    imports: tuple[Tally, ...]

    def finding(self) -> dict[str, Any]:
        """Return what is streamed about the file."""
        worst = self.review.complex[0] if self.review.complex else None
        return {
            "file": self.file,
            "lines": self.outline.lines,
            "functions": len(self.outline.functions),
            "undocumented": len(self.review.undocumented),
            "complex": len(self.review.complex),
            "worst": f"{worst.name} ({worst.complexity})" if worst else None,
            "problem": self.outline.problem,
        }


def render(
    root: str,
    skipped: Sequence[tuple[str, str]],
    folders: Sequence[Tally],
    chapters: Sequence[Chapter],
    ranking: Sequence[Tally],
    *,
    approved: bool,
) -> str:
    """Return the report.

    Args:
        root: the directory that was read.
        skipped: directories that could not be listed, with the reason.
        folders: how many files each directory has.
        chapters: what was found in each file.
        ranking: how often each module is imported.
        approved: what the answer was when the agent asked.
    """
    parts = (
        [f"# Python files under {_code(shown(root))}"],
        _summary(chapters, approved=approved),
        _problems(skipped, chapters),
        _complex(chapters),
        _undocumented(chapters),
        _imports(ranking),
        _folders(folders),
        _files(chapters),
    )
    return "\n\n".join("\n".join(part) for part in map(list, parts)) + "\n"


def _summary(chapters: Sequence[Chapter], *, approved: bool) -> Iterator[str]:
    figures = [chapter.finding() for chapter in chapters]
    rows = [
        ("files", len(chapters)),
        ("of these with a problem", sum(figure["problem"] is not None for figure in figures)),
        ("bytes", sum(chapter.outline.bytes for chapter in chapters)),
        ("lines", sum(figure["lines"] for figure in figures)),
        ("functions", sum(figure["functions"] for figure in figures)),
        ("of these without a docstring", sum(figure["undocumented"] for figure in figures)),
        (f"of these more complex than {HIGH_COMPLEXITY}", sum(f["complex"] for f in figures)),
    ]
    yield f"Publication was {'approved' if approved else 'not approved'}.\n"
    yield from _table(("what", "how many"), ((name, f"{count:,}") for name, count in rows))


def _problems(skipped: Sequence[tuple[str, str]], chapters: Sequence[Chapter]) -> Iterator[str]:
    yield "## What could not be read\n"
    lines = [f"* {_code(shown(folder))}: {_text(reason)}" for folder, reason in skipped]
    lines += [
        f"* {_code(shown(chapter.file))}: {_text(chapter.outline.problem)}"
        for chapter in chapters
        if chapter.outline.problem is not None
    ]
    yield from lines or ["Nothing."]


def _complex(chapters: Sequence[Chapter]) -> Iterator[str]:
    yield "## The most complex functions\n"
    found = [(item, chapter.file) for chapter in chapters for item in chapter.review.complex]
    found.sort(key=lambda pair: -pair[0].complexity)
    rows = (
        (_code(item.name), f"{_code(shown(file))}, line {item.line}", str(item.complexity))
        for item, file in found[:TOP]
    )
    yield from _table(("function", "where", "complexity"), rows)


def _undocumented(chapters: Sequence[Chapter]) -> Iterator[str]:
    yield "## The most functions without a docstring\n"
    found = [chapter for chapter in chapters if chapter.review.undocumented]
    found.sort(key=lambda chapter: -len(chapter.review.undocumented))
    rows = (
        (
            _code(shown(chapter.file)),
            f"{len(chapter.review.undocumented)} of {len(chapter.outline.functions)}",
            _code(chapter.review.undocumented[0].name),
        )
        for chapter in found[:TOP]
    )
    yield from _table(("file", "functions", "the first"), rows)


def _imports(ranking: Sequence[Tally]) -> Iterator[str]:
    yield "## The most imported modules\n"
    rows = (
        ("its own package" if tally.name == RELATIVE else _code(tally.name), str(tally.count))
        for tally in ranking[:TOP]
    )
    yield from _table(("module", "imports"), rows)


def _folders(folders: Sequence[Tally]) -> Iterator[str]:
    yield "## The directories with the most files\n"
    rows = ((_code(shown(tally.name)), str(tally.count)) for tally in folders[:TOP])
    yield from _table(("directory", "files"), rows)


def _files(chapters: Sequence[Chapter]) -> Iterator[str]:
    yield "## Every file\n"
    rows = (
        (
            _code(shown(chapter.file)),
            f"{chapter.outline.lines:,}",
            str(len(chapter.outline.functions)),
            str(len(chapter.review.undocumented)),
            str(max((item.complexity for item in chapter.outline.functions), default=0)),
            _text(chapter.outline.problem or ""),
        )
        for chapter in chapters
    )
    header = ("file", "lines", "functions", "undocumented", "highest complexity", "problem")
    yield from _table(header, rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'|'.join('---' for _ in header)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _code(text: str) -> str:
    """Return the text as code, also where it has backticks, and inside a table."""
    fence = "`"
    while fence in text:
        fence += "`"
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text}{padding}{fence}".replace("|", "\\|")


def _text(text: str) -> str:
    """Return the text so that Markdown finds nothing to interpret in it."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#&" else c for c in text)
