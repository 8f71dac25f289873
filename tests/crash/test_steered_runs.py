"""What a run with several turns keeps when a process dies, is told to go, or is not alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from outlast import TaskFailed
from outlast.journal import Change
from outlast.model.events import (
    TYPE_OF,
    AttemptBegan,
    AttemptFailed,
    Created,
    Ended,
    HandedBack,
    InputGiven,
    TurnBegan,
    TurnEnded,
    decode,
    encode,
)
from outlast.model.run import Run
from tests.crash import drained, talks, tasks
from tests.crash.account import account_of
from tests.crash.fate import Point
from tests.crash.stage import PATIENCE, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]

MEGABYTE: Final = 1 << 20

MANY: Final = 10_000
AT_A_TIME: Final = 500


async def events_of(stage: Stage, id: str) -> Sequence[Any]:
    return [decode(entry) for entry in await stage.entries(id)]


def count(events: Sequence[Any], *kinds: type[Any]) -> list[int]:
    return [sum(type(event) is kind for event in events) for kind in kinds]


async def test_a_turn_that_kills_its_process_each_time_fails_its_run(stage: Stage) -> None:
    first = await stage.worker(queue="cursed")
    run = await talks.cursed.options(app=stage.app).start("a", id="r")
    await first.says("waits")
    steered, queued = [
        await talks.cursed.options(app=stage.app).start(name, id="r") for name in "bc"
    ]

    await run.signal("go", "gone")
    assert (await run.result()).output == "gone"
    assert await first.gone == -9
    for _ in range(tasks.MAX_RECOVERIES - 1):
        victim = await stage.worker(queue="cursed")
        assert await victim.gone == -9
    survivor = await stage.worker(queue="cursed")

    for late in (steered, queued):
        with pytest.raises(TaskFailed) as failed:
            await late.result()
        assert failed.value.error.type == "ProcessDied"
    assert (await run.result()).output == "gone", "the turn before has its own outcome"
    assert len(stage.ledger.lines("did", "r", "death")) == tasks.MAX_RECOVERIES
    assert len(stage.ledger.lines("did", "r", "once")) == 1
    entered = [line.name for line in stage.ledger.lines("entered", "r")]
    assert entered == ["1 a fresh", "2 b steered"] + ["2 b recovered"] * 2
    assert await survivor.close() == 0, stage.said()


@pytest.mark.parametrize("point", [None, Point("after", TYPE_OF[Created])], ids=str)
async def test_of_two_processes_that_start_one_id_one_runs_it_and_the_other_joins(
    point: Point | None, stage: Stage
) -> None:
    workers = [await stage.load(point, start="r"), await stage.load(start="r")]
    await asyncio.gather(*(worker.says("loaded") for worker in workers))

    await asyncio.gather(*(worker.open() for worker in workers))
    alive = [worker for worker in workers if await worker.says("accepted")]
    await stage.signal(await stage.start("r"))
    for worker in alive:
        assert await worker.says("saw"), stage.said()

    account = await account_of(stage, await stage.start("r"))
    saw = {line.pid: json.loads(line.name) for line in stage.ledger.lines("saw", "r")}
    assert saw == dict.fromkeys((worker.pid for worker in alive), account.output)
    account.check()
    dead = len(workers) - len(alive)
    assert account.deaths == dead == len(stage.ledger.lines("dies"))
    if not dead:
        assert len({line.pid for line in stage.ledger.lines("did", "r", "first")}) == 1
    for worker in alive:
        assert await worker.close() == 0, stage.said()


@pytest.mark.parametrize(
    "point",
    [
        Point("at", "attempt 0"),
        Point("after", TYPE_OF[AttemptFailed]),
        Point("at", "attempt 1"),
        Point("at", "attempt 2"),
    ],
    ids=str,
)
async def test_a_typed_input_and_the_starters_retry_policy_outlive_the_process(
    point: Point, stage: Stage
) -> None:
    order = talks.Order(
        datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
        frozenset(talks.Colour),
        {1: (0.1, float("inf")), 2: ()},
    )
    patient = talks.typed.options(app=stage.app, retry=talks.THREE_TIMES)
    first = await stage.worker(point)
    run = await patient.start(order, id="r")
    assert await first.gone == -9

    second = await stage.worker()

    # Whoever declared the task has no retry, and a crash is no attempt.
    assert (await run.result()).output == (order, 2)
    assert count(await events_of(stage, "r"), AttemptFailed) == [2]
    assert await second.close() == 0, stage.said()


async def suspend_many(stage: Stage) -> None:
    """Leave many runs in the store that wait for their next input."""
    around = stage.app.client.around
    now = around.system.wall()
    for start in range(0, MANY, AT_A_TIME):
        changes: list[Change] = []
        for number in range(start, start + AT_A_TIME):
            run = Run()
            events = Created(talks.talk.name, {}, "a", now), TurnBegan(1), TurnEnded("suspended")
            for event in events:
                run.evolve(event, now)
            drafts = tuple(encode(event) for event in events)
            key, card = f"run/s{number}", run.card()
            changes.append(
                Change(key=key, id="made", entries=drafts, card=card, revision=0, first=1)
            )
        await around.store.commit(*changes)


async def test_ten_thousand_suspended_runs_do_not_hold_up_the_one_that_matters(
    stage: Stage,
) -> None:
    await suspend_many(stage)
    assert len((await stage.app.runs.list(status="suspended", limit=1000)).items) == 1000
    first = await stage.worker(Point("at", "turn 2"))
    sizes = talks.large.options(app=stage.app)
    run = await sizes.start("a", id="r")
    steered = await sizes.start("b", id="r")
    await run.signal("go")
    assert await first.gone == -9

    second = await stage.worker()
    assert (await steered.result()).output == [1, 1]
    assert await second.close() == 0, stage.said()

    [claims] = [said.split(" ", 1)[1] for said in second.heard if said.startswith("claims")]
    assert json.loads(claims) == [["run/r"]], "others were taken up as well"


@pytest.mark.parametrize(
    "point",
    [
        Point("at", "waiting"),
        Point("before", TYPE_OF[TurnEnded]),
        Point("after", TYPE_OF[TurnEnded]),
        Point("at", "turn 2"),
    ],
    ids=str,
)
async def test_a_large_input_steers_and_recovers_like_a_small_one(
    point: Point, stage: Stage
) -> None:
    texts = ["a" * 5 * MEGABYTE, "b" * 5 * MEGABYTE + "!"]
    sizes = talks.large.options(app=stage.app)
    first, second = await stage.load(point), await stage.load()
    runs = [await sizes.start(text, id="r", input_id=text[0]) for text in texts]
    results = [asyncio.ensure_future(run.result()) for run in runs]
    await first.open()
    await runs[0].signal("go")
    assert await first.gone == -9

    await second.open()
    outputs = [(await result).output for result in results]
    joined = await sizes.start(texts[1], id="r", input_id="b")

    assert outputs == [[len(texts[0]), 0], [len(texts[1]), len(texts[0])]]
    assert (await joined.result()).output == outputs[1]
    entries = await stage.entries("r")
    large = [entry.type for entry in entries if len(entry.data) > MEGABYTE]
    assert large == [TYPE_OF[Created], TYPE_OF[InputGiven]], "it was written again"
    entered = [line.name for line in stage.ledger.lines("entered", "r")]
    assert entered[-1].startswith("2 b "), entered
    assert await second.close() == 0, stage.said()


@pytest.mark.parametrize("way", ["awaits", "blocks"])
async def test_what_goes_on_past_the_grace_is_handed_back_with_the_inputs_that_wait(
    way: str, stage: Stage
) -> None:
    told = {"ledger": str(stage.ledger.path), "way": way}
    stubborn = drained.stubborn.options(app=stage.app)
    first = await stage.command("tests.crash.drained", "--grace", "0.1")
    runs = [await stubborn.start({**told, "input": "a"}, id="r")]
    await first.says("holds")
    runs.append(await stubborn.start({**told, "input": "b"}, id="r"))

    first.process.terminate()
    status = await first.gone
    second = await stage.command("tests.crash.drained")
    outputs = [(await run.result()).output for run in runs]
    second.process.terminate()

    assert (status, await second.gone) == (0, 0), stage.said()
    assert outputs == [["a", "first a", "recovered"], ["b", "first b", "steered"]]
    did = [line.name for line in stage.ledger.lines("did", "r")]
    assert did == ["first a", "first b"], "what was recorded has run again"
    events = await events_of(stage, "r")
    # Nothing is failed, and what let itself be stopped has cost no death.
    assert count(events, InputGiven, AttemptFailed, Ended) == [1, 0, 1]
    assert count(events, HandedBack) == [way == "awaits"]
    [again] = [event for event in events if isinstance(event, AttemptBegan)]
    assert again.died is (way == "blocks")
