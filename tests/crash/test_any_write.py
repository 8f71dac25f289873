"""Whatever write or moment a process is killed at, another one ends its run as if nothing were.

`make test` takes the points that have a name, and a tenth of all writes, drawn by the seed that
pytest prints (`--randomly-seed=...` draws them again); a test's own name says which point it is.
All of them: `OUTLAST_SOAK=1`.
"""

import asyncio
import os
import random

import pytest

from outlast import Retracted, StreamItem
from outlast.model.events import (
    TYPE_OF,
    AttemptBegan,
    AttemptFailed,
    Checkpointed,
    Created,
    Emitted,
    Ended,
    StepBegan,
    StepTried,
    TimerSet,
    TurnBegan,
)
from tests.crash.account import account_of, is_entered
from tests.crash.fate import Point
from tests.crash.stage import PATIENCE, Stage, watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]

IS_SOAK = bool(os.environ.get("OUTLAST_SOAK"))

MOST_WRITES = 22
"""More than a journey takes: 17, and some more where the machine is slow."""

SHARE = 10
"""One of so many writes is tried in `make test`."""

Case = tuple[Point, bool, bool]
"""Where the process dies; whether it has started the run by itself; whether another stands by."""

NAMED: list[Case] = [
    (Point("before", TYPE_OF[Created]), True, False),
    (Point("after", TYPE_OF[Created]), True, True),
    (Point("before", "claim"), False, False),
    (Point("after", "claim"), False, True),
    (Point("before", TYPE_OF[TurnBegan]), False, False),
    (Point("after", TYPE_OF[TurnBegan]), False, True),
    (Point("at", "emitted hello"), True, True),
    (Point("at", "begin of first"), True, False),
    (Point("at", "end of first"), True, True),
    (Point("before", TYPE_OF[Checkpointed]), False, True),
    (Point("after", TYPE_OF[Checkpointed]), True, False),
    (Point("at", "end of b"), True, True),
    (Point("at", "end of thread"), False, True),
    (Point("at", "emitted s1"), True, True),
    (Point("at", "accepted s1"), False, True),
    (Point("before", TYPE_OF[Emitted]), True, False),
    (Point("after", TYPE_OF[Emitted]), True, True),
    (Point("at", "failure of flaky"), False, True),
    (Point("after", TYPE_OF[StepTried]), True, True),
    (Point("before", TYPE_OF[StepBegan]), True, True),
    (Point("after", TYPE_OF[StepBegan]), True, False),
    (Point("at", "end of pay"), True, True),
    (Point("after", TYPE_OF[TimerSet]), False, True),
    (Point("at", "waiting"), True, False),
    (Point("before", TYPE_OF[AttemptFailed]), True, True),
    (Point("after", TYPE_OF[AttemptFailed]), True, False),
    (Point("after", TYPE_OF[AttemptBegan]), True, False),
    (Point("at", "emitted bye"), True, False),
    (Point("before", TYPE_OF[Ended]), True, False),
    (Point("after", TYPE_OF[Ended]), True, False),
]

ANY: list[Case] = [
    (Point(side, "commit", number), is_started, stands_by)
    for number in range(1, MOST_WRITES + 1)
    for side in ("before", "after")
    for is_started in (True, False)
    for stands_by in (True, False)
] + [(Point("after", "claim", 2), is_started, False) for is_started in (True, False)]


def name_of(case: Case) -> str:
    point, is_started, stands_by = case
    return (
        f"{point}, {'started' if is_started else 'claimed'} by it, "
        f"{'another stands by' if stands_by else 'another comes later'}"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        seed = metafunc.config.getoption("randomly_seed", 0)
        drawn = random.Random(seed).sample(ANY, len(ANY) // SHARE)
        cases = NAMED + (ANY if IS_SOAK else drawn)
        metafunc.parametrize("case", cases, ids=name_of)


@pytest.mark.soak
async def test_a_run_goes_on_after_a_kill_at(case: Case, stage: Stage) -> None:
    point, is_started, stands_by = case
    first, second = await asyncio.gather(
        stage.load(point, start="r" if is_started else ""), stage.load()
    )
    seen: list[StreamItem | Retracted] = []
    errands = []

    if not is_started:
        run = await stage.start("r")
    await first.open()
    if is_started:
        await first.says("accepted")
        run = await stage.start("r")  # whoever has got no answer asks again
    reader = asyncio.create_task(watch(run, seen))
    if stands_by:
        await first.says("entered")
        await second.open()
    await first.says("waits")
    await stage.signal(run)
    ended = asyncio.ensure_future(run.result())
    await asyncio.wait([ended, first.gone], return_when=asyncio.FIRST_COMPLETED)
    at_death = await stage.entries("r")
    if first.is_dead:
        errands.append(await stage.start_errand("e"))
        await second.open()
    await ended
    await reader
    for each in errands:
        assert (await each.result()).output == "errand"
    statuses = await first.close(), await second.close()

    account = await account_of(stage, run, seen)
    account.check()
    was_struck = bool(stage.ledger.lines("dies"))
    assert statuses == (-9 if was_struck else 0, 0), stage.said()
    assert account.deaths <= was_struck
    if was_struck and not stands_by:
        assert account.deaths == is_entered(at_death)
    assert was_struck or case not in NAMED or point.what == "claim", "it was never there"
    # Its own file is removed by whoever looks next: here perhaps nobody had the time to.
    assert len(list(stage.file.with_name("runs.db-locks").glob("owners/*"))) <= was_struck


@pytest.mark.parametrize("is_started", [True, False])
async def test_every_write_is_among_the_points(is_started: bool, stage: Stage) -> None:
    worker = await stage.load(start="r" if is_started else "")

    if is_started:
        await worker.open()
        await worker.says("accepted")
    run = await stage.start("r")
    await worker.open()
    await worker.says("waits")
    await stage.signal(run)

    account = await account_of(stage, run)
    assert await worker.close() == 0, stage.said()

    account.check()
    assert account.deaths == 0
    [commits] = [line.split()[1] for line in worker.heard if line.startswith("commits")]
    assert 15 <= int(commits) <= MOST_WRITES
