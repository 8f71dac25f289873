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
    """Yield the rows with their columns below each other; figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for label, *cells, targets in rows:
        figures = "  ".join(
            f"{cell:>{width}}" for cell, width in zip(cells, widths[1:-1], strict=True)
        )
        yield f"{label:{widths[0]}}  {figures}  {targets}".rstrip()


def markdown(table: Table) -> str:
    """Return the table for a page."""
    heading, *rows = table.lines()
    written = [f"| {' | '.join(cell or ' ' for cell in row)} |" for row in (heading, *rows)]
    rule = "|---" + "|--:" * (len(heading) - 2) + "|---|"
    return "\n".join([written[0], rule, *written[1:]])
