"""Turns of a handler in a process of its own: as of one in the worker."""

import pytest

from outlast import App, TaskTimedOut
from tests.isolation import turned
from tests.isolation.stage import first_item, gone

pytestmark = pytest.mark.slow


async def test_a_run_rests_between_turns_and_goes_on(app: App) -> None:
    first = await turned.chat.run("rest", id="r")
    last = await turned.chat.run("end", id="r")

    assert (first.output, first.suspension_reason) == (["REST", 1, "fresh", None], "rests")
    assert last.output == ["END", 2, "resumed", "rest"]


async def test_inputs_that_wait_begin_turns_of_their_own(app: App) -> None:
    runs = [await turned.chat.start(word, id="r") for word in ("wait", "b", "c")]
    await runs[0].signal("go")

    assert [(await run.result()).output for run in runs] == [
        ["WAIT", 1, "fresh", None],
        ["B", 2, "steered", "wait"],
        ["C", 3, "steered", "b"],
    ]
    assert [(await run.refresh()).turn for run in runs] == [1, 2, 3]
    offsets = [item.offset async for item in runs[2].stream()]
    assert offsets == [*range(1, len(offsets) + 1)]
    types = [entry.type async for entry in runs[0].history()]
    assert "handed_back" not in types


async def test_a_plain_handler_goes_on_with_inputs_of_its_own(app: App) -> None:
    assert (await turned.count.run(3, id="r", input_id="i")).output == [4, "i"]


async def test_an_input_is_taken_while_the_turn_runs(app: App) -> None:
    first = await turned.listen.start("a", id="r")
    second = await turned.listen.start("b", id="r")
    await first.signal("go")

    for run in (first, second):
        assert (await run.result()).output == ["a", "b", None]


async def test_a_new_input_interrupts_the_turn(app: App) -> None:
    first = await turned.search.start("all", id="r")
    await first_item(first)
    second = await turned.search.start("one", id="r")

    result = await first.result()
    assert (result.output, result.is_superseded) == (["all", "steered"], True)
    assert (await second.result()).output == ["one", None]


async def test_a_new_input_ends_a_turn_that_never_awaits(app: App) -> None:
    first = await turned.stuck.start("a", id="r")
    pid = await first_item(first)
    second = await turned.stuck.start("b", id="r")

    assert (await first.result()).is_superseded
    assert (await second.result()).output == "b"
    await gone([pid])


async def test_a_result_within_the_grace_counts(app: App) -> None:
    assert (await turned.returns_late.run(None)).output == "timeout"


async def test_a_timeout_ends_what_never_awaits(app: App) -> None:
    run = await turned.blocks.start(None, id="r")
    pid = await first_item(run)

    with pytest.raises(TaskTimedOut):
        await run.result()

    await gone([pid])
    assert (await run.refresh()).status == "timed_out"
