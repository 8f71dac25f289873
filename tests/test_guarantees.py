"""What the guarantees say stands behind them, and a promise that only real processes can show."""

import asyncio
import re
import sys
from pathlib import Path
from time import monotonic

import pytest

import outlast
from outlast import TaskAborted
from tests.mutants.planting import read_defect
from tests.worlds.worlds import WORLDS

HERE = Path(__file__).parent

WORKER = """
import asyncio
import outlast

@outlast.task(name="work")
async def work(ctx: outlast.TaskContext[None]) -> None:
    try:
        for number in range(1_000_000):
            await ctx.emit(number)
            await asyncio.sleep(0.01)
    finally:
        print("ended", flush=True)

async def main():
    async with outlast.open("sqlite:///runs.db"):
        print("open", flush=True)
        await asyncio.to_thread(input)

asyncio.run(main())
"""


@outlast.task(name="work")
async def work(ctx: outlast.TaskContext[None]) -> None:
    raise NotImplementedError  # another process does it


@pytest.mark.slow
async def test_an_abort_from_another_process_ends_the_run_within_a_second(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, cwd=tmp_path, stdin=pipe, stdout=pipe
    )
    try:
        assert worker.stdout
        assert await worker.stdout.readline() == b"open\n"
        async with outlast.open(f"sqlite:///{tmp_path}/runs.db", worker=False):
            run = await work.start(None, id="r")
            async for item in run.stream():
                if item.offset == 3:
                    break

            asked = monotonic()
            await run.abort("enough")
            status = (await run.refresh()).status
            took = monotonic() - asked
            recorded = [entry.revision async for entry in run.history()]
            said = await worker.stdout.readline()
            ended = monotonic() - asked

            assert status == "aborted"
            assert took < 1
            assert said == b"ended\n"
            assert ended < 1
            with pytest.raises(TaskAborted, match="enough"):
                await run.result()
            await worker.communicate(b"\n")
            assert [entry.revision async for entry in run.history()] == recorded
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    assert worker.returncode == 0


def lists(label: str, mark: str) -> set[tuple[str, str]]:
    """Return what stands in the lists of this name on the page, with the promise it stands at."""
    page = (HERE.parent / "docs/guarantees.md").read_text()
    found = re.findall(
        rf"^## (\d)\.(?:(?!^## ).)*?^{label}: (.*?)\n\n", page, re.DOTALL | re.MULTILINE
    )
    mark = re.escape(mark)
    return {(n, name) for n, names in found for name in re.findall(f"{mark}(.*?){mark}", names)}


def test_every_promise_names_the_planted_defects_that_break_it() -> None:
    named = lists("Noticed if broken", "`")

    defects = [read_defect(path) for path in (HERE / "mutants").glob("*.patch")]
    breaks = {(number, Path(defect.name).stem) for defect in defects for number in defect.breaks}
    assert named == breaks
    assert {number for number, _ in named} == set("1234567")


def test_promises_name_the_small_worlds_that_explore_them() -> None:
    named = lists("Explored whole", "*")

    assert {name for _, name in named} == WORLDS.keys()
    # Nothing of a small world is read with types, so it says nothing of the seventh.
    assert {number for number, _ in named} == set("123456")
