"""What `import outlast` costs a process, beside what it cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.rounds import Comparison

OURS: Final = "import outlast"
LEAST: Final = "import asyncio, sqlite3; from pydantic import TypeAdapter"


def compare_imports(*, rounds: int, within: Path) -> Comparison:
    """Compare the milliseconds of whole processes, from their start to their end."""
    comparison = Comparison("ms", [], [])
    with tempfile.TemporaryDirectory(dir=within) as cache:
        for program in (OURS, LEAST):  # all is compiled now, as it is wherever outlast is installed
            _milliseconds(program, cache)
        for number in range(rounds):
            sides = [(OURS, comparison.ours), (LEAST, comparison.raw)]
            for program, figures in sides if number % 2 else reversed(sides):
                figures.append(_milliseconds(program, cache))
    return comparison


def _milliseconds(program: str, cache: str) -> float:
    environment = os.environ | {"PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    return (perf_counter() - began) * 1000
