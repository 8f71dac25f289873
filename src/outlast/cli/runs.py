"""`outlast runs`: look at the runs of a store, and tell them something.

Everything goes through the public names of `outlast`. The one rule that must not be broken: looking
changes nothing, so a database that is not there is not made either.
"""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from rich.table import Column, Table
from rich.text import Text

import outlast
from outlast import App, TaskRun, UsageError
from outlast.cli.output import console, print_json
from outlast.engine.app import DEFAULT_URL

MAX_SHOWN: Final = 100
"""Characters of an entry's data in a table."""

SHOWN_ID: Final = 36
"""Columns that an id has at least: a generated one is whole, to be copied."""


@asynccontextmanager
async def client(url: str | None, namespace: str) -> AsyncGenerator[App, None]:
    """Open the store, without a worker.

    Raises:
        UsageError: it is a file, and the file is not there.
    """
    url = url or os.environ.get("OUTLAST_URL", DEFAULT_URL)
    unopened = outlast.open(url, worker=False, namespace=namespace)  # refuses what is no URL
    if (file := file_of(url)) is not None and not file.exists():
        raise UsageError(f"there is no database {str(file)!r}; name another one with --url")
    async with unopened as app:
        yield app


def file_of(url: str) -> Path | None:
    """Return the SQLite file that a URL names; None: it names something else."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)[1:]) if parts.scheme == "sqlite" else None


async def list_runs(
    url: str | None,
    namespace: str,
    *,
    status: list[str],
    task: str | None,
    tags: list[str],
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """Print a page of runs, newest first."""
    async with client(url, namespace) as app:
        page = await app.runs.list(
            status=status or None, task=task, tags=_pairs(tags), limit=limit, after=after
        )
    if as_json:
        print_json({"runs": [described(run) for run in page.items], "next": page.next})
        return
    table = Table(Column("id", min_width=SHOWN_ID, overflow="fold"))
    for name in ("task", "status", "started", "title"):
        table.add_column(name)
    for run in page.items:
        started = f"{run.started_at.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(Text(run.id), Text(run.task), run.status, started, Text(run.title))
    screen = console()
    screen.print(table)
    if page.next is not None:
        screen.print(f"There may be more: --after {page.next}", markup=False)


async def show_run(url: str | None, namespace: str, id: str, *, last: int, as_json: bool) -> None:
    """Print a run, and the newest entries of its journal."""
    async with client(url, namespace) as app:
        run = await app.runs.get(id)
        entries = [entry async for entry in run.history()]
    newest = entries[-last:] if last else []
    if as_json:
        history = [
            {"revision": e.revision, "type": e.type, "at": e.at.isoformat(), "data": e.data}
            for e in newest
        ]
        print_json({**described(run), "revision": entries[-1].revision, "history": history})
        return
    screen = console()
    for name, value in described(run).items():
        if value not in (None, "", {}):
            screen.print(Text(f"{name:<11}{value}"), soft_wrap=True)
    screen.print()
    table = Table("revision", "at", "type", "data", title=f"last {len(newest)} of {len(entries)}")
    for entry in newest:
        data = json.dumps(entry.data, ensure_ascii=False)
        short = data if len(data) <= MAX_SHOWN else f"{data[: MAX_SHOWN - 3]}..."
        at = entry.at.astimezone().isoformat(" ", "milliseconds")[:-6]
        table.add_row(str(entry.revision), at, entry.type, Text(short))
    screen.print(table)


async def signal_run(
    url: str | None, namespace: str, id: str, name: str, value: str, *, as_json: bool
) -> None:
    """Send the run a signal, whose value is JSON."""
    try:
        payload = json.loads(value)
    except ValueError as error:
        raise UsageError(
            f"the value is JSON, such as true, 3 or '\"text\"', not {value!r}"
        ) from error
    async with client(url, namespace) as app:
        run = await app.runs.get(id)
        await run.signal(name, payload)
        await _answer(run, as_json=as_json)


async def cancel_run(
    url: str | None, namespace: str, id: str, reason: str | None, *, as_json: bool
) -> None:
    """Ask the run to stop."""
    async with client(url, namespace) as app:
        run = await app.runs.get(id)
        await run.cancel(reason)
        await _answer(run, as_json=as_json)


async def abort_run(
    url: str | None, namespace: str, id: str, reason: str | None, *, as_json: bool
) -> None:
    """End the run now."""
    async with client(url, namespace) as app:
        run = await app.runs.get(id)
        await run.abort(reason)
        await _answer(run, as_json=as_json)


def described(run: TaskRun[Any]) -> dict[str, Any]:
    """Return what the handle knows of the run, for machines."""
    return {
        "id": run.id,
        "task": run.task,
        "status": str(run.status),
        "started_at": run.started_at.isoformat(),
        "title": run.title,
        "tags": dict(run.tags),
        "source": run.source,
        "session_id": run.session_id,
    }


async def _answer(run: TaskRun[Any], *, as_json: bool) -> None:
    """Print the run as it is now."""
    await run.refresh()
    if as_json:
        print_json(described(run))
    else:
        console().print(Text(f"{run.id} is {run.status}"), soft_wrap=True)


def _pairs(tags: list[str]) -> dict[str, str] | None:
    """Return tags that were given as NAME=VALUE.

    Raises:
        UsageError: one has no value.
    """
    for tag in tags:
        if "=" not in tag:
            raise UsageError(f"a tag is given as NAME=VALUE, not {tag!r}")
    return dict(tag.split("=", 1) for tag in tags) or None
