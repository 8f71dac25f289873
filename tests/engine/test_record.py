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
from outlast import (
    Fenced,
    RetryPolicy,
    TaskContext,
    TaskNotFound,
    TaskTimedOut,
    Unavailable,
    UsageError,
    task,
)
from outlast.engine.emission import Emission
from outlast.engine.leases import Leases
from outlast.engine.record import Record
from outlast.engine.turn import Turn
from outlast.engine.worker import Worker
from outlast.errors import Unwound
from outlast.journal import Change, Claim, Head
from outlast.model.events import (
    AttemptBegan,
    Created,
    Emitted,
    Ended,
    HandedBack,
    Signalled,
    Status,
    TurnBegan,
    encode,
)
from outlast.model.run import Run
from outlast.testing import SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.world import LEASE, Wire, head_of, run_of, types_of

loop_factory = SkippingLoop


@task(name="recorded")
async def recorded(ctx: TaskContext[Any]) -> Any:
    return await ctx.wait("go")


async def held(machine: Machine, *events: Any) -> Record:
    """Return the record of a run whose lease we hold, at its first revision after these events."""
    run = Run()
    for event in (Created("recorded", None, "i", 0.0), TurnBegan(1)):
        run.evolve(event, 0.0)
    change = Change(
        key="run/r",
        id="made",
        entries=(*map(encode, (Created("recorded", None, "i", 0.0), TurnBegan(1), *events)),),
        card=run.card(),
        revision=0,
        claim=Claim("me", LEASE, "f"),
    )
    [head] = await machine.store.commit(change)
    return Record(machine.wire, machine.system, head, Run())


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


# What the engine needs of the future


async def test_a_run_that_timed_out_says_so(machine: Machine) -> None:
    record = await held(machine)
    await record.catch_up()
    await record.decide(lambda _: [Ended(Status.TIMED_OUT, reason="late")])

    async with machine.open(worker=False) as app:
        with pytest.raises(TaskTimedOut, match="run 'r' did not end in time: late"):
            await (await app.runs.get("r")).result()


async def test_the_stream_of_another_turn_counts_for_the_offset_only(machine: Machine) -> None:
    record = await held(machine, Emitted(5, 9, "of another turn", outside=3))
    await record.catch_up()
    emission = Emission(Turn(record, machine.system, recorded._definition, 1000))
    emission.begin()
    await emission.resume()

    await emission.emit("of this turn")
    await record.write()

    assert types_of(machine.store, "r")[-2:] == ["emitted", "emitted"]
    assert '"offset":6' in machine.store._entries["run/r"][-1].data.replace(" ", "")


async def test_what_cannot_be_read_of_the_stream_is_what_was_thrown(machine: Machine) -> None:
    async def no_answer(verb: Verb, argument: Any) -> None:
        raise Unavailable("the network is down")

    record = await held(machine, AttemptBegan(died=True))
    await record.catch_up()
    turn = Turn(record, machine.system, recorded._definition, 1000)
    emission = Emission(turn)
    machine.wire.before = no_answer
    record.stop()

    with pytest.raises(Unavailable):
        await emission.emit("beside")
    turn.throw(Unwound("stopped"))
    with pytest.raises(Unwound):
        await emission.emit("beside")


async def test_what_was_taken_back_is_not_taken_back_again(machine: Machine) -> None:
    tries: list[int] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        async def speak() -> None:
            tries.append(1)
            if len(tries) == 1:
                await ctx.emit("first")
            if len(tries) < 4:
                raise OSError("no")

        policy = RetryPolicy(9, initial_delay=timedelta(seconds=1))
        await ctx.step.options(retry=policy)("speak", speak)

    async with machine.open():
        await handler.run(None, id="r")

    assert types_of(machine.store, "r").count("taken_back") == 1


async def test_a_handler_that_calls_on_and_on_after_its_end_never_returns(
    machine: Machine,
) -> None:
    record = await held(machine)
    turn = Turn(record, machine.system, recorded._definition, 1000)
    turn.throw(Unwound("stopped"))
    for _ in range(10):
        with pytest.raises(Unwound):
            await turn.check_thrown()

    calling = asyncio.ensure_future(turn.check_thrown())
    await asyncio.sleep(60)

    assert not calling.done()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_a_refused_write_is_raised_where_nothing_was_thrown(machine: Machine) -> None:
    record = await held(machine)
    machine.clock.advance(LEASE + 1)
    await machine.store.delete("run/r", expect=2)
    turn = Turn(record, machine.system, recorded._definition, 1000)

    with pytest.raises(Fenced):
        await turn.write(AttemptBegan(died=True))


async def test_a_worker_may_take_a_run_again_before_it_knows_that_it_had_lost_it(
    machine: Machine,
) -> None:
    entered: list[str] = []

    @task
    async def handler(ctx: TaskContext[None]) -> str:
        entered.append(ctx.entry_mode)
        await asyncio.sleep(2 * LEASE)
        return await ctx.wait("go", str)

    async with machine.open():
        run = await handler.start(None, id="r")
        await asyncio.sleep(1)
        head = head_of(machine.store, "r")
        machine.store._heads["run/r"] = head._replace(lease=None)  # as after a forced decision
        machine.store._hint(outlast.store.Hint("run/other"))
        await asyncio.sleep(LEASE)
        assert entered == ["fresh", "recovered"]
        await run.signal("go", "gone")
        assert (await run.result()).output == "gone"


# Leases and workers that never began


def lease_of(head: Head) -> Any:
    assert head.lease is not None
    return head.lease


async def test_leases_that_were_never_kept_are_closed(machine: Machine) -> None:
    leases = Leases(machine.wire, machine.system, LEASE)

    await leases.close()
    leases.open()
    await leases.close()


async def test_a_lease_that_is_forgotten_while_it_is_renewed_is_not_lost(
    machine: Machine,
) -> None:
    record = await held(machine)
    lost: list[str] = []
    leases = Leases(machine.wire, machine.system, LEASE)
    lease = lease_of(head_of(machine.store, "r"))

    async def forget(verb: Verb, argument: Any) -> None:
        leases.forget(lease)
        if len(renewals) == 1:
            machine.clock.advance(LEASE + 1)
            await machine.store.delete("run/r", expect=2)
        renewals.append(verb)

    renewals: list[Verb] = []
    machine.wire.before = forget
    leases.open()
    for _ in range(2):
        leases.keep(lease, machine.system.monotonic(), lambda: lost.append("lost"))
        await asyncio.sleep(LEASE)
    await leases.close()

    assert renewals == ["renew"] * 2
    assert not lost
    del record


async def test_a_worker_that_never_began_is_closed(machine: Machine) -> None:
    async with machine.open(worker=False) as app:
        worker = Worker(
            app.client.around, owner="me", queues=["a"], concurrency=1, lease=LEASE, grace=0
        )

        await worker.close()


async def test_a_run_that_is_gone_when_its_start_is_said_again_is_not_found(
    machine: Machine,
) -> None:
    async def signalled_and_lost(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            machine.wire.after = delete_after_commit
            fact = Change(key="run/r", id="s", entries=(encode(Signalled("go", 1)),), fact=True)
            await machine.store.commit(fact)
            raise Unavailable("no answer")

    async def delete_after_commit(verb: Verb, argument: Any) -> None:
        if verb == "commit":
            await machine.store.delete("run/r", expect=2)

    async with machine.open(worker=False) as app:
        machine.wire.after = signalled_and_lost
        with pytest.raises(TaskNotFound):
            await recorded.options(app=app).start(None, id="r")


# Retry policies


@pytest.mark.parametrize(
    "settings",
    [
        {"max_attempts": 0},
        {"max_attempts": 1_000_001},
        {"initial_delay": timedelta(seconds=-1)},
        {"max_delay": 3},
        {"backoff": 0.5},
    ],
    ids=str,
)
def test_a_retry_policy_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RetryPolicy(**settings)


def test_delays_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(9, initial_delay=timedelta(seconds=1), max_delay=timedelta(seconds=5))

    assert [policy.delay(retry, lambda share: 1.0) for retry in (1, 2, 3, 4, 999_999)] == [
        1,
        2,
        4,
        5,
        5,
    ]
    assert policy.delay(1, lambda share: 1 + share) == 1.25


def test_a_function_gives_the_delays() -> None:
    policy = RetryPolicy(9, backoff=lambda retry: timedelta(seconds=retry), jitter=False)

    assert [policy.delay(retry, lambda share: 2.0) for retry in (1, 2, 3, 100)] == [1, 2, 3, 60]
