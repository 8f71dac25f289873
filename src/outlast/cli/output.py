"""What commands print: text for people, JSON for machines.

The one rule that must not be broken: with `--json`, standard output holds one JSON document per
line, and nothing else; what is said to people goes to standard error.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

WIDE: Final = 250
"""Columns where there is no terminal: what reads a pipe does not want its lines folded."""


def tolerate_any_text() -> None:
    """Show what a terminal cannot: escaped, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def console() -> Console:
    """Return where text for people is printed."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def print_json(document: Any) -> None:
    """Print a document on a line of its own."""
    sys.stdout.write(json.dumps(document, default=str) + "\n")
    sys.stdout.flush()


def fail(message: str, *, status: int, as_json: bool = False) -> NoReturn:
    """Say what went wrong, and end the process with this status."""
    if as_json:
        print_json({"error": message})
    sys.stderr.write(f"outlast: {message}\n")
    sys.exit(status)
