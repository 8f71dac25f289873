import json
import subprocess
import sys
from math import isfinite
from pathlib import Path

import pytest

import outlast
from bench import page
from bench.ended import copy_runs, ended, make_one
from bench.figures import PARTS
from bench.peers import MissingPeers, Peers
from bench.tables import Figures, Row, Table, Target, number, percentiles
from outlast.engine.clock import System

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)  # it starts two dozen processes, one after the other
def test_benchmarks_run_and_keep_every_round(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    words = ["--quick", "--without-peers", "--json", str(file), "--directory", str(tmp_path)]

    done = subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    figures = Figures.from_json(file.read_text(encoding="utf-8"))
    assert [table.name for table in figures.tables] == list(PARTS)
    for table in figures.tables:
        assert table.title in done.stdout
        for row in table.rows:
            assert row.cells, row
            for rounds in row.cells.values():
                assert rounds, row
                assert all(isfinite(figure) for figure in rounds), row
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_kept_in_the_docs_is_all_and_the_page_says_it() -> None:
    figures, text = page.kept(), page.PAGE.read_text(encoding="utf-8")

    names = [found[2] for found in page.PART.finditer(text)]
    assert sorted(names) == sorted(["machine", *(table.name for table in figures.tables)])
    assert {table.name for table in figures.tables} == set(PARTS)
    assert page.written(text, figures) == text, "run `python -m bench.page`"


def test_the_plot_is_small_and_of_the_kept_figures() -> None:
    plot = page.PLOT.read_text(encoding="utf-8")

    assert plot.startswith("<?xml")
    assert len(plot) < 60_000
    assert page.kept().machine["date"][:10] in plot


def test_figures_come_back_from_their_json() -> None:
    row = Row("r", {"a": [1.0, 2.0], "b": [2.0, 2.0]})
    row.ratio_is("a", "b", least=0.5)
    row.ratio_is("a", "not measured", least=0.5)
    figures = Figures({"date": "today"}, [Table("t", "title", ["a", "b"], [row])])

    again = Figures.from_json(figures.to_json())

    assert again == figures
    assert json.loads(figures.to_json())["tables"][0]["rows"][0]["targets"] == [
        {"says": "a / b", "measured": [0.5, 1.0], "least": 0.5}
    ]
    assert again.tables[0].lines() == [
        ["title", "a", "b"],
        ["r", "1.50", "2.00"],
    ]
    assert again.tables[0].targets()[1:] == [
        ["r", "a / b", "0.75", "0.50", "1.00", ">= 0.5", "met"]
    ]


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ([2.0, 2.0, 2.0, 2.1], "met"),
        ([2.0, 2.1, 2.1, 2.1], "MISSED"),
        ([2.0, 2.0, 2.1, 2.1], "unclear"),
    ],
)
def test_a_target_is_met_where_three_rounds_in_four_say_so(
    measured: list[float], verdict: str
) -> None:
    assert Target("a", measured, most=2.0).verdict == verdict
    assert Target("a", [-figure for figure in measured], least=-2.0).verdict == verdict


def test_percentiles_are_those_of_all_that_was_measured() -> None:
    assert percentiles(range(101), ["p50", "p95", "max"]) == {
        "p50": [50.0],
        "p95": [95.0],
        "max": [100],
    }


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (12.34, "12.3"), (0.126, "0.13")])
def test_a_figure_shows_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


async def test_copied_runs_are_runs_that_have_ended(tmp_path: Path) -> None:
    file = tmp_path / "runs.db"
    url, system = f"sqlite:///{file}", System()
    await make_one(url)
    copy_runs(file, 30, system.draw_id)

    async with outlast.open(url) as app:
        runs = (await app.runs.list()).items
        results = [await run.result() for run in runs]
        new = await ended.run(1)

    assert len({run.id for run in runs}) == 30
    assert all(result.is_completed and result.output == results[0].output for result in results)
    assert new.is_completed


def test_without_a_place_for_them_there_are_no_others(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    with pytest.raises(MissingPeers, match="Not a directory"):
        Peers.prepare(file)
