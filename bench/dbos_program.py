"""What we measure, written for DBOS Transact as its documentation says.

    python -m bench.dbos_program FILE MODE WHAT BEFORE MEASURED AT_A_TIME

It is run by the Python of the environment that has DBOS, and prints JSON. Workflows and steps are
asynchronous, and a workflow is called, which is the fastest of the ways to run one: through
`start_workflow_async` and its handle it takes as long or longer, and through a queue several times
as long. Nothing is written to a log, and nothing is traced.

The journal is as DBOS leaves it (`delete`), or `wal`: that is set in the file before DBOS opens
it, and stays. DBOS leaves `synchronous` as SQLite has it, which is `full`: in either mode a commit
is on the disk before it is answered, as ours is.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from dbos import DBOS, DBOSConfig  # type: ignore[import-not-found]

from bench import payload
from bench.rounds import Count, rate

answer: Final[Any] = DBOS.step()(payload.answer)


async def _steps(before: int, measured: int) -> float:
    """Return how many seconds the steps took that count."""
    began = 0.0
    for number in range(before + measured):
        if number == before:
            began = perf_counter()
        await answer(number)
    return perf_counter() - began


async def _one_step(number: int) -> Any:
    return await answer(number)


steps: Final[Any] = DBOS.workflow()(_steps)
one_step: Final[Any] = DBOS.workflow()(_one_step)


async def measure(what: str, count: Count, at_a_time: int) -> float:
    """Return steps or tasks per second."""
    if what == "steps":
        return count.measured / float(await steps(count.before, count.measured))

    async def run(numbers: Iterator[int]) -> None:
        for number in numbers:
            await one_step(number)

    async def run_all(numbers: Sequence[int]) -> None:
        left = iter(numbers)
        await asyncio.gather(*(run(left) for _ in range(at_a_time)))

    return await rate(run_all, range(count.total), count)


def journal_mode(file: Path) -> str:
    with closing(sqlite3.connect(file)) as db:
        [mode] = db.execute("pragma journal_mode").fetchone()
    return str(mode)


def launch(file: Path, mode: str) -> None:
    """Launch DBOS on a new file, in this journal mode or in its own."""
    if mode == "wal":
        with closing(sqlite3.connect(file)) as db:
            db.execute("pragma journal_mode = wal")
            db.execute("pragma user_version = 0")
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{file}",
        "log_level": "CRITICAL",
        "enable_otlp": False,
    }
    DBOS(config=config)
    DBOS.launch()


async def main(file: Path, mode: str, what: str, count: Count, at_a_time: int) -> None:
    launch(file, mode)
    try:
        figure = await measure(what, count, at_a_time)
    finally:
        DBOS.destroy()
    expected = "wal" if mode == "wal" else "delete"
    assert journal_mode(file) == expected, journal_mode(file)
    print(json.dumps({"rate": figure}))


if __name__ == "__main__":
    _file, _mode, _what, _before, _measured, _at_a_time = sys.argv[1:]
    _count = Count(int(_before), int(_measured))
    asyncio.run(main(Path(_file), _mode, _what, _count, int(_at_a_time)))
