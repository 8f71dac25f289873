"""What only runs of several turns, and with time limits, will need of the engine."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import outlast
from outlast import Fenced, RetryPolicy, TaskContext, TaskTimedOut, Unavailable, task
from outlast.engine.emission import Emission
from outlast.engine.turn import Turn
from outlast.errors import Unwound
from outlast.model.events import AttemptBegan, Emitted, Ended, Status
from outlast.testing import SkippingLoop
from outlast.testing.wrapping import Verb
from tests.engine.conftest import Machine
from tests.engine.holding import held, recorded
from tests.engine.world import LEASE, head_of, types_of

loop_factory = SkippingLoop


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
