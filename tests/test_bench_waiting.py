"""Runs that wait cost a worker nothing each."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.waiting import COLUMNS, TRACED, Sizes, measure_waiting

SIZES = Sizes(runs=(1_000,), traced_share=1.0, signals=5, idle_seconds=0.2)
MAX_MB_OF_OBJECTS = 3.0  # an attempt that is kept, or a handle, takes more than 3 KiB


@pytest.mark.slow
@pytest.mark.timeout(300)  # it starts six processes, one after the other
def test_a_worker_keeps_nothing_of_a_thousand_runs_that_wait(tmp_path: Path) -> None:
    table = measure_waiting(SIZES, within=tmp_path)

    started_elsewhere, started_here = table.rows
    for row in (started_elsewhere, started_here):
        assert sorted(row.cells) == sorted(COLUMNS)
        assert row.cells[TRACED][0] < MAX_MB_OF_OBJECTS, row.label
        assert [target.verdict for target in row.targets] == ["met", "met"]
    assert not list(tmp_path.iterdir())
