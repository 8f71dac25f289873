"""What the README and the docs show is true: their code runs, and prints what they say it prints.

The blocks of a page are taken in order, in one empty directory for each page.

* Blocks marked `python` are one program, which is run as a whole.
* One marked `python NAME.py` is saved under that name.
* One marked `console` is run line by line: `$ ` begins a command, what follows is its output.
* One marked `python no-run: REASON` is not run.
"""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

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
    printed = [(command, run(["sh", "-c", command], tmp_path)) for command, _ in page.commands]

    assert printed == page.commands


def test_a_block_that_is_not_run_has_a_reason() -> None:
    with pytest.raises(ValueError, match="no-run"):
        parse("```python no-run\nprint()\n```\n")


def test_every_block_of_python_or_console_is_seen() -> None:
    for path in PAGES:
        text = path.read_text()

        opened = re.findall(r"^ *```(?:python|console)", text, re.MULTILINE)
        assert len(FENCE.findall(text)) == len(opened), path
