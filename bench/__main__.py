"""`python -m bench`: measure, print the figures, and keep them."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from bench.figures import FULL, QUICK, measure
from bench.report import lines


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round's figures here")
    parser.add_argument(
        "--quick", action="store_true", help="see that it runs; the figures mean nothing"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where the files are written; its file system is measured too (default: %(default)s)",
    )
    options = parser.parse_args()
    figures = measure(QUICK if options.quick else FULL, options.directory, _tell)
    for line in lines(figures):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(figures.to_json(), indent=2) + "\n", encoding="utf-8")


def _tell(what: str) -> None:
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
