"""`outlast demo`: what it takes, what it prints, and the status it ends with.

Status 0 means that every check passed, 1 that one did not, or that there was no coming to an end,
and 2 that there is nothing to read. The one rule that must not be broken: nothing ends in a
traceback.
"""

import asyncio
import secrets
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from outlast import OutlastError, UsageError
from outlast.cli.demo.chaos import WorkerDied
from outlast.cli.demo.screen import Screen, Silence, show, summary
from outlast.cli.demo.sources import UnusablePath, default_path, find_sources
from outlast.cli.demo.stage import Stalled, database_url, file_url, play
from outlast.cli.output import console, fail, print_json

MAX_SEED: Final = 1_000_000


def run(path: Path | None, seed: int | None, db: str | None, *, as_json: bool) -> None:
    """Play the demo, and end the process with its status."""
    seed = secrets.randbelow(MAX_SEED) if seed is None else seed
    screen = console()
    try:
        sources = find_sources(path or default_path())
        url = _url(db) if db else None
        directory = Path(tempfile.mkdtemp(prefix="outlast-demo-"))
        url = url or database_url(directory)
        shown = None if as_json else Screen(screen, sources, seed)
        with shown.lit() if shown else nullcontext():
            outcome = asyncio.run(play(sources, seed, directory, url, shown or Silence()))
    except (UnusablePath, UsageError) as error:
        fail(str(error), status=2, as_json=as_json)
    except (OutlastError, OSError, Stalled, WorkerDied) as error:
        fail(f"{type(error).__name__}: {error}", status=1, as_json=as_json)
    except KeyboardInterrupt:
        fail("stopped; its workers are gone", status=130, as_json=as_json)
    if as_json:
        print_json(summary(sources, seed, outcome))
    else:
        show(screen, outcome)
    sys.exit(0 if outcome.passed else 1)


def _url(db: str) -> str:
    """Return the URL of the database that was asked for: a URL, or a file's name.

    Raises:
        UsageError: processes cannot share it.
    """
    if db.startswith("memory:"):
        raise UsageError("the agent works in a process of its own, which cannot share 'memory://'")
    return db if "://" in db else file_url(Path(db))
