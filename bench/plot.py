"""Draws the kept figures: `python -m bench.plot FIGURES.json PLOT.svg`.

It is run by the Python of the environment that has matplotlib. The plot has no background, and
colours that can be told from a light and from a dark one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib import rc_context  # type: ignore[import-not-found]
from matplotlib.figure import Figure  # type: ignore[import-not-found]
from matplotlib.ticker import NullLocator  # type: ignore[import-not-found]

INK: Final = "#7d8590"
COLORS: Final = {
    "outlast": "#2f81f7",
    "raw": "#8b949e",
    "DBOS (WAL)": "#d9822b",
    "DBOS (default)": "#b0602a",
}
LINES: Final = ("start", "signal", "claim of one run", "claim of none")
STYLE: Final = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "outlast",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

Tables = dict[str, dict[str, Any]]


def main(figures: Path, svg: Path) -> None:
    kept = json.loads(figures.read_text(encoding="utf-8"))
    tables: Tables = {table["name"]: table for table in kept["tables"]}
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 9.0))
        rates, delays, costs = figure.subplots(3, 1)
        _rates(rates, tables)
        _delays(delays, tables)
        _costs(costs, tables["ended"])
        figure.text(0.01, 0.005, _caption(kept["machine"]), size=8)
        figure.tight_layout(rect=(0, 0.02, 1, 1), h_pad=2.0)
        figure.savefig(svg, format="svg", metadata={"Date": None})


def _rates(axes: Any, tables: Tables) -> None:
    """Draw bars: what is done in a second, beside the others."""
    rows = [("steps, one after another", tables["steps"]["rows"][0])]
    rows += [(f"tasks, {row['label']}", row) for row in tables["tasks"]["rows"]]
    sides = [side for side in COLORS if side in rows[0][1]["cells"]]
    height = 0.8 / len(sides)
    for number, side in enumerate(sides):
        places = [place + number * height for place in range(len(rows))]
        values = [median(row["cells"][side]) for _, row in rows]
        bars = axes.barh(places, values, height, label=side, color=COLORS[side])
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, size=8)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(rows))])
    axes.set_yticklabels([label for label, _ in rows])
    axes.invert_yaxis()
    axes.set_title("Steps and one-step tasks in a second (more is better)", loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=len(sides))


def _delays(axes: Any, tables: Tables) -> None:
    """Draw bars: how long it takes until something happens."""
    rows = [
        ("start to handler\nin another process", tables["pickup"]["rows"][0]["cells"]),
        ("kill -9 to first entry\nby the next owner", tables["takeover"]["rows"][0]["cells"]),
    ]
    for number, name in enumerate(("p50", "p95", "p99")):
        places = [place + 0.27 * number for place in range(len(rows))]
        values = [cells[name][0] for _, cells in rows]
        shade = (1.0, 0.7, 0.4)[number]
        bars = axes.barh(places, values, 0.25, label=name, color=COLORS["outlast"], alpha=shade)
        axes.bar_label(bars, fmt="%.3g", padding=3, size=8)
    axes.set_yticks([place + 0.27 for place in range(len(rows))])
    axes.set_yticklabels([label for label, _ in rows])
    axes.invert_yaxis()
    axes.set_title("Milliseconds until another process is at work (less is better)", loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=3)


def _costs(axes: Any, table: dict[str, Any]) -> None:
    """Draw lines: what a call costs beside more and more ended runs."""
    rows = {row["label"]: row["cells"] for row in table["rows"]}
    columns = [column for column in table["columns"] if column.endswith(" ended")]
    counts = [int(column.removesuffix(" ended").replace(",", "")) for column in columns]
    for name, color in zip(LINES, COLORS.values(), strict=True):
        values = [median(rows[name][column]) for column in columns]
        axes.plot(counts, values, marker="o", label=name, color=color)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title("Microseconds of a call, beside so many ended runs", loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=len(LINES))


def _caption(machine: dict[str, Any]) -> str:
    return (
        f"{machine['date'][:10]}, outlast {machine['outlast']}, {machine['cores']} cores of "
        f"{machine['processor']}, {machine['file_system']}"
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
