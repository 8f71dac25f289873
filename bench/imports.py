"""What `import outlast` costs a process, beside what it cannot do without."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter
from typing import Final

from bench.rounds import Comparison

OURS: Final = "import outlast"
LEAST: Final = "import asyncio, sqlite3; from pydantic import TypeAdapter"


def compare_imports(*, rounds: int) -> Comparison:
    """Compare the milliseconds of whole processes, from their start to their end."""
    comparison = Comparison("ms", [], [])
    for program in (OURS, LEAST):  # so that all is compiled, and read from the disk
        _milliseconds(program)
    for number in range(rounds):
        sides = [(OURS, comparison.ours), (LEAST, comparison.raw)]
        for program, figures in sides if number % 2 else reversed(sides):
            figures.append(_milliseconds(program))
    return comparison


def _milliseconds(program: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return (perf_counter() - began) * 1000
