"""Two processes that write to one file as fast as they can, and what that costs beside one.

`python -m bench.processes FILE NAME CALLERS SECONDS` is one of them: it says that it is ready,
waits for a line, and prints what its commits took.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Final

from bench.payload import answer
from bench.tables import Row, Table, Target
from outlast.engine.clock import System
from outlast.journal import Change, Claim, Draft, Fence
from outlast.store import Store, open_store

_TTL: Final = 600.0
_OWNER: Final = "bench"


COLUMNS: Final = ["commits/s", "p50 ms", "p99 ms", "max ms"]
MAX_P99_MS: Final = 20.0


def measure_processes(
    callers: Sequence[int], *, seconds: float, rounds: int, within: Path
) -> Table:
    """Measure one process, then two, in each round, each time on a new file."""
    rows: list[Row] = []
    for number in callers:
        who = "1 caller" if number == 1 else f"{number} callers"
        alone, first, second = (
            Row(f"{who}, {which}", {column: [] for column in COLUMNS})
            for which in ("alone", "one of two", "the other")
        )
        for _ in range(rounds):
            _add([alone], _measured(1, number, seconds, within))
            _add([first, second], _measured(2, number, seconds, within))
        worse = list(map(max, first.cells["p99 ms"], second.cells["p99 ms"]))
        second.targets.append(Target("p99 of the worse", worse, most=MAX_P99_MS))
        rows += [alone, first, second]
    return Table("processes", "processes on one file", COLUMNS, rows)


def _add(rows: Sequence[Row], measured: Sequence[Sequence[float]]) -> None:
    for row, figures in zip(rows, measured, strict=True):
        for column, figure in zip(COLUMNS, figures, strict=True):
            row.cells[column].append(figure)


def _summary(milliseconds: Sequence[float], seconds: float) -> list[float]:
    """Return what stands in the columns."""
    cuts = quantiles(milliseconds, n=100, method="inclusive")
    return [len(milliseconds) / seconds, cuts[49], cuts[98], max(milliseconds)]


def _measured(processes: int, callers: int, seconds: float, within: Path) -> list[list[float]]:
    with tempfile.TemporaryDirectory(dir=within) as directory, ExitStack() as stack:
        program = [sys.executable, "-m", "bench.processes", str(Path(directory) / "bench.db")]
        children = [
            stack.enter_context(
                subprocess.Popen(
                    [*program, f"p{number}", str(callers), str(seconds)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(processes)
        ]
        for child in children:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin
            child.stdin.write("go\n")
            child.stdin.flush()
        outputs = [child.communicate()[0] for child in children]
    return [_summary(json.loads(output), seconds) for output in outputs]


# In one of the processes


async def _write(file: str, name: str, callers: int, seconds: float) -> list[float]:
    """Return the milliseconds of each commit that so many callers make, one after the other."""
    milliseconds: list[float] = []
    data = json.dumps(await answer(1))

    async def call(store: Store, key: str, fence: Fence) -> None:
        number = 1
        while (began := perf_counter()) < end:
            number += 1
            draft = Draft("answered", data)
            await store.commit(
                Change(key=key, id=f"{fence.id}.{number}", entries=(draft,), fence=fence)
            )
            milliseconds.append((perf_counter() - began) * 1000)

    async with open_store(f"sqlite:///{file}", clock=System()) as store:
        keys = [f"run/{name}-{number}" for number in range(callers)]
        fences = [await _create(store, key) for key in keys]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        end = perf_counter() + seconds
        await asyncio.gather(
            *(call(store, key, fence) for key, fence in zip(keys, fences, strict=True))
        )
    return milliseconds


async def _create(store: Store, key: str) -> Fence:
    claim = Claim(_OWNER, _TTL, key)
    change = Change(
        key=key, id="create", entries=(Draft("created", "{}"),), revision=0, claim=claim
    )
    [head] = await store.commit(change)
    assert head.fence
    return head.fence


if __name__ == "__main__":
    _file, _name, _callers, _seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(_write(_file, _name, int(_callers), float(_seconds)))))
