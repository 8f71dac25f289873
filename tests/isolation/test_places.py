"""What a child can import, and what is refused with the remedy."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outlast import TaskContext, UsageError, sync, task
from outlast.engine.isolation.places import Place, find, load, place_of

ROOT = Path(__file__).parents[2]


async def at_the_top(ctx: TaskContext[None]) -> None: ...


class Tasks:
    @staticmethod
    async def inside_a_class(ctx: TaskContext[None]) -> None: ...


@pytest.mark.parametrize("function", [at_the_top, Tasks.inside_a_class])
def test_what_a_module_has_is_found_again(function: Any) -> None:
    assert find(place_of("it", function)) is function


def test_a_function_inside_a_function_is_refused_when_it_is_declared() -> None:
    async def local(ctx: TaskContext[None]) -> None: ...

    with pytest.raises(UsageError, match="move it to the top level of a module"):
        task(isolation="process")(local)
    assert task(isolation="inline")(local).name.endswith("local")


def test_a_lambda_is_refused() -> None:
    with pytest.raises(UsageError, match="has no name"):
        task(isolation="process", name="one")(lambda ctx: None)


@pytest.mark.parametrize("isolation", ["thread", "guard", 1])
def test_a_coroutine_function_is_inline_or_isolated(isolation: Any) -> None:
    with pytest.raises(UsageError, match="its isolation is 'inline' or 'process'"):
        task(isolation=isolation)(at_the_top)


def test_a_plain_function_is_in_a_thread_or_isolated() -> None:
    def plain(ctx: sync.TaskContext[None]) -> None: ...

    with pytest.raises(UsageError, match="its isolation is 'thread' or 'process'"):
        task(isolation="inline")(plain)
    assert task(isolation="thread")(plain).name.endswith("plain")


@pytest.mark.parametrize("place", [Place("no.such.module", "f"), Place(__name__, "no_such")])
def test_what_is_not_there_is_said(place: Place) -> None:
    with pytest.raises(UsageError, match=r"no\.such\.module|no_such"):
        find(place)


def test_a_script_that_fails_leaves_no_half_of_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit(2)\n")
    for _ in range(2):
        with pytest.raises(UsageError, match="belongs under `if __name__"):
            load(Place("__main__", "handler", str(script)))


PROGRAM = """
import asyncio
import outlast
from outlast import TaskContext, TaskFailed, task

@task(isolation="process")
async def greet(ctx: TaskContext[str]) -> str:
    return f"hello {ctx.input} from {__name__}"

async def main() -> None:
    async with outlast.open("memory://"):
        try:
            print((await greet.run("you")).output)
        except TaskFailed as error:
            print(error)
"""

GUARDED = f"{PROGRAM}\nif __name__ == '__main__':\n    asyncio.run(main())"


def output_of(*command: str, cwd: Path, said: str | None = None) -> str:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    ran = subprocess.run(
        [sys.executable, *command],
        input=said,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ran.stdout


@pytest.mark.slow
def test_a_script_runs_its_own_tasks(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(GUARDED)

    assert output_of("script.py", cwd=tmp_path) == "hello you from __outlast_main__\n"


@pytest.mark.slow
def test_nothing_is_left_that_python_warns_of(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(GUARDED)

    said = output_of("-W", "error", "script.py", cwd=tmp_path)

    assert said == "hello you from __outlast_main__\n"


@pytest.mark.slow
def test_what_lies_in_the_working_directory_does_not_replace_a_module(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "script.py").write_text(GUARDED)
    (tmp_path / "json.py").write_text("raise SystemExit('ours')\n")

    said = output_of("scripts/script.py", cwd=tmp_path)

    assert said == "hello you from __outlast_main__\n"


@pytest.mark.slow
def test_a_module_that_is_run_does_too(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(GUARDED)

    assert output_of("-m", "module", cwd=tmp_path) == "hello you from module\n"


@pytest.mark.slow
def test_a_script_without_its_main_guard_is_told(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROGRAM + "\nasyncio.run(main())")

    said = output_of("-W", "ignore", "script.py", cwd=tmp_path)

    assert "belongs under `if __name__ == '__main__':`" in said


@pytest.mark.slow
@pytest.mark.parametrize("command", [("-c", PROGRAM), ("-",)])
def test_a_prompt_is_refused_when_the_task_is_declared(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    said = output_of(*command, cwd=tmp_path, said=PROGRAM)

    assert "typed into a prompt or a notebook" in said
