"""What a worker has is its own: nothing of it lives on in a child that it has forked."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.crash import tasks
from tests.crash.stage import PATIENCE, ROOT, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_runs_of_a_dead_worker_are_free_while_its_child_lives_on(stage: Stage) -> None:
    first = await stage.worker()
    run = await tasks.parent.options(app=stage.app).start(None, id="r")
    await first.says("holds")
    second = await stage.worker()
    await second.tell("go")

    await first.kill()
    child = (await run.result()).output

    assert [line.name for line in stage.ledger.lines("child")] == [str(child)]
    assert lives(child)
    assert await second.close() == 0, stage.said()


@pytest.mark.parametrize("url", ["sqlite:///{}/runs.db", "memory://"])
async def test_an_app_refuses_at_once_to_be_used_after_a_fork(url: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "tests.crash.forked", url.format(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    output, errors = await process.communicate()

    assert (process.returncode, errors) == (0, b"")
    said = json.loads(output)
    assert said["parent"] == "done"
    assert len(said["child"]) > 5
    wrong = {call: answer for call, answer in said["child"].items() if answer != "UsageError"}
    assert not wrong
