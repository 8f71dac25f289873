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
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Final

from bench.payload import answer
from outlast.engine.clock import System
from outlast.journal import Change, Claim, Draft, Fence
from outlast.store import Store, open_store

_TTL: Final = 600.0
_OWNER: Final = "bench"


@dataclass(frozen=True, slots=True)
class Latencies:
    """The milliseconds of one process's commits in one round, and how many it made in a second."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    rate: float

    @classmethod
    def of(cls, milliseconds: Sequence[float], seconds: float) -> Latencies:
        cuts = quantiles(milliseconds, n=100)
        return cls(cuts[49], cuts[98], max(milliseconds), len(milliseconds) / seconds)


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured with so many callers in each process, round by round."""

    callers: int
    alone: list[Latencies] = field(default_factory=list[Latencies])
    two: list[list[Latencies]] = field(default_factory=list[list[Latencies]])

    @property
    def p99s_ms(self) -> list[float]:
        """That of the worse one of two, round by round."""
        return [max(latencies.p99_ms for latencies in pair) for pair in self.two]

    @property
    def throughput(self) -> float:
        """How many commits two make together for each of one alone, the median over the rounds."""
        rounds = zip(self.two, self.alone, strict=True)
        return median(sum(each.rate for each in pair) / one.rate for pair, one in rounds)


def load(callers: int, *, seconds: float, rounds: int, within: Path) -> Load:
    """Measure one process, then two, in each round, each time on a new file."""
    result = Load(callers)
    for _ in range(rounds):
        result.alone.extend(_measured(1, callers, seconds, within))
        result.two.append(_measured(2, callers, seconds, within))
    return result


def _measured(processes: int, callers: int, seconds: float, within: Path) -> list[Latencies]:
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
    return [Latencies.of(json.loads(output), seconds) for output in outputs]


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
