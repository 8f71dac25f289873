"""The figures in the docs: the JSON, the plot, and the tables of the page.

The one rule that must not be broken: the page says what the JSON says. A part of the page stands
between `<!-- measured: NAME -->` and `<!-- end -->`; `python -m bench.page` writes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bench.peers import Peers
from bench.report import machine, markdown
from bench.tables import Figures

REFERENCE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
JSON: Final = REFERENCE / "figures.json"
PLOT: Final = REFERENCE / "figures.svg"
PAGE: Final = REFERENCE / "figures.md"
PART: Final = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def keep(figures: Figures, peers: Peers) -> None:
    """Keep all of them: every round, the plot, and the tables."""
    JSON.write_text(figures.to_json(), encoding="utf-8")
    peers.plot(JSON, PLOT)
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")


def kept() -> Figures:
    """Return what was kept last."""
    return Figures.from_json(JSON.read_text(encoding="utf-8"))


def written(text: str, figures: Figures) -> str:
    """Return the text of the page with its parts as the figures say."""
    parts = {table.name: markdown(table) for table in figures.tables}
    parts["machine"] = f"```text\n{machine(figures.machine)}\n```"
    return PART.sub(lambda part: f"{part[1]}\n{parts[part[2]]}\n\n{part[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), kept()), encoding="utf-8")
