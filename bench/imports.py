"""What `import outlast` costs a process, beside what it cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.rounds import OURS, RAW
from bench.tables import Row, Table

PROGRAMS: Final = {
    OURS: "import outlast",
    RAW: "import asyncio, sqlite3; from pydantic import TypeAdapter",
}
MAX_BY_RAW: Final = 1.4


def measure_imports(*, rounds: int, within: Path) -> Table:
    """Compare the milliseconds of whole processes, from their start to their end."""
    cells: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory(dir=within) as cache:
        for (
            program
        ) in PROGRAMS.values():  # all is compiled now, as it is where outlast is installed
            _milliseconds(program, cache)
        for number in range(rounds):
            for name in list(PROGRAMS)[:: 1 if number % 2 else -1]:
                cells[name].append(_milliseconds(PROGRAMS[name], cache))
    row = Row("a process that imports it", cells)
    row.ratio_is(OURS, RAW, most=MAX_BY_RAW)
    return Table("imports", "import, ms", [OURS, RAW], [row])


def _milliseconds(program: str, cache: str) -> float:
    environment = os.environ | {"PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    return (perf_counter() - began) * 1000
