"""A worker that freezes past its lease, and wakes up late, writes nothing more to its run."""

import os
from typing import Final

import pytest

from outlast.model.events import (
    TYPE_OF,
    AttemptBegan,
    AttemptFailed,
    Checkpointed,
    Emitted,
    Ended,
    TimerSet,
)
from tests.crash.account import account_of, echoes
from tests.crash.fate import Point, Side
from tests.crash.stage import PATIENCE, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]

LEASE: Final = 1.0
"""Seconds: a frozen process keeps its lock file, so that only the lease's end frees its runs."""

POINTS: Final[list[tuple[Side, str]]] = [
    ("at", "end of first"),
    ("before", TYPE_OF[Checkpointed]),
    ("before", TYPE_OF[Emitted]),
    ("before", TYPE_OF[AttemptBegan]),
    ("before", TYPE_OF[Ended]),
]

FURTHER_POINTS: Final[list[tuple[Side, str]]] = [
    ("after", "claim"),
    ("at", "begin of first"),
    ("at", "emitted s1"),
    ("at", "begin of pay"),
    ("at", "end of pay"),
    ("before", TYPE_OF[TimerSet]),
    ("at", "waiting"),
    ("before", TYPE_OF[AttemptFailed]),
    ("after", TYPE_OF[Ended]),
]

CASES: Final = (
    [(point, early) for point in POINTS + FURTHER_POINTS for early in (True, False)]
    if os.environ.get("OUTLAST_SOAK")
    else [(point, bool(number % 2)) for number, point in enumerate(POINTS)]
)


def name_of(case: object) -> str:
    if isinstance(case, bool):
        return "wakes in the middle" if case else "wakes when all is over"
    assert isinstance(case, tuple)
    return " ".join(case)


@pytest.mark.soak
@pytest.mark.parametrize(("at", "wakes_early"), CASES, ids=name_of)
async def test_a_worker_that_was_frozen_is_fenced(
    at: tuple[Side, str], wakes_early: bool, stage: Stage
) -> None:
    side, what = at
    frozen = await stage.worker(Point(side, what, freezes=True), lease=LEASE)
    other = await stage.load(lease=LEASE)
    run = await stage.start("r")
    await frozen.says("waits", "freezes")
    if is_late := not frozen.has_said("freezes"):
        await stage.signal(run)
        await frozen.says("freezes")

    await other.open()
    if wakes_early:
        await (other.says("opened") if is_late else other.says("waits"))
        frozen.wake()
        await frozen.says("wakes")
    if not is_late:
        await stage.signal(run)
    account = await account_of(stage, run)
    if not wakes_early:
        frozen.wake()
        await frozen.says("wakes")
    assert await other.close() == 0, stage.said()
    errand = await stage.start_errand("e")
    assert (await errand.result()).output == "errand"
    assert await frozen.close() == 0, stage.said()

    account.check()
    assert await stage.entries("r") == account.entries, "it has written after its end"
    assert [line.pid for line in stage.ledger.lines("did", "e")] == [frozen.pid]
    assert len(echoes(stage.ledger.lines())) <= 1
