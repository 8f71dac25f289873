"""A trial: a suite is run, in a process of its own, on a copy of the package.

The processes are forked off one that has pytest and what it needs in memory already, and nothing of
ours. The one rule that must not be broken: what is tried is the copy, and the process says so.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

PATIENCE: Final = 1_200
"""Seconds that a trial may take before it is killed."""

_PLUGINS: Final = ("pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")
"""Others take as long as a test, and one of them would shuffle the tests."""

_processes: Final = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([*_PLUGINS, "hypothesis", "pydantic", "pytest", "uvloop"])


@dataclass(frozen=True)
class Account:
    """What a trial came to.

    Attributes:
        status: with which pytest ended; less than 0 where it was killed because it did not end.
        failures: the tests that failed, and why.
        files: where the modules of the package came from.
        said: what pytest printed.
    """

    status: int
    failures: Sequence[str]
    files: Sequence[Path]
    said: str

    @property
    def is_passed(self) -> bool:
        """Whether there were tests, and all of them passed."""
        return self.status == pytest.ExitCode.OK

    @property
    def is_failed(self) -> bool:
        """Whether there were tests, and one of them failed."""
        return self.status == pytest.ExitCode.TESTS_FAILED and bool(self.failures)

    @property
    def is_hung(self) -> bool:
        """Whether it did not end."""
        return self.status < 0


def copy_package(tree: Path) -> Path:
    """Copy the package, as it is now, into a tree like ours; return where it is imported from."""
    # With what is compiled already: to do that anew takes as long as a suite.
    shutil.copytree(ROOT / "src" / "outlast", tree / "src" / "outlast")
    return tree / "src"


def run_suite(
    tests: Sequence[str],
    package: Path,
    scratch: Path,
    *,
    patience: float = PATIENCE,
    stops_at_first: bool = True,
) -> Account:
    """Run tests on the package in that directory, and return what they came to.

    Raises:
        AssertionError: something else than that package was tried.
    """
    # Asserts are not rewritten: to see more of a failure, run the suite by hand.
    arguments = ["-q", "--tb=short", "--assert=plain", "-p", "no:cacheprovider"]
    # A test that hangs may swallow what pytest throws into it: only its process is sure to end.
    arguments += ["--hypothesis-seed=0", "--timeout=0", f"--basetemp={scratch / 'tests'}"]
    arguments += ["-x"] if stops_at_first else []
    process = _processes.Process(target=_run, args=([*arguments, *tests], package, scratch))
    process.start()
    try:
        process.join(patience)
    finally:
        if process.is_alive() and process.pid:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
    said = (scratch / "said").read_text()
    told: dict[str, Any] = {"failures": [], "files": []}
    with contextlib.suppress(FileNotFoundError):
        told = json.loads((scratch / "account").read_text())
    files = [Path(file) for file in told["files"]]
    strange = [file for file in files if not file.is_relative_to(package)]
    assert not strange, f"{strange} is not of {package}:\n{said}"
    assert process.exitcode is not None
    return Account(process.exitcode, told["failures"], files, said)


# In the process of a trial


class _Witness:
    """A plugin of pytest that says what was tried, and what failed."""

    def __init__(self, account: Path) -> None:
        self._account = account
        self._failures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of why a test failed."""
        if report.failed:
            crash: Any = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash else str(report.longrepr)
            self._failures.append(f"{report.nodeid}: {why}")

    def pytest_sessionfinish(self) -> None:
        """Leave the account."""
        ours = [name for name in sys.modules if name.partition(".")[0] == "outlast"]
        files = [file for name in ours if (file := getattr(sys.modules[name], "__file__", None))]
        self._account.write_text(json.dumps({"failures": self._failures, "files": files}))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def _run(arguments: list[str], package: Path, scratch: Path) -> None:
    os.setsid()  # so that whatever it starts can be killed with it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    said = os.open(scratch / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(ROOT)
    sys.path.insert(0, str(package))
    for name in [*os.environ]:
        if name.startswith("PYTEST_") or name == "OUTLAST_SOAK":
            del os.environ[name]
    os.environ["PYTHONPATH"] = str(package)  # of those that a test starts
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(scratch / "hypothesis")
    plugins = [*map(import_module, _PLUGINS), _Witness(scratch / "account")]
    sys.exit(pytest.main(arguments, plugins))
