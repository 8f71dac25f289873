"""What the demo's agent finds out about files, by itself: no run, no process."""

import ast
import os
import socket
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlast.cli.demo import analysis, sources
from outlast.cli.demo.analysis import Function, Outline, Tally
from outlast.cli.demo.report import Chapter, render
from outlast.cli.demo.sources import Unreadable, UnusablePath, find_sources, read_source

STDLIB = Path(sysconfig.get_path("stdlib"))


def complexity(body: str) -> int:
    source = "def f():\n" + "\n".join(f"    {line}" for line in body.splitlines())
    return analysis.outline(source.encode()).functions[0].complexity


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", 1),
        ("if a: b", 2),
        ("if a: b\nelif c: d\nelse: e", 3),
        ("for a in b: c\nelse: d", 2),
        ("while a: b", 2),
        ("try: a\nexcept B: c\nexcept D: e\nfinally: f", 3),
        ("a = b if c else d", 2),
        ("return a and b and c or d", 4),
        ("return [a for b in c if d if e]", 4),
        ("assert a", 2),
        ("with a: b", 1),
        ("match a:\n    case 1: b\n    case 2: c\n    case _: d", 3),
        ("match a:\n    case b if c: d\n    case e: f", 2),
        ("return lambda: a if b else c", 2),
        ("def g():\n    if a: b", 1),
        ("class A:\n    if a: b", 1),
    ],
)
def test_complexity_is_one_more_than_the_decisions(body: str, expected: int) -> None:
    assert complexity(body) == expected


def test_a_function_is_named_by_where_it_is_and_its_decisions_are_its_own() -> None:
    source = b"""
import os

class Reader:
    def read(self):
        "Read."
        async def step():
            if os: pass
        return step
    class Inner:
        def close(self): pass
"""

    found = analysis.outline(source).functions

    assert found == (
        Function("Reader.read", 5, 1, has_docstring=True),
        Function("Reader.read.<locals>.step", 7, 2, has_docstring=False),
        Function("Reader.Inner.close", 11, 1, has_docstring=False),
    )


def test_review_gives_what_has_no_docstring_and_the_most_complex_first() -> None:
    plain = Function("plain", 1, 1, has_docstring=True)
    bare = Function("bare", 2, 10, has_docstring=False)
    hard, harder = (Function(name, 3, count, True) for name, count in (("h", 11), ("i", 12)))

    review = analysis.review(Outline(functions=(plain, bare, hard, harder)))

    assert review.undocumented == (bare,)
    assert review.complex == (harder, hard)


def test_imports_are_counted_by_their_top_level_and_ranked() -> None:
    source = b"""
import os, os.path
from collections.abc import Mapping
def f() -> None:
    from . import a
    from .b import c
    import ast
"""

    outline = analysis.outline(source)

    assert outline.imports == ("os", "os.path", "collections.abc", ".", ".b", "ast")
    assert analysis.rank_imports(outline) == (
        Tally(".", 2),
        Tally("os", 2),
        Tally("ast", 1),
        Tally("collections", 1),
    )


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (b"def f(:", "line 1: invalid syntax"),
        (b"a\0b", "null bytes"),
        (b"\xff\xfe", "codec can't decode"),
        (b"# coding: no-such\n", "unknown encoding"),
        (b"a" + b".b" * 100_000, "nested too deep"),
        (b"-" * 100_000 + b"1", "too complex"),
        (b"(" * 1000, "too many nested parentheses"),
        (b"x = " + b"9" * 10_000, "Exceeds the limit"),
        (b"if a: b\n" + b"elif a: b\n" * 20_000, "too complex"),
    ],
)
def test_what_cannot_be_parsed_is_a_problem_and_no_error(source: bytes, complaint: str) -> None:
    outline = analysis.outline(source)

    assert complaint in (outline.problem or "")
    assert outline.bytes == len(source)
    assert (outline.functions, outline.imports) == ((), ())


def test_a_warning_about_a_file_is_not_ours() -> None:
    assert analysis.outline(b"x = '\\d'; y = 1 is 1").problem is None


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8")))
@example(b"# coding: utf-7\n+2AA-")
@example(b"# coding: undefined\nx")
@example(b"\xef\xbb\xbf# coding: latin-1\n")
def test_any_bytes_have_an_outline_that_is_always_the_same(source: bytes) -> None:
    outline = analysis.outline(source)

    assert outline == analysis.outline(source)
    assert "\n" not in (outline.problem or "")
    (outline.problem or "").encode()


def functions_in(source: bytes) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    return sum(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(tree))


def stdlib_files() -> list[Path]:
    found = sorted(STDLIB.rglob("*.py"))
    every = 1 if os.environ.get("OUTLAST_SOAK") else 40
    return list(islice(found, 0, None, every))


@pytest.mark.soak
@pytest.mark.slow
def test_every_file_of_the_standard_library_has_an_outline() -> None:
    for path in stdlib_files():
        source = path.read_bytes()

        outline = analysis.outline(source)

        if outline.problem is None:
            assert len(outline.functions) == functions_in(source), path


def test_the_default_is_a_package_of_the_standard_library_with_forty_files() -> None:
    found = find_sources(sources.default_path())

    assert len(found.files) >= 40
    assert STDLIB in sources.located(found.root).parents


def test_a_library_without_packages_asks_for_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))

    with pytest.raises(UnusablePath, match="name a PATH"):
        sources.default_path()


def test_every_python_file_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("one.py", "a/two.py", "a/b/three.py", "a/four.txt", "five.pyc"):
        (tmp_path / name).write_text("")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "dir.py").mkdir()
    (tmp_path / "dir.py" / "six.py").write_text("")

    found = find_sources(tmp_path)

    assert found.files == ("a/b/three.py", "a/two.py", "dir.py/six.py", "one.py")
    assert found.skipped == ()


def test_a_path_may_be_one_file(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")

    found = find_sources(tmp_path / "one.py")

    assert found.files == ("one.py",)
    assert read_source(found.root, "one.py") == b"x = 1\n"


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "no Python file"),
        (lambda path: path.write_text("x"), "neither a directory nor a Python file"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
)
def test_a_path_without_python_files_is_refused(
    tmp_path: Path, make: Callable[[Path], object], complaint: str
) -> None:
    path = tmp_path / "here"
    make(path)

    with pytest.raises(UnusablePath, match=complaint):
        find_sources(path)


def test_a_path_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(UnusablePath, match="null"):
        find_sources(Path("a\0b"))


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_FILES", 2)
    for number in range(3):
        (tmp_path / f"{number}.py").write_text("")

    with pytest.raises(UnusablePath, match="more than 2"):
        find_sources(tmp_path)


def test_a_directory_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").write_text("")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def scandir(path: Path) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)

    assert find_sources(tmp_path).skipped == (("closed", "Permission denied"),)


@pytest.mark.skipif(sys.platform == "darwin", reason="names are Unicode there")
@pytest.mark.parametrize("name", [b"with space.py", b"\xc3\xbcber.py", b"\xff\n.py", b"100%`|.py"])
def test_a_name_of_any_bytes_is_written_read_and_shown(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(b"x = 1")

    (written,) = find_sources(tmp_path).files

    assert written.isascii()
    assert os.fsencode(sources.located(written)) == name
    assert read_source(sources.written(tmp_path), written) == b"x = 1"
    assert sources.shown(written).isprintable()
    sources.shown(written).encode()


def test_what_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    root = sources.written(tmp_path)
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "broken.py").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "huge.py").write_bytes(b"#" * (sources.MAX_BYTES + 1))
    reasons = {
        "gone.py": "No such file",
        "folder.py": "Is a directory",
        "broken.py": "No such file",
        "pipe.py": "not a plain file",
        "huge.py": "larger than 2,048 KiB",
    }

    for name, reason in reasons.items():
        with pytest.raises(Unreadable, match=reason):
            read_source(root, name)


def test_a_socket_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.py")

        with pytest.raises(Unreadable):
            read_source(".", "socket.py")


def chapter(file: str, source: bytes) -> Chapter:
    outline = analysis.outline(source)
    return Chapter(file, outline, analysis.review(outline), analysis.rank_imports(outline))


def test_the_report_shows_every_file_and_every_problem() -> None:
    chapters = [
        chapter("good.py", b"import os\ndef f(): pass\n" + b"def g(a):\n " + b"a and " * 11 + b"a"),
        chapter("bad.py", b"def f(:"),
        chapter("100%25%60%7C.py", b""),
    ]

    text = render(
        "/root", [("shut", "Permission denied")], [], chapters, [Tally("os", 1)], approved=True
    )

    assert "* `shut`: Permission denied\n" in text
    assert "* `bad.py`: line 1: invalid syntax\n" in text
    assert "| `g` | `good.py`, line 3 | 12 |" in text
    assert "| `good.py` | 2 of 2 | `f` |" in text
    assert "| `os` | 1 |" in text
    assert "| `` 100%`\\|.py `` | 0 |" in text


def test_the_report_of_nothing_has_all_its_parts() -> None:
    text = render("/root", [], [], [], [], approved=False)

    assert "not approved" in text
    assert text.count("\n## ") == 6
    assert "Nothing." in text
