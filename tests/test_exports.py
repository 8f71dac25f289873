"""What `import outlast` gives, and what it does not do."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import outlast
import outlast.sync
import outlast.testing
import outlast.testing.simulation

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = (ROOT / "docs" / "reference" / "api.md").read_text()
TESTING = (ROOT / "docs" / "reference" / "testing.md").read_text()
SHOWN = re.compile(r"\.\. auto(?:class|exception|function|data):: (outlast\.\S+)")

PUBLIC = [
    "App",
    "CodecError",
    "Conflict",
    "Corrupt",
    "Fenced",
    "HistoryEntry",
    "InputTooLarge",
    "LastInputMismatch",
    "OutlastError",
    "Page",
    "Retracted",
    "RetryPolicy",
    "RunError",
    "Runs",
    "Status",
    "SteeringQueueFull",
    "Step",
    "StepFailed",
    "StepMismatch",
    "StepUnknown",
    "StoreError",
    "StreamItem",
    "Task",
    "TaskAborted",
    "TaskCancelled",
    "TaskConflict",
    "TaskContext",
    "TaskError",
    "TaskFailed",
    "TaskNotFound",
    "TaskResult",
    "TaskRun",
    "TaskTimedOut",
    "Unavailable",
    "UsageError",
    "open",
    "task",
]

LATE = ["typer", "rich", "fastapi", "asyncpg", "redis", "sqlite3", "outlast.cli", "outlast.stores"]
"""What is imported by who uses it."""

ASK = """
import os, sys, threading
opened = []
sys.addaudithook(lambda event, args: opened.append(args) if event == "open" else None)
import outlast
written = [name for name, mode, flags in opened if flags & (os.O_WRONLY | os.O_RDWR)]
assert not written, written
assert threading.active_count() == 1, threading.enumerate()
assert not os.listdir(), os.listdir()
print(*sys.modules)
"""


def members(owner: object) -> list[tuple[str, object]]:
    """Return what is public of a class, defined here and not in Python."""
    if not inspect.isclass(owner):
        return []
    found = []
    for name, member in vars(owner).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            found.append((f"{owner.__name__}.{name}", member))
    return found


def test_the_public_names_are_these() -> None:
    assert sorted(outlast.__all__) == sorted(PUBLIC)
    assert all(hasattr(outlast, name) for name in PUBLIC)


def test_an_import_does_nothing_and_takes_nothing_along(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert "outlast" in modules
    assert [name for name in modules if name in LATE or name.startswith("outlast.stores")] == []


@pytest.mark.parametrize(
    "owner",
    [
        *(getattr(outlast, name) for name in PUBLIC),
        *map(vars(outlast.sync).get, outlast.sync.__all__),
        *map(vars(outlast.testing).get, outlast.testing.__all__),
    ],
    ids=lambda owner: f"{owner.__module__}.{owner.__name__}",
)
def test_every_public_name_has_a_docstring(owner: object) -> None:
    bare = [name for name, member in members(owner) if not inspect.getdoc(member)]

    assert inspect.getdoc(owner)
    assert vars(owner).get("__doc__") or inspect.isroutine(owner)
    assert bare == []


def test_every_public_name_is_in_the_reference() -> None:
    shown = SHOWN.findall(REFERENCE)

    assert sorted(shown) == sorted(
        [f"outlast.{name}" for name in PUBLIC]
        + [f"outlast.sync.{name}" for name in outlast.sync.__all__]
    )


def test_every_name_for_tests_is_in_the_reference() -> None:
    shown = SHOWN.findall(TESTING)

    assert sorted(shown) == sorted(
        [f"outlast.testing.{name}" for name in outlast.testing.__all__]
        + [f"outlast.testing.simulation.{name}" for name in outlast.testing.simulation.__all__]
    )


def test_every_public_name_is_in_the_typing_tests() -> None:
    used: set[str] = set()
    for path in (ROOT / "tests" / "typing").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "outlast":
                used.update(alias.name for alias in node.names)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "outlast"
            ):
                used.add(node.attr)

    assert [name for name in PUBLIC if name not in used] == []
