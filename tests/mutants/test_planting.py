"""Patches are read and planted as they say, or not at all; a trial says what a suite came to."""

from pathlib import Path

import pytest

from tests.mutants.planting import Suite, Unplantable, read_defect
from tests.mutants.trial import copy_package, run_suite

SOUND = "def one():\n    return 1\n\n\ndef two():\n    return 2\n"

PATCH = """\
A function gives
another number.

Breaks: 1, 3
Noticed by: tests/test_a.py::test_a tests/test_b.py
Noticed in a soak by: tests/c (hangs)

diff --git a/src/numbers.py b/src/numbers.py
--- a/src/numbers.py
+++ b/src/numbers.py
@@ -5,2 +5,2 @@ def two():
 def two():
-    return 2
+    return 3
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/numbers.py").write_text(SOUND)
    return tmp_path


def written(tree: Path, patch: str) -> Path:
    path = tree / "other-number.patch"
    path.write_text(patch)
    return path


def test_a_patch_says_what_it_is(tree: Path) -> None:
    defect = read_defect(written(tree, PATCH))

    assert str(defect) == "other-number.patch"
    assert defect.sentence == "A function gives another number."
    assert defect.breaks == ("1", "3")
    assert defect.suites == (
        Suite(("tests/test_a.py::test_a", "tests/test_b.py")),
        Suite(("tests/c",), is_slow=True, hangs=True),
    )
    assert defect.lines == 2


@pytest.mark.parametrize("moved", [SOUND, f"import this\n\n\n{SOUND}\n\ndef three(): ...\n"])
def test_a_patch_applies_wherever_its_lines_stand(tree: Path, moved: str) -> None:
    (tree / "src/numbers.py").write_text(moved)

    read_defect(written(tree, PATCH)).plant(tree)

    assert (tree / "src/numbers.py").read_text() == moved.replace("return 2", "return 3")


@pytest.mark.parametrize(
    ("now", "times"),
    [
        (SOUND.replace("return 2", "return  2"), 0),
        (SOUND.replace("def two", "async def two"), 0),
        (SOUND.replace("return 2", "return 2  # as was said"), 0),
        (SOUND + SOUND, 2),
    ],
)
def test_a_patch_applies_to_what_it_says_once_or_not_at_all(
    tree: Path, now: str, times: int
) -> None:
    (tree / "src/numbers.py").write_text(now)

    with pytest.raises(Unplantable, match=f"does not apply any more.* {times} times, not once"):
        read_defect(written(tree, PATCH)).plant(tree)
    assert (tree / "src/numbers.py").read_text() == now


def test_a_file_that_is_gone_is_said(tree: Path) -> None:
    (tree / "src/numbers.py").unlink()

    with pytest.raises(Unplantable, match="0 times"):
        read_defect(written(tree, PATCH)).plant(tree)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("another number.", "another number"),
        ("Breaks: 1, 3\n", ""),
        ("Noticed by: ", "Seen by: "),
        ("+++ b/src/numbers.py", "+++ b/src/letters.py"),
        ("-5,2 +5,2", "-5,3 +5,2"),
        ("-    return 2\n", ""),
    ],
)
def test_what_is_no_patch_of_ours_is_refused(tree: Path, old: str, new: str) -> None:
    patch = PATCH.replace(old, new).replace("Noticed in a soak", "Seen")

    with pytest.raises(Unplantable, match=r"other-number\.patch"):
        read_defect(written(tree, patch))


# Trials


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("def test_it(): assert outlast.open", "passed"),
        ("def test_it(): assert not outlast.open", "failed"),
        ("def test_it(missing): ...", "failed"),
        ("import nothing_of_this_name", None),
        ("", None),
    ],
)
def test_a_trial_tells_a_test_that_fails_from_one_that_was_not_run(
    tmp_path: Path, text: str, verdict: str | None
) -> None:
    suite = tmp_path / "test_it.py"
    suite.write_text(f"import outlast\n\n{text}\n")

    account = run_suite([str(suite)], copy_package(tmp_path), tmp_path)

    assert account.is_passed is (verdict == "passed"), account.said
    assert account.is_failed is (verdict == "failed"), account.said
    assert not account.is_hung


@pytest.mark.slow
def test_a_trial_that_does_not_end_is_ended(tmp_path: Path) -> None:
    suite = tmp_path / "test_it.py"
    suite.write_text("import threading\n\ndef test_it(): threading.Event().wait()\n")

    account = run_suite([str(suite)], copy_package(tmp_path), tmp_path, patience=2)

    assert account.is_hung
    assert not account.is_failed


@pytest.mark.slow
def test_a_trial_of_another_package_is_none(tmp_path: Path) -> None:
    suite, other = tmp_path / "test_it.py", tmp_path / "other"
    suite.write_text("import outlast\n\ndef test_it(): ...\n")
    copy_package(tmp_path)
    other.mkdir()

    with pytest.raises(AssertionError, match="is not of"):
        run_suite([str(suite)], other, tmp_path)
