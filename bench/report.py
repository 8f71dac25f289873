"""The figures as aligned tables, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.tables import Figures, Table


def lines(figures: Figures) -> Iterator[str]:
    """Yield the report for a terminal."""
    yield machine(figures.machine)
    yield "medians of the rounds; a target is met or missed where three rounds in four say so"
    for table in figures.tables:
        yield ""
        yield from aligned(table.lines())
        yield from aligned(table.targets())


def machine(machine: dict[str, Any]) -> str:
    """Return one line on the machine."""
    others = "".join(f"{name} {machine[name]}, " for name in ("dbos",) if name in machine)
    return (
        f"{machine['date']}, outlast {machine['outlast']}, {others}Python {machine['python']}, "
        f"SQLite {machine['sqlite']}, {machine['processor']}, {machine['cores']} cores (load "
        f"{machine['load'][0]}), {machine['file_system']} with "
        f"{machine['fsync_ms']['overwritten']} ms an fsync"
    )


def aligned(rows: list[list[str]]) -> Iterator[str]:
    """Yield the rows with their columns below each other: labels to the left, figures right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        yield "  ".join([f"{first[0]:{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)])


def markdown(table: Table) -> str:
    """Return the table for a page, with what its targets say below."""
    parts = [_markdown(rows) for rows in (table.lines(), table.targets()) if rows]
    return "\n\n".join(parts)


def _markdown(rows: list[list[str]]) -> str:
    written = [f"| {' | '.join(cell or ' ' for cell in row)} |" for row in rows]
    return "\n".join([written[0], "|---" + "|--:" * (len(rows[0]) - 1) + "|", *written[1:]])
