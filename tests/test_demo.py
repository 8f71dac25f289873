"""`outlast demo` from outside: its processes, its status, what it prints."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.slow

OUTLAST = (sys.executable, "-c", "from outlast.cli import main; main()")
IS_SOAK = bool(os.environ.get("OUTLAST_SOAK"))


@pytest.fixture
def demo(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs the demo, with its files in a directory of the test's own."""
    (tmp_path / "tmp").mkdir()

    def run(*arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*OUTLAST, "demo", *arguments],
            env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )

    return run


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a directory with what a disk may hold under names that end in `.py`."""
    root = tmp_path / "some sources"
    (root / "package.py").mkdir(parents=True)
    (root / "package.py" / "inner.py").write_text("def f():\n    'Document.'\n")
    (root / "good.py").write_text("import os\n\n\ndef f(a):\n    return a and os\n")
    (root / "broken.py").write_text("def f(:\n")
    (root / "nul.py").write_bytes(b"a\0b")
    (root / "latin.py").write_bytes(b"name = '\xe9'\n")
    (root / "deep.py").write_bytes(b"a" + b".b" * 10_000)
    (root / "huge.py").write_bytes(b"#" * 3_000_000)
    (root / "dangling.py").symlink_to("nowhere")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.py")
    if sys.platform != "darwin":
        (root / os.fsdecode(b"\xfcber |`\n.py")).write_text("x = 1\n")
    return root


def passes(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the summary that the demo printed, and nothing but it."""
    summary: dict[str, Any] = json.loads(done.stdout)
    wrong = [check for check in summary.get("checks", ()) if not check["passed"]]
    assert (done.returncode, done.stderr, wrong) == (0, "", []), summary
    assert len(summary["kills"]) >= 5
    return summary


def orphans(of: Path) -> list[str]:
    """Return the workers that were started by a demo whose files are below the directory."""
    listed = subprocess.run(
        ["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True
    )
    return [row for row in listed.stdout.splitlines() if "demo.worker" in row and str(of) in row]


def test_nothing_is_lost_on_whatever_files_there_are(
    demo: Callable[..., subprocess.CompletedProcess[str]], sources: Path, tmp_path: Path
) -> None:
    summary = passes(demo(sources, "--json", "--seed", "1"))

    report = Path(summary["report"]).read_text()
    assert summary["files"] == len([*sources.rglob("*.py")]) - 1  # one is a directory
    for line in (
        "* `broken.py`: line 1: invalid syntax",
        "* `dangling.py`: No such file or directory",
        "* `huge.py`: larger than 2,048 KiB",
        "* `pipe.py`: not a plain file",
    ):
        assert line in report
    assert "`package.py/inner.py`" in report
    assert orphans(tmp_path) == []


def test_one_file_is_enough_and_one_database_serves_again(
    demo: Callable[..., subprocess.CompletedProcess[str]], sources: Path, tmp_path: Path
) -> None:
    database, file = tmp_path / "my runs.db", sources / "good.py"

    done = demo(file, "--seed", "2", "--db", database)

    assert (done.returncode, done.stderr) == (0, "")
    assert "no recorded step ran again" in done.stdout
    assert "FAILS" not in done.stdout
    assert f"sqlite:///{quote(str(database))}" in done.stdout
    assert "outlast runs show" in done.stdout
    with changed_between_the_runs(tmp_path, file):
        summary = passes(demo(file, "--json", "--seed", "3", "--db", database))
    assert summary["files"] == 1
    assert summary["changed"] == ["good.py"]


@contextmanager
def changed_between_the_runs(tmp_path: Path, file: Path) -> Iterator[None]:
    """Let the file be gone once the next run has read it, and before the undisturbed one does."""
    before = set(tmp_path.glob("tmp/*/undisturbed-1"))

    def change() -> None:
        while set(tmp_path.glob("tmp/*/undisturbed-1")) == before:
            time.sleep(0.001)
        file.unlink()

    thread = threading.Thread(target=change)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("missing", "No such file or directory"),
        ("empty", "there is no Python file"),
        ("text.txt", "neither a directory nor a Python file"),
    ],
)
def test_nothing_to_read_is_status_2(
    demo: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    path: str,
    complaint: str,
    as_json: bool,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")

    done = demo(tmp_path / path, *(["--json"] if as_json else []))

    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert (complaint in json.loads(done.stdout)["error"]) if as_json else done.stdout == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="names are Unicode there")
def test_a_path_of_any_bytes_can_be_named(
    demo: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = demo(tmp_path / os.fsdecode(b"gone \xff"))

    assert (done.returncode, "gone \\xff: No such file" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [("memory://", "cannot share"), ("nonsense://x", "nonsense"), ("gone/there.db", "gone")],
)
def test_a_database_that_cannot_be_used_is_said(
    demo: Callable[..., subprocess.CompletedProcess[str]], sources: Path, url: str, complaint: str
) -> None:
    done = demo(sources, "--db", url)

    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a demo whose first worker runs."""
    process = subprocess.Popen(
        [*OUTLAST, "demo", "--json", "--seed", "4"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        while not orphans(tmp_path):
            assert process.poll() is None
            time.sleep(0.01)
        yield process
        process.kill()


def test_ctrl_c_ends_it_and_its_workers(started: subprocess.Popen[str], tmp_path: Path) -> None:
    started.send_signal(signal.SIGINT)
    out, err = started.communicate()

    assert started.returncode == 130
    assert "stopped" in json.loads(out)["error"]
    assert "Traceback" not in err
    assert orphans(tmp_path) == []


def test_a_demo_that_is_killed_leaves_no_worker(
    started: subprocess.Popen[str], tmp_path: Path
) -> None:
    started.kill()
    started.wait()

    deadline = time.monotonic() + 10
    while orphans(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert orphans(tmp_path) == []


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120) if IS_SOAK else [100])
def test_the_default_input_passes_with_every_seed(
    demo: Callable[..., subprocess.CompletedProcess[str]], seed: int
) -> None:
    summary = passes(demo("--json", "--seed", str(seed)))

    assert summary["files"] >= 40


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.skipif(not IS_SOAK, reason="takes minutes: `make soak`")
def test_more_than_five_hundred_files_pass(
    demo: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    summary = passes(demo(Path(sysconfig.get_path("purelib")), "--json"))

    assert summary["files"] > 500
