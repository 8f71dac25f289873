"""The commands, as a shell sees them: status, standard output, standard error."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner, Result

import outlast
from outlast import TaskContext, task
from outlast.cli.commands import app

OUTLAST = (sys.executable, "-c", "from outlast.cli import main; main()")

TASKS = """
import asyncio
import outlast

@outlast.task
async def linger(ctx: outlast.TaskContext[float]) -> str:
    await ctx.emit("entered")
    if ctx.entry_mode == "recovered":
        return "recovered"
    await asyncio.sleep(ctx.input)
    return "done"
"""


@task(name="cli.wait")
async def wait_for_word(ctx: TaskContext[str]) -> str:
    return await ctx.wait("word", str)


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """Return a store with the runs `one` and `two`, which no worker runs."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with outlast.open(url, worker=False):
        await wait_for_word.start("1", id="one", tags={"colour": "red"})
        await wait_for_word.start("2", id="two")
    return url


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def answer(*arguments: str) -> Any:
    """Return the JSON that a command prints, and nothing but it."""
    result = call(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def ids(document: Any) -> list[str]:
    return [run["id"] for run in document["runs"]]


def test_runs_are_listed_newest_first_page_by_page(url: str) -> None:
    first = answer("runs", "list", "--url", url, "--limit", "1")
    second = answer("runs", "list", "--url", url, "--limit", "1", "--after", first["next"])

    assert ids(first) == ["two"]
    assert ids(second) == ["one"]
    assert first["runs"][0]["status"] == "pending"


@pytest.mark.slow
async def test_what_a_terminal_cannot_show_is_escaped(url: str) -> None:
    async with outlast.open(url, worker=False):
        await wait_for_word.start("3", id="käse")

    listed = subprocess.run(
        [*OUTLAST, "runs", "list", "--url", url],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "k\\xe4se" in listed.stdout


def test_runs_are_listed_by_what_they_are(url: str) -> None:
    assert ids(answer("runs", "list", "--url", url, "--tag", "colour=red")) == ["one"]
    assert ids(answer("runs", "list", "--url", url, "--status", "completed")) == []
    assert ids(answer("runs", "list", "--url", url, "--task", "cli.wait")) == ["two", "one"]


def test_a_run_is_shown_with_its_journal(url: str) -> None:
    shown = answer("runs", "show", "one", "--url", url)

    assert (shown["id"], shown["task"], shown["tags"]) == ("one", "cli.wait", {"colour": "red"})
    assert [entry["type"] for entry in shown["history"]] == ["created"]


def test_a_run_is_shown_without_entries_where_none_are_wanted(url: str) -> None:
    assert answer("runs", "show", "one", "--url", url, "--last", "0")["history"] == []


def test_people_get_tables(url: str) -> None:
    listed, shown = call("runs", "list", "--url", url), call("runs", "show", "one", "--url", url)

    assert (listed.exit_code, shown.exit_code) == (0, 0)
    assert "pending" in listed.stdout
    assert "created" in shown.stdout


def test_a_run_is_told_and_stopped(url: str) -> None:
    assert answer("runs", "signal", "one", "word", '"go"', "--url", url)["status"] == "pending"
    assert answer("runs", "cancel", "one", "--url", url)["status"] == "cancelled"
    assert answer("runs", "abort", "two", "--reason", "enough", "--url", url)["status"] == "aborted"
    assert answer("runs", "abort", "two", "--url", url)["status"] == "aborted"


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["show", "three"], 1, "three"),
        (["signal", "one", "word", "{"], 2, "JSON"),
        (["list", "--tag", "colour"], 2, "NAME=VALUE"),
        (["list", "--status", "lost"], 2, "not a status"),
        (["list", "--limit", "0"], 2, "limit"),
    ],
)
def test_what_is_refused_is_said(
    url: str, arguments: list[str], status: int, complaint: str
) -> None:
    result = call("runs", *arguments, "--url", url, "--json")

    assert result.exit_code == status
    assert complaint in result.stderr
    assert complaint in json.loads(result.stdout)["error"]


@pytest.mark.parametrize("url", ["postgresql://x", "sqlite:///x.db?sync", "sqlite://[::1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    result = call("runs", "list", "--url", url)

    assert result.exit_code == 2
    assert url in result.stderr


def test_looking_makes_no_database(tmp_path: Path) -> None:
    result = call("runs", "list", "--url", f"sqlite:///{tmp_path / 'none.db'}")

    assert result.exit_code == 2
    assert "none.db" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_library_imports_no_more_than_it_needs() -> None:
    code = "import sys, outlast; print(*sorted({'typer', 'rich'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "\n"


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Yield what starts a worker of the module `linger` in a directory of its own."""
    (tmp_path / "linger.py").write_text(TASKS)
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [*OUTLAST, "worker", *arguments, "--json"],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Any:
    """Return the task that the worker's module declares, for those who start it elsewhere."""

    @task(name="linger")
    async def linger(ctx: TaskContext[float]) -> str:
        raise NotImplementedError

    return linger


def event(process: subprocess.Popen[str]) -> str:
    """Return the next event that the worker tells."""
    assert process.stdout is not None
    name: str = json.loads(process.stdout.readline())["event"]
    return name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_told_to_stop_lets_its_run_end(
    start_worker: Callable[..., subprocess.Popen[str]],
    elsewhere: Any,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with outlast.open(url, worker=False):
        worker = start_worker("linger", "--url", url)
        assert event(worker) == "started"
        run = await elsewhere.start(0.3)
        assert [item.value async for item in first(run.stream())] == ["entered"]

        worker.send_signal(number)
        result = await run.result()

        assert result.output == "done"
    assert [event(worker), event(worker)] == ["stopping", "stopped"]
    assert worker.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("grace", ["0.1", "60"])
async def test_what_does_not_end_in_time_goes_on_elsewhere(
    start_worker: Callable[..., subprocess.Popen[str]],
    elsewhere: Any,
    tmp_path: Path,
    grace: str,
) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with outlast.open(url, worker=False):
        worker = start_worker("linger", "--url", url, "--grace", grace)
        assert event(worker) == "started"
        run = await elsewhere.start(600.0)
        assert [item.value async for item in first(run.stream())] == ["entered"]

        worker.terminate()
        assert event(worker) == "stopping"
        if grace == "60":
            worker.terminate()  # a second one hurries
        start_worker("linger", "--url", url)
        result = await run.result()

        assert result.output == "recovered"
    assert worker.wait() == (0 if grace == "0.1" else 128 + signal.SIGTERM)


async def first(items: Any) -> Any:
    """Give the first item only."""
    async for item in items:
        yield item
        return


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("no_such_module", "no module 'no_such_module'"),
        ("linger:nothing", "outlast.open()"),
        ("empty", "declares no task"),
        ("", "MODULE:APP"),
        ("./empty.py", "MODULE:APP"),
        (".empty", "MODULE:APP"),
    ],
)
def test_a_module_that_is_no_use_is_refused(
    start_worker: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    target: str,
    complaint: str,
) -> None:
    (tmp_path / "empty.py").write_text("")

    worker = start_worker(target)
    out, err = worker.communicate()

    assert worker.returncode == 2
    assert complaint in err
    assert complaint in json.loads(out)["error"]
    assert not (tmp_path / "outlast.db").exists()


def test_a_module_may_bring_its_own_app(
    start_worker: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(
        TASKS + "\napp = outlast.open('sqlite:///own.db', concurrency=1)\n"
    )

    worker = start_worker("own:app")

    assert event(worker) == "started"
    worker.terminate()
    assert [event(worker), event(worker)] == ["stopping", "stopped"]
    assert (tmp_path / "own.db").exists()


def test_an_app_with_settings_of_its_own_takes_no_others(
    start_worker: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(TASKS + "\napp = outlast.open('sqlite:///own.db')\n")

    worker = start_worker("own:app", "--url", "sqlite:///other.db", "--grace", "10")
    out, err = worker.communicate()

    assert worker.returncode == 2
    assert "leave out --url, --grace" in err
    assert "--url" in json.loads(out)["error"]
    assert {path.name for path in tmp_path.iterdir()} <= {"own.py", "linger.py", "__pycache__"}


def test_the_docs_name_every_command_and_option() -> None:
    page = (Path(__file__).parent.parent / "docs" / "reference" / "command.md").read_text()
    top = typer.main.get_group(app)
    commands = [(f"`outlast {name}", one) for name, one in top.commands.items()]
    for group in (one for one in top.commands.values() if isinstance(one, TyperGroup)):
        commands += [(f"| `{name}", one) for name, one in group.commands.items()]

    names = [name for name, _ in commands]
    names += [f"`{name}`" for _, one in commands for param in one.params for name in long(param)]

    assert [name for name in names if name not in page] == []


def long(param: Any) -> list[str]:
    return [name for name in param.opts if name.startswith("--")]
