"""What the README and the docs show is true: their code runs, and prints what they say it prints.

The blocks of a page are taken in order, in one empty directory for each page.

* Blocks marked `python` are one program, which is run as a whole.
* One marked `python NAME.py` is saved under that name.
* One marked `console` is run line by line: `$ ` begins a command, what follows is its output.
* One marked `python no-run: REASON` is not run.
"""

import inspect
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer.main

import outlast
from outlast import errors
from outlast.cli.commands import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^```(?P<language>python|console)\b[ ]*(?P<mark>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE
)
COMMAND = re.compile(r"^\$ (?P<command>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)
NO_RUN = re.compile(r"no-run: \S.*")
FILE = re.compile(r"\w+\.py")


@dataclass
class Page:
    """What one page shows: a program, files, and commands with their output."""

    program: str = ""
    files: dict[str, str] = field(default_factory=dict)
    commands: list[tuple[str, str]] = field(default_factory=list)


def parse(text: str) -> Page:
    page = Page()
    for block in FENCE.finditer(text):
        language, mark = block["language"], block["mark"]
        if language == "console":
            found = COMMAND.finditer(block["text"])
            page.commands += [(match["command"], match["output"]) for match in found]
        elif FILE.fullmatch(mark):
            page.files[mark] = block["text"]
        elif not mark:
            # Empty lines keep the line numbers of a traceback those of the page.
            lines = text.count("\n", 0, block.start("text")) - page.program.count("\n")
            page.program += "\n" * lines + block["text"]
        elif not NO_RUN.fullmatch(mark):
            raise ValueError(f"a block is marked {mark!r}: name a file, or say `no-run: REASON`")
    return page


def run(command: list[str], where: Path) -> str:
    """Run a command as in a terminal, and return what stands there afterwards."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=where,
        env={**os.environ, "PATH": path, "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == -signal.SIGKILL:
        return done.stdout + "Killed\n"
    assert done.returncode == 0, done.stdout
    return done.stdout


SHOWN = {
    str(path.relative_to(ROOT)): page
    for path in PAGES
    if (page := parse(path.read_text())).program or page.commands
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_what_a_page_shows_is_true(name: str, tmp_path: Path) -> None:
    page = SHOWN[name]
    for file, text in page.files.items():
        (tmp_path / file).write_text(text)
    program = tmp_path / "page.py"
    program.write_text(page.program)

    run([sys.executable, str(program)], tmp_path)
    # In place of the shell, which would have its own way to say that a program was killed.
    said = [(command, ["sh", "-c", f"exec {command}"]) for command, _ in page.commands]
    printed = [(command, run(words, tmp_path)) for command, words in said]

    assert printed == page.commands


def test_a_block_that_is_not_run_has_a_reason() -> None:
    with pytest.raises(ValueError, match="no-run"):
        parse("```python no-run\nprint()\n```\n")


def test_every_block_of_python_or_console_is_seen() -> None:
    for path in PAGES:
        text = path.read_text()

        opened = re.findall(r"^ *```(?:python|console)", text, re.MULTILINE)
        assert len(FENCE.findall(text)) == len(opened), path


def text(page: str) -> str:
    return (ROOT / "docs" / page).read_text()


def test_what_is_generated_is_as_the_code_says() -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "generated.py"))["pages"]()

    stale = [str(path) for path, written in pages.items() if path.read_text() != written]
    assert len(pages) == 5
    assert stale == [], "run `python docs/generated.py`"


@pytest.mark.parametrize(
    ("function", "heading"),
    [
        (outlast.open, "## `outlast.open`"),
        (outlast.task, "## `@task`"),
        (outlast.RetryPolicy, "## `RetryPolicy`"),
        (outlast.Step.options, "## `ctx.step.options`"),
    ],
)
def test_every_setting_is_documented(function: Callable[..., object], heading: str) -> None:
    section = text("reference/settings.md").split(heading)[1].split("\n## ")[0]

    rows = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert rows == set(inspect.signature(function).parameters) - {"function", "self"}


def test_every_error_is_documented() -> None:
    named = {
        name
        for name, found in vars(errors).items()
        if inspect.isclass(found)
        and issubclass(found, errors.OutlastError)
        and found is not errors.OutlastError
    }

    rows = re.findall(r"^\| `(\w+)` \|", text("how-to/errors.md"), re.MULTILINE)
    assert sorted(rows) == sorted(named)


def test_every_command_is_documented() -> None:
    page = text("reference/command.md")
    commands = getattr(typer.main.get_command(app), "commands")  # noqa: B009 - of a group

    for name, command in commands.items():
        section = re.search(rf"^## `outlast {name}\b.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, f"outlast {name}"
        for part in getattr(command, "commands", {}):
            assert re.search(rf"`{part}\b", section[0]), f"outlast {name} {part}"


def test_every_guarantee_names_tests_that_are_there() -> None:
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "src").rglob("*.py")]
    there = {name for path in sources for name in re.findall(r"def (test_\w+)\(", path.read_text())}

    page = text("guarantees.md")
    promises = re.findall(r"^## \d.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert len(promises) == 7
    assert all(re.search(r"`test_\w+`", promise) for promise in promises)
    assert [name for name in re.findall(r"`(test_\w+)`", page) if name not in there] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_sentence_has_a_line_of_its_own(path: Path) -> None:
    blocks = re.compile(r"^```.*?^```$|<!-- gen.*?<!-- end -->", re.MULTILINE | re.DOTALL)
    tables = re.compile(r"^\|.*$", re.MULTILINE)
    prose = tables.sub("", blocks.sub("", path.read_text()))

    assert re.findall(r".*[a-z`)][.!?] +[A-Z].*", prose) == []
