"""Tests of the tests: every planted defect is noticed by suites that know nothing of it.

`make test` tries those that take less than a second, but for what `test_store_defects` plants, too;
`make soak` tries all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mutants.planting import MOST_LINES, Defect, Suite, read_defect
from tests.mutants.trial import PATIENCE, Account, copy_package, run_suite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE + 60)]

IS_SOAK = bool(os.environ.get("OUTLAST_SOAK"))

HANGS_FOR = 30.0
"""Seconds after which a suite does not end that takes a moment otherwise."""

DEFECTS = [read_defect(path) for path in sorted(Path(__file__).parent.glob("*.patch"))]

TRIALS = [
    (defect, suite) for defect in DEFECTS for suite in defect.suites if IS_SOAK or not suite.is_slow
]


@pytest.mark.soak
@pytest.mark.parametrize(("defect", "suite"), TRIALS, ids=str)
def test_a_defect_is_noticed(defect: Defect, suite: Suite, tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    defect.plant(tmp_path)

    patience = HANGS_FOR if suite.hangs else PATIENCE
    account = run_suite(suite.tests, package, tmp_path, patience=patience)

    complain_unless_noticed(defect, suite, account)
    if not suite.hangs:
        for hunk in defect.hunks:
            assert tmp_path / hunk.file in account.files, f"{suite} did not load {hunk.file}"


def complain_unless_noticed(defect: Defect, suite: Suite, account: Account) -> None:
    if suite.hangs:
        assert account.is_hung, f"{suite} ended with {defect}:\n{account.said}"
        return
    assert not account.is_hung, (
        f"{suite} does not end with {defect}: name one that says what is wrong, or write `(hangs)` "
        f"behind it:\n{account.said}"
    )
    assert not account.is_passed, (
        f"{defect} is not noticed by {suite}: {defect.sentence} Write a test that fails with it, "
        "beside those of the rule that it breaks, and name it in the patch"
    )
    assert account.is_failed, f"{suite} was not run with {defect}:\n{account.said}"


@pytest.mark.soak
def test_without_a_defect_the_same_suites_pass(tmp_path: Path) -> None:
    tests = [*dict.fromkeys(test for _, suite in TRIALS for test in suite.tests)]

    account = run_suite(tests, copy_package(tmp_path), tmp_path, stops_at_first=False)

    assert account.is_passed, account.said


def test_a_defect_applies_and_is_small(tmp_path: Path) -> None:
    for defect in DEFECTS:
        copy_package(tmp_path / defect.name)

        defect.plant(tmp_path / defect.name)

        assert 1 <= defect.lines <= MOST_LINES, defect.name
