"""`outlast doctor`: what is wrong with a SQLite file, and what to do.

The one rule that must not be broken: it changes nothing, whatever it finds.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final, get_args

import outlast
from outlast import UsageError
from outlast.cli.output import print_json
from outlast.cli.runs import file_of
from outlast.engine.app import DEFAULT_URL
from outlast.engine.clock import System
from outlast.model.events import END_TYPES, TYPE_OF, Fact
from outlast.model.run import RUN
from outlast.stores.sqlite.examination import Finding, Meaning
from outlast.stores.sqlite.examination import examine as examine_file

MEANING: Final = Meaning(
    kind=RUN, facts=tuple(TYPE_OF[fact] for fact in get_args(Fact)), ends=END_TYPES
)

_WORST_FIRST: Final = ("error", "warning", "ok")


async def examine(url: str | None, *, is_full: bool, as_json: bool) -> None:
    """Examine the file that a URL names, print what is found, and end with its status.

    Raises:
        UsageError: the URL names no file.
    """
    url = url or os.environ.get("OUTLAST_URL", DEFAULT_URL)
    outlast.open(url, worker=False)  # refuses what is no URL
    file = file_of(url)
    if file is None:
        raise UsageError(f"{url!r} is no SQLite file, and there is nothing to examine")
    findings = await asyncio.to_thread(
        examine_file, file.absolute(), System(), MEANING, is_full=is_full
    )
    worst = min((finding.severity for finding in findings), key=_WORST_FIRST.index)
    if as_json:
        print_json(
            {
                "file": str(file.absolute()),
                "severity": worst,
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        _print(findings)
    if worst == "error":
        sys.exit(1)


def _print(findings: Sequence[Finding]) -> None:
    """Print what is wrong first, and what to do below it."""
    for finding in sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.severity)):
        sys.stdout.write(f"{finding.severity:<8} {finding.check:<10} {finding.what}\n")
        if finding.remedy:
            sys.stdout.write(f"{'':<19} -> {finding.remedy}\n")
