"""Whatever write or moment of a steered run a process is killed at, every caller is answered.

`make test` takes the points that have a name, and a tenth of all writes, drawn by the seed that
pytest prints. All of them: `OUTLAST_SOAK=1`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import pytest

from outlast import Retracted, StreamItem, Task, TaskResult, TaskRun
from outlast.model.events import (
    TYPE_OF,
    AttemptBegan,
    Checkpointed,
    Created,
    Ended,
    InputGiven,
    InputTaken,
    Snapshot,
    TurnBegan,
    TurnEnded,
    decode,
)
from tests.crash import talks, tasks
from tests.crash.fate import Point
from tests.crash.stage import PATIENCE, Stage, Worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(PATIENCE)]

T = TypeVar("T")

IS_SOAK = bool(os.environ.get("OUTLAST_SOAK"))

MOST_WRITES = 20
"""More than a talk takes: 16, and some more where the machine is slow."""

FEWER_WRITES = 8
"""More than a run takes that is steered once."""

SHARE = 10
"""One of so many writes is tried in `make test`."""

Case = tuple[Point, bool]
"""Where the process dies; whether another stands by."""

NAMED: list[Point] = [
    Point("at", "waiting"),
    Point("before", TYPE_OF[InputTaken]),
    Point("after", TYPE_OF[InputTaken]),
    Point("at", "taken"),
    Point("before", TYPE_OF[TurnEnded]),
    Point("after", TYPE_OF[TurnEnded]),
    Point("at", "begin of first c"),
    Point("at", "end of turn 2"),
    Point("before", TYPE_OF[TurnEnded], 2),
    Point("after", TYPE_OF[TurnEnded], 2),
    Point("at", "end of turn 3"),
    Point("before", TYPE_OF[TurnEnded], 3),
    Point("after", TYPE_OF[TurnEnded], 3),
    Point("before", TYPE_OF[TurnBegan], 4),
    Point("after", TYPE_OF[TurnBegan], 4),
    Point("at", "end of turn 4"),
    Point("before", TYPE_OF[Ended]),
    Point("after", TYPE_OF[Ended]),
]
"""Without another one: it might take the run up when it rests, and the point is never met."""

SWAYED: list[Point] = [
    Point("at", "waiting"),
    Point("at", "asked to end"),
    Point("at", "end of tidied up"),
    Point("before", TYPE_OF[TurnEnded]),
    Point("after", TYPE_OF[TurnEnded]),
    Point("at", "begin of first b"),
    Point("before", TYPE_OF[Ended]),
]


def any_of(writes: int) -> list[Case]:
    return [
        (Point(side, "commit", number), stands_by)
        for number in range(1, writes + 1)
        for side in ("before", "after")
        for stands_by in (True, False)
    ]


def name_of(case: object) -> str:
    if isinstance(case, Task):
        return str(case.name)
    assert isinstance(case, tuple)
    point, stands_by = case
    return f"{point}, {'another stands by' if stands_by else 'another comes later'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        is_talk = "steered" not in metafunc.fixturenames
        named, writes = (NAMED, MOST_WRITES) if is_talk else (SWAYED, FEWER_WRITES)
        drawing = random.Random(metafunc.config.getoption("randomly_seed", 0))
        drawn = any_of(writes) if IS_SOAK else drawing.sample(any_of(writes), writes // SHARE + 1)
        metafunc.parametrize("case", [*((it, False) for it in named), *drawn], ids=name_of)


class Scene:
    """A worker that will die, one that goes on, and callers that wait in a third process, ours."""

    def __init__(self, stage: Stage, first: Worker, second: Worker) -> None:
        self.stage, self.first, self.second = stage, first, second
        self._waiting: list[asyncio.Future[Any]] = []

    async def give(self, steered: Task[str, list[Any]], input: str) -> TaskRun[list[Any]]:
        """Give the run an input, whose caller waits from now on."""
        run = await steered.options(app=self.stage.app).start(input, id="r", input_id=input)
        self.stage.ledger.write("accepted", "r", input)
        return run

    async def comes(self, what: Awaitable[T]) -> T:
        """Wait for what happens, if need be after the other worker has gone on."""
        coming = asyncio.ensure_future(what)
        await asyncio.wait([coming, self.first.gone], return_when=asyncio.FIRST_COMPLETED)
        if self.first.is_dead and not self.second.has_said("opened"):
            await self.second.open()
        return await coming

    async def end(self, point: Point) -> bool:
        """Let both end in order, and return whether the first one was struck."""
        statuses = await self.first.close(), await self.second.close()
        was_struck = bool(self.stage.ledger.lines("dies"))
        assert statuses == (-9 if was_struck else 0, 0), self.stage.said()
        assert was_struck or point.what == "commit", "it was never there"
        return was_struck


async def scene_of(case: Case, stage: Stage) -> Scene:
    point, stands_by = case
    scene = Scene(stage, *await asyncio.gather(stage.load(point), stage.load()))
    await scene.first.open()
    if stands_by:
        await scene.first.says("entered")
        await scene.second.open()
    return scene


async def started(case: Case, stage: Stage, steered: Task[str, list[Any]]) -> tuple[Scene, Any]:
    """Return a scene whose first worker has the run, and has come as far as it comes by itself."""
    run = await steered.options(app=stage.app).start("a", id="r", input_id="a")
    scene = await scene_of(case, stage)
    await scene.first.says("waits")
    return scene, run


async def events_of(stage: Stage) -> Sequence[Any]:
    return [decode(entry) for entry in await stage.entries("r")]


def check_entries(stage: Stage, inputs: dict[int, str], events: Sequence[Any]) -> None:
    """See that a turn is entered with its own input, whoever does so, and fresh but once."""
    entered = [line.name.split(" ", 1) for line in stage.ledger.lines("entered", "r")]
    for turn, rest in entered:
        assert rest.startswith(f"{inputs[int(turn)]} "), (turn, rest)
    deaths = sum(isinstance(event, AttemptBegan) and event.died for event in events)
    assert deaths <= len(stage.ledger.lines("dies"))
    again = sum(rest.endswith(" recovered") for _, rest in entered)
    assert again >= deaths


def check_steps(stage: Stage, events: Sequence[Any]) -> list[str]:
    """See that what is recorded is recorded once, and return it."""
    steps = [event for event in events if isinstance(event, Checkpointed) and event.kind == "step"]
    recorded = [str(event.value) for event in steps]
    assert len(recorded) == len(set(recorded))
    did = Counter(line.name for line in stage.ledger.lines("did", "r"))
    assert did.keys() >= set(recorded)
    assert sum(did.values()) <= len(did) + len(stage.ledger.lines("dies")), did
    return recorded


def count(events: Sequence[Any], *kinds: type[Any]) -> list[int]:
    return [sum(type(event) is kind for event in events) for kind in kinds]


async def values_of(run: TaskRun[list[Any]]) -> list[tuple[int, str]]:
    """Return what stands of the stream in the end: of which turn, and what."""
    standing: list[StreamItem] = []
    offsets: list[int] = []
    async for item in run.stream():
        offsets.append(item.offset)
        if isinstance(item, Retracted):
            standing = [old for old in standing if old.offset <= item.after]
        else:
            standing.append(item)
    assert offsets == list(range(1, len(offsets) + 1))
    return [(item.turn, item.value) for item in standing]


@pytest.mark.soak
async def test_every_caller_of_a_talk_is_answered_after_a_kill_at(case: Case, stage: Stage) -> None:
    scene, first = await started(case, stage, talks.talk)

    runs = [first, *[await scene.give(talks.talk, name) for name in "bc"]]
    results = [asyncio.ensure_future(run.result()) for run in runs]
    await first.signal("go", tasks.ANSWER)
    await scene.comes(asyncio.wait(results))
    runs.append(await scene.give(talks.talk, "d"))
    results.append(asyncio.ensure_future(runs[-1].result()))
    await scene.comes(asyncio.wait(results))
    await scene.end(case[0])

    answers: list[TaskResult[Any]] = [result.result() for result in results]
    assert {id: it.output for id, it in zip("abcd", answers, strict=True)} == talks.OUTPUTS
    assert [it.status for it in answers] == ["completed", "completed", "suspended", "completed"]
    assert answers[2].suspension_reason == "enough"
    again = [(await run.result()).output for run in runs]
    assert again == [it.output for it in answers], "it was told otherwise later"
    events = await events_of(stage)
    assert count(events, Created, InputGiven, InputTaken, Ended) == [1, 3, 1, 1]
    assert count(events, TurnBegan, TurnEnded, Snapshot) == [4, 3, 3]
    check_entries(stage, talks.INPUTS, events)
    steps = [f"first {input}" for input in talks.INPUTS.values()]
    assert check_steps(stage, events) == [steps[0], "last a", *steps[1:]]
    assert await values_of(runs[-1]) == list(talks.INPUTS.items())


@pytest.mark.soak
@pytest.mark.parametrize("steered", [talks.interrupted, talks.rolled_back], ids=name_of)
async def test_every_caller_of_a_superseded_turn_is_answered_after_a_kill_at(
    case: Case, steered: Task[str, list[Any]], stage: Stage
) -> None:
    scene, first = await started(case, stage, steered)

    runs = [first, await scene.give(steered, "b")]
    results = [asyncio.ensure_future(run.result()) for run in runs]
    await scene.comes(asyncio.wait(results))
    was_struck = await scene.end(case[0])

    superseded, last = [result.result() for result in results]
    events = await events_of(stage)
    # Whoever has not begun is overtaken; a turn whose process died is not entered for that.
    [first_input, *_] = [event.input_id for event in events if isinstance(event, TurnBegan)]
    before = ["a"] if first_input == "a" else []
    assert before or (was_struck and case[0] == Point("before", "commit"))
    assert last.output == ["b", "first b", before[0] if before else None]
    assert (superseded.is_superseded, superseded.status) == (True, "running")
    kept = None if steered is talks.rolled_back else ["a", "first a", "tidied up", None]
    assert superseded.output == kept or (was_struck and superseded.output is None)
    assert count(events, InputGiven, Ended) == [1, 1]
    assert count(events, TurnBegan, TurnEnded) == [len(before) + 1, len(before)]
    check_entries(stage, dict(enumerate([*before, "b"], 1)), events)
    check_steps(stage, events)
    emitted = list(enumerate([*before, "b"], 1))
    stream = await values_of(runs[1])
    if steered is talks.rolled_back:
        assert stream == emitted[-1:]
    else:
        assert stream == emitted or (was_struck and stream == emitted[-1:])


async def test_every_write_is_among_the_points(stage: Stage) -> None:
    nowhere = Point("at", "nowhere"), False
    scene, first = await started(nowhere, stage, talks.talk)

    runs = [first, *[await scene.give(talks.talk, name) for name in "bc"]]
    await first.signal("go", tasks.ANSWER)
    await runs[-1].result()
    await (await scene.give(talks.talk, "d")).result()
    assert await scene.first.close() == 0, stage.said()

    [commits] = [line.split()[1] for line in scene.first.heard if line.startswith("commits")]
    assert 10 <= int(commits) <= MOST_WRITES
