"""What is kept of a measurement: a table of figures, and what they should be.

The one rule that must not be broken: what every round measured is kept, and medians are taken by
whoever shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median, quantiles
from typing import Any, Self

from pydantic import TypeAdapter

ENOUGH = 0.75
"""The share of rounds that says that a target is met; as many that it is not say so, too."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be.

    Attributes:
        says: which figure, in words.
        measured: what each round says of it.
        least, most: its limits.
    """

    says: str
    measured: list[float]
    least: float | None = None
    most: float | None = None

    @property
    def limit(self) -> str:
        """The limit as it is written."""
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"

    @property
    def verdict(self) -> str:
        """Whether the rounds agree that it is met."""
        share = mean(self._is_met(figure) for figure in self.measured)
        return "met" if share >= ENOUGH else "MISSED" if share <= 1 - ENOUGH else "unclear"

    def words(self) -> list[str]:
        """Return what it is about, the median and the spread of the rounds, limit and verdict."""
        spread = [number(min(self.measured)), number(max(self.measured))]
        return [self.says, shown(self.measured), *spread, self.limit, self.verdict]

    def _is_met(self, figure: float) -> bool:
        return (self.least is None or figure >= self.least) and (
            self.most is None or figure <= self.most
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what each round measured, by column."""

    label: str
    cells: dict[str, list[float]]
    targets: list[Target] = field(default_factory=list[Target])

    def ratios(self, column: str, to: str) -> list[float]:
        """Return the figures of a column by those of another, round by round."""
        return [a / b for a, b in zip(self.cells[column], self.cells[to], strict=True)]

    def ratio_is(
        self, column: str, to: str, *, least: float | None = None, most: float | None = None
    ) -> None:
        """Set a target for the ratio of two columns, if both were measured."""
        if column in self.cells and to in self.cells:
            self.targets.append(Target(f"{column} / {to}", self.ratios(column, to), least, most))


@dataclass(frozen=True, slots=True)
class Table:
    """One part of the benchmark."""

    name: str
    title: str
    columns: list[str]
    rows: list[Row]

    def lines(self) -> list[list[str]]:
        """Return the heading, and the label and figures of each row, as text."""
        return [[self.title, *self.columns], *(self._line(row) for row in self.rows)]

    def _line(self, row: Row) -> list[str]:
        cells = [shown(row.cells[name]) if name in row.cells else "" for name in self.columns]
        return [row.label, *cells]

    def targets(self) -> list[list[str]]:
        """Return a heading, and what is said of each target, as text; nothing where none is."""
        said = [[row.label, *target.words()] for row in self.rows for target in row.targets]
        return [["", "", "median", "from", "to", "target", ""], *said] if said else []


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured, and on what."""

    machine: dict[str, Any]
    tables: list[Table]

    def to_json(self) -> str:
        """Return all of it, round by round."""
        return _FIGURES.dump_json(self, indent=1, exclude_none=True).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` gave."""
        return _FIGURES.validate_json(text)  # type: ignore[return-value]


_FIGURES = TypeAdapter(Figures)


def percentiles(values: Sequence[float], names: Iterable[str]) -> dict[str, list[float]]:
    """Return those of the percentiles `p1` ... `p99`, `median`, `max` that are named, as cells."""
    cuts = quantiles(values, n=100, method="inclusive")
    known = {f"p{number}": cut for number, cut in enumerate(cuts, 1)}
    known |= {"max": max(values)}
    return {name: [known[name]] for name in names}


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def shown(rounds: Sequence[float]) -> str:
    """Return the median."""
    return number(median(rounds))
