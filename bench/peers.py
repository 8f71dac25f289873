"""Others to compare with, in an environment of their own: none of them is a dependency.

It is made once, in the user's cache, and used again. Where it cannot be made (no network), the
benchmark says so, and goes on without.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.children import ROOT, child
from bench.rounds import Count, Measure

PACKAGES: Final = ("dbos", "matplotlib")
LABELS: Final = {"wal": "DBOS (WAL)", "default": "DBOS (default)"}
"""What a journal mode is called in the tables."""


class MissingPeers(Exception):
    """The environment cannot be made."""


def cache() -> Path:
    """Return where the environment is kept unless somebody says otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "outlast-bench"


@dataclass(frozen=True, slots=True)
class Peers:
    """The environment with what we compare with, and with what draws the plot."""

    python: Path
    versions: dict[str, str]

    @classmethod
    def prepare(cls, directory: Path) -> Peers:
        """Make the environment unless it is there.

        Raises:
            MissingPeers: it is not, and cannot be made.
        """
        home = directory / f"python{sys.version_info.major}.{sys.version_info.minor}"
        python = home / "bin" / "python"
        try:
            return cls(python, _versions(python))
        except (OSError, subprocess.CalledProcessError):
            pass
        try:
            venv.create(home, with_pip=True, clear=True)
            _say([python, "-m", "pip", "install", "--quiet", "--upgrade", *PACKAGES])
            return cls(python, _versions(python))
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            raise MissingPeers(said.strip().splitlines()[-1]) from error

    def dbos(self, what: str, count: Count, at_a_time: int, mode: str) -> Measure:
        """Return how DBOS Transact is measured: its own steps or tasks per second."""

        async def measure(file: Path) -> float:
            sizes = [count.before, count.measured, at_a_time]
            words = ["-m", "bench.dbos_program", str(file), mode, what, *map(str, sizes)]
            child = await asyncio.create_subprocess_exec(
                self.python, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await child.communicate()
            if child.returncode:
                raise RuntimeError(f"DBOS was not measured: it ended with {child.returncode}")
            return float(json.loads(said)["rate"])

        return measure

    def both_modes(self, what: str, count: Count, at_a_time: int = 1) -> dict[str, Measure]:
        """Return how DBOS is measured with its file in either journal mode."""
        return {label: self.dbos(what, count, at_a_time, mode) for mode, label in LABELS.items()}

    async def pickups(self, file: Path, count: int) -> list[float]:
        """Return the milliseconds from one process of DBOS to another, through a queue."""
        module, python = "bench.dbos_pickup", str(self.python)
        began: dict[str, float] = {}
        entered: dict[str, float] = {}
        async with child(module, str(file), python=python) as worker:
            await worker.hear()
            async with child(module, str(file), str(count), python=python) as client:
                for _ in range(count):
                    for process, times in ((worker, entered), (client, began)):
                        number, time = await process.hear()
                        times[number] = float(time)
                await client.end()
            await worker.end()
        return [(entered[number] - began[number]) * 1000 for number in began]

    def plot(self, figures: Path, svg: Path) -> None:
        """Draw the kept figures."""
        _say([self.python, "-m", "bench.plot", figures.resolve(), svg.resolve()])


def _versions(python: Path) -> dict[str, str]:
    program = (
        "import json; from importlib.metadata import version;"
        f"print(json.dumps({{name: version(name) for name in {PACKAGES!r}}}))"
    )
    versions: dict[str, str] = json.loads(_say([python, "-c", program]))
    return versions


def _say(words: list[Any]) -> str:
    done = subprocess.run(words, check=True, cwd=ROOT, capture_output=True, text=True)
    return done.stdout
