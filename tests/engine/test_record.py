"""A run's journal, as its holder knows it: what goes wrong between reads and writes."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

import outlast
from outlast import Fenced, TaskContext, Unavailable, task
from outlast.journal import Change
from outlast.model.events import (
    AttemptBegan,
    Checkpointed,
    Emitted,
    Ended,
    HandedBack,
    Signalled,
    Status,
    TurnBegan,
    TurnEnded,
    encode,
)
from outlast.model.run import Run
from outlast.testing import SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.holding import held, recorded
from tests.engine.world import LEASE, Wire, head_of, run_of, types_of

loop_factory = SkippingLoop


async def test_a_record_knows_what_its_entries_add_up_to(machine: Machine) -> None:
    record = await held(machine)

    await record.catch_up()

    assert record.run == run_of(machine.store, "r")


async def test_a_lease_that_somebody_else_has_is_over(machine: Machine) -> None:
    record = await held(machine)
    machine.clock.advance(LEASE + 1)
    await machine.store.claim([outlast.store.Lane("default", "recorded")], "other", LEASE, 1, "g")

    with pytest.raises(Fenced):
        await record.catch_up()
    with pytest.raises(Fenced):
        await record.write(HandedBack(0.0))
    with pytest.raises(Fenced):  # from now on without asking
        await record.write()


async def test_a_lease_of_a_run_that_is_gone_is_over(machine: Machine) -> None:
    record = await held(machine)
    machine.clock.advance(LEASE + 1)
    await machine.store.delete("run/r", expect=2)

    with pytest.raises(Fenced):
        await record.catch_up()


async def test_a_decision_at_an_edge_is_taken_again_where_a_fact_came_first(
    machine: Machine,
) -> None:
    async def signal_first(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            machine.wire.before = nothing
            fact = Change(key="run/r", id="s", entries=(encode(Signalled("go", 7)),), fact=True)
            await machine.store.commit(fact)

    record = await held(machine)
    await record.catch_up()
    nothing, machine.wire.before = machine.wire.before, signal_first
    asked: list[list[str]] = []

    def hand_back(run: Run) -> list[HandedBack]:
        asked.append([*run.signals])
        return [HandedBack(float(len(asked)))]

    assert await record.decide(hand_back) == (HandedBack(2.0),)
    assert asked == [[], ["go"]]
    assert types_of(machine.store, "r") == ["created", "turn_began", "signalled", "handed_back"]


async def test_what_has_ended_is_closed_and_given_back(machine: Machine) -> None:
    record = await held(machine)
    await record.catch_up()

    await record.decide(lambda _: [Ended(Status.COMPLETED)])

    head = head_of(machine.store, "r")
    assert (head.closed, head.lease, head.card.due) == (True, None, None)


async def test_the_end_of_a_run_that_was_made_anew_is_not_that_of_the_one_before(
    machine: Machine,
) -> None:
    record = await held(machine)
    machine.clock.advance(LEASE + 1)
    await machine.store.delete("run/r", expect=2)
    successor = await held(machine, Ended(Status.COMPLETED))
    ends = Change(key="run/r", id="ends", fence=successor.fence, close=True, release=True)
    await machine.store.commit(ends)

    with pytest.raises(Fenced):
        await record.catch_up()


async def test_who_asked_may_be_gone_when_a_write_is_done_or_refused(machine: Machine) -> None:
    record = await held(machine)
    await record.catch_up()
    for refused in (False, True):
        if refused:
            machine.clock.advance(LEASE + 1)
            await machine.store.claim(
                [outlast.store.Lane("default", "recorded")], "other", LEASE, 1, "g"
            )
        writing = asyncio.ensure_future(record.write(AttemptBegan(died=True)))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.sleep(1)

    assert types_of(machine.store, "r") == ["created", "turn_began", "attempt_began"]


async def test_a_write_takes_up_what_others_have_written(machine: Machine) -> None:
    record = await held(machine)
    await record.catch_up()
    fact = Change(key="run/r", id="s", entries=(encode(Signalled("go", 1)),), fact=True)
    await machine.store.commit(fact)

    await record.write(AttemptBegan(died=True))

    assert record.run == run_of(machine.store, "r")
    assert record.facts == 1


async def test_a_flood_of_facts_holds_up_no_step(machine: Machine) -> None:
    done = asyncio.Event()

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        for number in range(5):
            await ctx.step("work", abs, number)
        done.set()
        return "done"

    async def slowly(verb: Verb, argument: Any) -> None:
        await asyncio.sleep(0.05)

    async with machine.open() as app, machine.open(worker=False, store=Wire(machine.store)) as two:
        run = await handler.options(app=app).start(None, id="r")
        sending = await two.runs.get("r")
        machine.wire.before = slowly
        count = 0
        while not done.is_set() and count < 1000:
            await sending.signal("flood")
            count += 1
            await asyncio.sleep(0.01)
        machine.wire.before = machine.wire.after
        assert (await run.result()).output == "done"

    assert count < 200
    assert sum(map(len, run_of(machine.store, "r").signals.values())) == count


async def test_a_hint_during_a_write_is_seen_to(machine: Machine) -> None:
    """Other waits must not hide a signal that comes while a step is written."""

    @task
    async def handler(ctx: TaskContext[None]) -> Any:
        waiting = asyncio.ensure_future(ctx.wait("go"))
        await asyncio.sleep(0.1)
        await ctx.step("work", abs, 1)
        return await waiting

    async def signal(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            machine.wire.after = nothing
            await (await two.runs.get("r")).signal("go", 7)

    nothing = machine.wire.after
    async with machine.open() as app, machine.open(worker=False, store=Wire(machine.store)) as two:
        run = await handler.options(app=app).start(None, id="r")
        machine.wire.after = signal
        before = machine.clock.wall()
        assert (await run.result()).output == 7

    assert machine.clock.wall() - before < 0.5


async def test_a_hint_while_a_write_reads_what_others_wrote_is_seen_to(machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> list[Any]:
        waiting = asyncio.gather(ctx.wait("go"), ctx.wait("go"))
        await asyncio.sleep(0.1)
        await ctx.step("work", abs, 1)
        return list(await waiting)

    async def signal(verb: Verb, argument: Any) -> None:
        if (verb, len(sent)) in (("commit", 0), ("read", 1)):
            sent.append(verb)
            await (await two.runs.get("r")).signal("go", len(sent))

    sent: list[Verb] = []
    async with machine.open() as app, machine.open(worker=False, store=Wire(machine.store)) as two:
        run = await handler.options(app=app).start(None, id="r")
        machine.wire.after = signal
        before = machine.clock.wall()
        assert (await run.result()).output == [1, 2]

    assert machine.clock.wall() - before < 0.5


async def test_a_hint_during_the_last_read_of_a_write_is_seen_to(machine: Machine) -> None:
    record = await held(machine)
    await record.catch_up()
    behind: list[int] = []
    record.behind = lambda: behind.append(record.run.revision)

    async def hint(verb: Verb, argument: Any) -> None:
        assert not record.hint(record.run.revision + 2)

    machine.wire.after = hint
    await record.write()
    assert behind == []
    await record.write(AttemptBegan(died=True))
    await asyncio.sleep(0)

    assert behind == [3]


@pytest.mark.parametrize("is_edge", [False, True])
async def test_nothing_is_written_after_what_may_be_lost(machine: Machine, is_edge: bool) -> None:
    """Items that come later would leave a gap: those of the lost write are emitted again, first."""

    go_on = machine.wire.before

    async def lose(verb: Verb, argument: Any) -> None:
        machine.wire.before = go_on
        raise Unavailable("the request was lost")

    record = await held(machine)
    await record.catch_up()
    offsets = count(1)
    record.carry = lambda: [Emitted(next(offsets), 1, "item")]
    record.stop()
    machine.wire.before = lose

    with pytest.raises(Unavailable):
        await (record.decide(lambda _: []) if is_edge else record.write())
    with pytest.raises(Unavailable):
        await record.decide(lambda _: [HandedBack(0.0)])

    assert types_of(machine.store, "r") == ["created", "turn_began"]


async def test_what_waits_when_the_attempt_is_over_is_not_written_without_its_items(
    machine: Machine,
) -> None:
    record = await held(machine)
    await record.catch_up()
    record.carry = lambda: [Emitted(1, 1, "item")]

    async with record._turn:  # something is read, or written, meanwhile
        writing = asyncio.create_task(record.write(Checkpointed("step", "a", 1, 0)))
        await asyncio.sleep(0)
        record.close()

    with pytest.raises(Fenced):
        await writing
    assert types_of(machine.store, "r") == ["created", "turn_began"]


async def test_what_got_no_answer_is_said_again_under_the_same_id(machine: Machine) -> None:
    said: list[str] = []
    passed = machine.wire.after

    async def lose_once(verb: Verb, argument: Any) -> None:
        machine.wire.after = passed
        raise Unavailable("the reply was lost")

    async def note(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            said.append(argument[0].id)

    record = await held(machine)
    await record.catch_up()
    machine.wire.before, machine.wire.after = note, lose_once

    await record.decide(lambda _: [HandedBack(0.0)])

    assert len(said) == 2
    assert len(set(said)) == 1
    assert types_of(machine.store, "r") == ["created", "turn_began", "handed_back"]


async def test_a_bug_of_ours_leaves_the_lease_of_code_that_does_not_stop(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    door = threading.Event()

    async def break_the_end(verb: Verb, argument: Any) -> None:
        if verb == "commit" and argument[0].close:
            raise ZeroDivisionError("a bug of ours")

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        with suppress(TimeoutError):
            await ctx.step.options(timeout=timedelta(seconds=1))("wait", door.wait)

    async with machine.open():
        machine.wire.before = break_the_end
        await handler.start(None, id="r")
        await asyncio.sleep(5)
        door.set()

    assert "an error of outlast's own" in caplog.text
    assert "handed_back" not in types_of(machine.store, "r")
    assert head_of(machine.store, "r").lease is not None
    caplog.clear()


async def test_a_store_that_stops_answering_stops_nothing_before_the_lease(
    machine: Machine,
) -> None:
    @task
    async def handler(ctx: TaskContext[None]) -> int:
        return await ctx.step("work", abs, -7)

    async def no_answer(verb: Verb, argument: Any) -> None:
        if machine.clock.wall() < answers_at:
            raise Unavailable("the network is down")

    async with machine.open():
        run = await handler.start(None, id="r")
        answers_at = machine.clock.wall() + LEASE / 2
        machine.wire.before = no_answer
        await asyncio.sleep(LEASE / 2)
        assert (await run.result()).output == 7

    assert run_of(machine.store, "r").recoveries == 0


async def test_a_run_whose_store_is_gone_when_it_is_taken_up_is_left(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    async def no_answer(verb: Verb, argument: Any) -> None:
        if verb in ("read", "renew"):
            raise Unavailable("the network is down")

    async with (
        machine.open(grace=timedelta(0)),
        machine.open(worker=False, store=Wire(machine.store)) as client,
    ):
        await recorded.options(app=client).start(None, id="r", delay=timedelta(seconds=1))
        machine.wire.before = no_answer
        await asyncio.sleep(2 * LEASE)
        assert "run/r is left to the end of its lease: the network is down" in caplog.text


async def test_what_a_turn_asked_for_is_not_written_in_the_next_one(machine: Machine) -> None:
    """A lease goes on from turn to turn: it does not refuse what the turn before left behind."""

    go_on, gate = machine.wire.before, asyncio.Event()

    async def hold(verb: Verb, argument: Any) -> None:
        machine.wire.before = go_on
        await gate.wait()

    record = await held(machine)
    await record.catch_up()
    machine.wire.before = hold
    begun = TurnBegan(2, "i", "continued")
    asked = [asyncio.ensure_future(record.write(Checkpointed("step", "a", 1, 0, 7)))]
    await asyncio.sleep(0.1)  # it is under way, and the others wait for it
    asked.append(asyncio.ensure_future(record.write(Checkpointed("step", "b", 1, 1, 8))))
    ending = asyncio.ensure_future(record.decide(lambda _: [TurnEnded("continued"), begun]))
    await asyncio.sleep(0.1)
    gate.set()
    await ending

    with pytest.raises(asyncio.CancelledError):
        await asked[1]
    await asked[0]
    assert types_of(machine.store, "r")[2:] == ["checkpointed", "turn_ended", "turn_began"]
    assert (record.run.turn, record.run.checkpoints) == (2, {})
