"""What a simulation is: processes that die and stand still, and chance that comes from a seed."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from outlast import App, TaskContext, task
from outlast.testing import Odds
from outlast.testing.simulation import Process, Simulation, SimulationFailed, State
from outlast.testing.simulation.worlds import WORLDS

LEASE = timedelta(seconds=5)

log: list[tuple[str, float]] = []
"""What steps have done, and when."""


def note(what: str) -> None:
    log.append((what, asyncio.get_running_loop().time()))


@task(name="simulation.test")
async def handler(ctx: TaskContext[int]) -> str:
    async def act() -> str:
        note(f"{ctx.token} begins")
        try:
            await asyncio.sleep(ctx.input)
        finally:
            note(f"{ctx.token} ends")
        return f"by {ctx.token}"

    return await ctx.step("act", act)


@pytest.fixture(autouse=True)
def nothing_noted() -> None:
    log.clear()


def client(seconds: int, results: list[str]) -> Callable[[App], Awaitable[None]]:
    async def work(app: App) -> None:
        run = await handler.start(seconds, id="r")
        results.append((await run.result()).output)

    return work


def has_begun() -> bool:
    return bool(log)


def test_time_passes_only_where_everybody_waits() -> None:
    results: list[str] = []
    with Simulation(1) as simulation:
        simulation.open("worker", lease=LEASE)
        process = simulation.open("client", client(600, results), worker=False)

        simulation.run(lambda: process.state is State.ENDED, within=700)

        assert results == ["by 1"]
        assert 600 < simulation.now - 5000 < 605


def test_nothing_of_a_killed_process_happens_any_more() -> None:
    results: list[str] = []
    with Simulation(1) as simulation:
        worker = simulation.open("worker", lease=LEASE)
        process = simulation.open("client", client(3, results), worker=False)
        simulation.run(has_begun, within=10)

        worker.kill()
        simulation.open("worker", lease=LEASE)
        simulation.run(lambda: process.state is State.ENDED, within=60)

        assert [what for what, _ in log] == ["1 begins", "2 begins", "2 ends"]
        assert log[1][1] - log[0][1] > 4
        assert results == ["by 2"]
        assert simulation.totals["kills"] == 1


def test_a_frozen_process_goes_on_as_if_nothing_had_happened() -> None:
    results: list[str] = []
    with Simulation(1) as simulation:
        first = simulation.open("worker", lease=LEASE)
        process = simulation.open("client", client(3, results), worker=False)
        simulation.run(has_begun, within=10)

        first.freeze(30)
        simulation.open("worker", lease=LEASE)
        simulation.run(lambda: process.state is State.ENDED, within=25)
        assert [what for what, _ in log] == ["1 begins", "2 begins", "2 ends"]
        assert first.is_held
        simulation.run(lambda: len(log) == 4, within=60)

        assert log[-1][0] == "1 ends"
        assert 30 < log[-1][1] - log[0][1] < 31
        assert results == ["by 2"]


def test_a_blocked_process_keeps_its_lease() -> None:
    results: list[str] = []
    with Simulation(1) as simulation:
        first = simulation.open("worker", lease=LEASE)
        process = simulation.open("client", client(3, results), worker=False)
        simulation.run(has_begun, within=10)

        first.block(30)
        simulation.open("worker", lease=LEASE)
        simulation.run(lambda: process.state is State.ENDED, within=60)

        assert results == ["by 1"]
        assert log[-1][1] - log[0][1] > 30


def test_what_was_sent_before_a_kill_may_still_arrive() -> None:
    async def work(app: App) -> None:
        await handler.start(1, id="r")
        note("accepted")

    async def look(app: App) -> None:
        await asyncio.sleep(1)
        assert (await app.runs.get("r")).id == "r"

    with Simulation(1) as simulation:

        def kill(process: Process) -> None:
            requests.append(process.name)
            if len(requests) == 2:  # the first reads the floor, the second makes the run
                process.kill()

        requests: list[str] = []
        simulation.at_request = kill
        simulation.open("client", work, worker=False)
        simulation.run(lambda: len(requests) == 2, within=10)
        process = simulation.open("looker", look, worker=False)
        simulation.run(lambda: process.state is State.ENDED, within=10)

        assert log == []


@pytest.mark.parametrize(
    ("odds", "count"),
    [
        (Odds(lost_request=0.1), "lost requests"),
        (Odds(lost_reply=0.1), "lost replies"),
        (Odds(late_request=0.2), "late requests"),
        (Odds(pause=0.02), "pauses"),
        (Odds(lost_hint=1.0), "lost hints"),
        (Odds(late_hint=1.0), "late hints"),
        (Odds(repeated_hint=1.0), "repeated hints"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_network_has_every_fault_and_runs_end_all_the_same(odds: Odds, count: str) -> None:
    results: list[str] = []
    with Simulation(3, odds=odds) as simulation:
        simulation.open("worker", lease=LEASE)
        process = simulation.open("client", client(20, results), worker=False)
        simulation.run(lambda: process.state is State.ENDED, within=300)

        totals = simulation.count()

    assert totals[count] > 0
    assert len(results) == 1


# What goes wrong is never swallowed


def live(work: Callable[[App], Awaitable[None]], *, worker: bool) -> None:
    with Simulation(5) as simulation:
        process = simulation.open("bad", work, worker=worker)
        simulation.run(lambda: process.state is State.ENDED, within=10)


def failing(work: Callable[[App], Awaitable[None]]) -> str:
    with pytest.raises(SimulationFailed) as failure:
        live(work, worker=False)
    assert failure.value.seed == 5
    assert "bad" in str(failure.value), "the trace shows what had happened"
    return failure.value.what


def test_a_process_that_ends_with_an_error_fails() -> None:
    async def work(app: App) -> None:
        raise ValueError("no")

    assert failing(work) == "bad ends with ValueError('no')"


def test_an_error_in_the_log_fails() -> None:
    async def work(app: App) -> None:
        logging.getLogger("outlast").error("a bug of %s", "ours")

    assert failing(work) == "a bug of ours"


def test_an_error_that_nobody_awaits_fails() -> None:
    async def work(app: App) -> None:
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(1)

    assert "ValueError" in failing(work)


def test_what_does_not_come_to_its_end_fails() -> None:
    async def work(app: App) -> None:
        await asyncio.sleep(11)

    assert failing(work) == "it did not come to its end within 10 s"


def test_what_nothing_will_ever_wake_fails() -> None:
    with pytest.raises(SimulationFailed, match="nothing is to come"), Simulation(5) as simulation:
        simulation.run(lambda: False, within=1e9)


def test_threads_are_refused() -> None:
    def plain() -> None:
        pass

    @task(name="simulation.plain")
    async def uses_thread(ctx: TaskContext[None]) -> None:
        await ctx.step("plain", plain)

    async def work(app: App) -> None:
        run = await uses_thread.start(None)
        await run.result()

    with pytest.raises(SimulationFailed, match="a simulation has no threads"):
        live(work, worker=True)


# The same seed


def digests(hash_seed: str) -> dict[str, str]:
    """Play one seed of each world in another process, and return the digests of its traces.

    Nothing may be left open there: it would be a warning in whichever test comes next.
    """
    program = """
import json
from outlast.testing.simulation.playing import play
from outlast.testing.simulation.worlds import WORLDS
print(json.dumps({name: play(world, 11).digest for name, world in WORLDS.items()}))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    first, again = digests("1"), digests("2")

    assert first.keys() == WORLDS.keys()
    assert len(set(first.values())) == len(WORLDS)
    assert first == again


@pytest.mark.slow
def test_the_command_prints_totals_and_says_what_never_happened() -> None:
    command = [sys.executable, "-m", "outlast.testing.simulation", "--world", "steps"]
    one = subprocess.run([*command, "--seeds", "3:4"], capture_output=True, text=True, check=True)
    several = subprocess.run(
        [*command, "--seeds", "3:5", "--json"], capture_output=True, text=True, check=False
    )

    assert "steps: steps, retries, and steps that may run once; 1 seeds" in one.stdout
    assert "kills" in one.stdout
    [campaign] = json.loads(several.stdout)
    assert campaign["totals"]["runs"] == 16
    assert several.returncode == bool(campaign["missing"])
