"""Two workers on one file, killed and started again in turn: every run comes to its end, once."""

import asyncio
import os
import random
from typing import Final

import pytest

from outlast import TaskRun
from tests.crash.account import account_of
from tests.crash.stage import PATIENCE, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE)]

SEEDS: Final = range(20 if os.environ.get("OUTLAST_SOAK") else 1)
RUNS: Final = 20
KILLS: Final = 6

MOST_STEPS: Final = 18
"""Steps that may be done, by whichever worker, until the next one is killed: of the three runs or
more that are started between two kills, each has seven before it waits."""

LONGEST: Final = 0.01
"""Seconds at most from there to the kill, so that it hits writes wherever they are."""


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
async def test_every_accepted_run_ends_once(seed: int, stage: Stage) -> None:
    chance = random.Random(seed)
    workers = [await stage.worker(), await stage.worker()]
    runs: list[TaskRun[list[str]]] = []
    told = 0

    for number in range(KILLS):
        next_one = await stage.load()
        await next_one.says("loaded")
        group = range(RUNS * number // KILLS, RUNS * (number + 1) // KILLS)
        done = asyncio.create_task(stage.hears("did", chance.randint(1, MOST_STEPS)))
        runs += [await stage.start(f"r{number}") for number in group]
        for run in runs[told : group.start]:
            await stage.signal(run)
        told = group.start
        await done
        await asyncio.sleep(chance.uniform(0, LONGEST))
        await workers[number % 2].kill()
        workers[number % 2] = next_one
        await next_one.open()
    for run in runs[told:]:
        await stage.signal(run)
    accounts = [await account_of(stage, run) for run in runs]

    for account in accounts:
        account.check()
        assert account.deaths <= KILLS
    assert len(accounts) == RUNS
    assert sum(account.deaths for account in accounts) > 0
    for worker in workers:
        assert await worker.close() == 0, stage.said()
    assert not list(stage.file.with_name("runs.db-locks").glob("owners/*"))
