"""The figures as two aligned tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import mean, median
from typing import Any, Final

from bench.figures import MAX_IMPORT_RATIO, MAX_P99_MS, MIN_STEPS_RATIO, Figures
from bench.processes import Latencies, Load
from bench.rounds import Comparison

_LABEL: Final = 30
_COLUMN: Final = 17


def lines(figures: Figures) -> Iterator[str]:
    """Yield the report."""
    yield _machine(figures.machine)
    yield f"medians of {figures.sizes.rounds} rounds; a ratio is the median of the rounds' own,"
    yield "and a target is met or missed where three rounds in four say so"
    yield ""
    yield _row("", "outlast", "raw", "ratio", "its spread", "target")
    yield _compared("sequential steps/s", figures.steps, least=MIN_STEPS_RATIO)
    yield _compared("one-step tasks/s, 1 at a time", figures.task)
    yield _compared("one-step tasks/s, 32 at a time", figures.tasks)
    yield _compared("import, ms", figures.imports, most=MAX_IMPORT_RATIO)
    yield ""
    yield _row("processes on one file", "commits/s", "p50 ms", "p99 ms", "max ms")
    for load in figures.loads:
        yield from _load(load)


def _machine(machine: dict[str, Any]) -> str:
    return (
        f"{machine['date']}, outlast {machine['outlast']}, Python {machine['python']}, SQLite "
        f"{machine['sqlite']}, {machine['cores']} cores (load {machine['load'][0]}), "
        f"{machine['file_system']} with {machine['fsync_ms']['overwritten']} ms an fsync"
    )


def _compared(
    label: str, comparison: Comparison, *, least: float | None = None, most: float | None = None
) -> str:
    ours, raw, ratio = median(comparison.ours), median(comparison.raw), comparison.ratio
    target = ""
    if least is not None:
        target = f">= {least} {_verdict(ratio >= least for ratio in comparison.ratios)}"
    if most is not None:
        target = f"<= {most} {_verdict(ratio <= most for ratio in comparison.ratios)}"
    spread = f"({min(comparison.ratios):.2f} to {max(comparison.ratios):.2f})"
    return _row(label, f"{ours:,.0f}", f"{raw:,.0f}", f"{ratio:.2f}", spread, target)


def _load(load: Load) -> Iterator[str]:
    callers = "1 caller" if load.callers == 1 else f"{load.callers} callers"
    first, second = zip(*load.two, strict=True)
    yield _latencies(f"{callers}, alone", load.alone)
    yield _latencies(f"{callers}, one of two", first)
    yield _latencies(f"{callers}, the other", second)
    verdict = _verdict(p99 <= MAX_P99_MS for p99 in load.p99s_ms)
    yield (
        f"{'':{_LABEL}}two commit {load.throughput:.2f} times as much as one; "
        f"p99 of the worse {median(load.p99s_ms):.1f} ms, target <= {MAX_P99_MS:.0f} {verdict}"
    )


def _latencies(label: str, rounds: Sequence[Latencies]) -> str:
    def column(pick: Callable[[Latencies], float]) -> float:
        return median(pick(one) for one in rounds)

    return _row(
        label,
        f"{column(lambda one: one.rate):,.0f}",
        f"{column(lambda one: one.p50_ms):.1f}",
        f"{column(lambda one: one.p99_ms):.1f}",
        f"{max(one.max_ms for one in rounds):.1f}",
    )


def _verdict(rounds: Iterable[bool]) -> str:
    share = mean(rounds)
    return "met" if share >= 0.75 else "MISSED" if share <= 0.25 else "unclear"


def _row(label: str, *cells: str) -> str:
    return f"{label:{_LABEL}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)
