"""`python -m bench`: measure, print the figures, and keep them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench import page
from bench.figures import FULL, PARTS, QUICK, Surroundings, measure
from bench.peers import MissingPeers, Peers, cache
from bench.report import lines


def main() -> None:
    """Measure as the command line says."""
    parser = _parser()
    options = parser.parse_args()
    if options.keep and (options.only or options.quick or options.without_peers):
        parser.error("what is kept in the docs is all of it")
    peers = None if options.without_peers else _peers(options.environment)
    if options.keep and peers is None:
        parser.error("what is kept in the docs is beside others")
    around = Surroundings(options.directory, peers)
    sizes = QUICK if options.quick else FULL
    figures = measure(sizes, around, options.only or list(PARTS), _tell)
    for line in lines(figures):
        print(line)
    if options.json:
        options.json.write_text(figures.to_json(), encoding="utf-8")
    if options.keep and peers:
        page.keep(figures, peers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round's figures here")
    parser.add_argument(
        "--keep", action="store_true", help="keep the figures, the plot and the tables in the docs"
    )
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="see that it runs; the figures mean nothing"
    )
    parser.add_argument("--without-peers", action="store_true", help="measure outlast only")
    parser.add_argument(
        "--environment",
        type=Path,
        default=cache(),
        metavar="DIRECTORY",
        help="where the others that we compare with are installed; remove it to have newer ones "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where the files are written; its file system is measured too (default: %(default)s)",
    )
    return parser


def _peers(directory: Path) -> Peers | None:
    try:
        return Peers.prepare(directory)
    except MissingPeers as missing:
        _tell(f"without others: they cannot be installed in {directory}: {missing}")
        return None


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
