"""What it was measured on, for whoever compares two files of figures."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

_PAGE: Final = b"x" * 4096


def describe(directory: Path, *, fsyncs: int) -> dict[str, Any]:
    """Return the date, the versions, the machine, and the file system with its cost of an fsync."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "outlast": version("outlast"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "pydantic": version("pydantic"),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "file_system": _file_system(directory),
        "fsync_ms": {
            "appended": round(_fsync_ms(directory, fsyncs, grows=True), 3),
            "overwritten": round(_fsync_ms(directory, fsyncs, grows=False), 3),
        },
    }


def _fsync_ms(directory: Path, count: int, *, grows: bool) -> float:
    """Return what it costs to write a page and to have it on the disk: the median.

    A write-ahead log grows at first, and is written over later.
    """
    milliseconds: list[float] = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(count):
            if not grows:
                file.seek(0)
            began = perf_counter()
            file.write(_PAGE)
            _sync(file.fileno())
            milliseconds.append((perf_counter() - began) * 1000)
    return median(milliseconds)


def _sync(descriptor: int) -> None:
    """Do what SQLite does where nothing else is asked of it."""
    if sys.platform == "darwin":
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _file_system(directory: Path) -> str:
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    mounts = {Path(point): kind for _, point, kind, *_ in map(str.split, lines)}
    resolved = directory.resolve()
    return next(mounts[path] for path in (resolved, *resolved.parents) if path in mounts)
