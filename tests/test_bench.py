import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_benchmarks_run_and_keep_every_round(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"

    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json", file, "--directory", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "sequential steps/s" in done.stdout
    figures = json.loads(file.read_text(encoding="utf-8"))
    for name in ("steps", "task", "tasks", "imports"):
        assert all(figure > 0 for figure in figures[name]["ours"] + figures[name]["raw"])
    [load] = figures["loads"]
    assert len(load["two"][0]) == 2
    assert list(tmp_path.iterdir()) == [file]
