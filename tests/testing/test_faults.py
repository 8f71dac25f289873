"""A store on a bad network: the same contract where nothing happens, and each fault by itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from outlast import Conflict, Unavailable
from outlast.journal import Change, Draft
from outlast.store import Hint, Store
from outlast.stores.memory import MemoryStore
from outlast.testing import FakeClock, SkippingLoop
from outlast.testing.contract import EmbeddedClockContract, StoreContract
from outlast.testing.faults import DrawnFaults, Fate, FaultyStore, Odds, ScriptedFaults
from tests.conftest import STORES

T = TypeVar("T")

CREATE = Change(key="k", id="create", entries=(Draft("made", "{}"),), revision=0)


def note(id: str) -> Change:
    return Change(key="k", id=id, entries=(Draft("noted", "{}"),), fact=True)


def run(work: Callable[[MemoryStore], Awaitable[T]]) -> T:
    """Do the work, with a store of its own, on a clock that skips what nobody waits for."""
    loop = SkippingLoop()

    async def play() -> T:
        async with MemoryStore(loop.clock) as inner:
            await inner.commit(CREATE)
            outcome = await work(inner)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"
        return outcome

    try:
        return loop.run_until_complete(play())
    finally:
        loop.close()


async def noted(store: Store) -> list[str]:
    """Return the ids of the changes that are written."""
    return [entry.change for entry in (await store.read("k")).entries][1:]


class TestContract(StoreContract, EmbeddedClockContract):
    """A store to which nothing happens is the store that it wraps."""

    @pytest.fixture(params=STORES)
    async def store(
        self, request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
    ) -> AsyncIterator[Store]:
        async with FaultyStore(STORES[request.param](tmp_path, clock)) as store:
            yield store


def test_a_lost_request_never_arrives() -> None:
    async def play(inner: MemoryStore) -> None:
        faults = ScriptedFaults({("commit", 2): Fate(there=None)})
        async with FaultyStore(inner, faults) as store:
            await store.commit(note("a"))
            with pytest.raises(Unavailable, match=r"the request \(commit\) was lost"):
                await store.commit(note("b"))
            await asyncio.sleep(100)
            await store.commit(note("c"))

            assert await noted(inner) == ["a", "c"]
            assert +store.counts == {"lost request": 1}

    run(play)


def test_a_lost_reply_leaves_what_it_answered_to_in_the_store() -> None:
    async def play(inner: MemoryStore) -> None:
        faults = ScriptedFaults({("commit", 1): Fate(back=None), ("read", 1): Fate(back=None)})
        async with FaultyStore(inner, faults) as store:
            with pytest.raises(Unavailable, match="the answer to commit was lost"):
                await store.commit(note("a"))
            with pytest.raises(Unavailable):
                await store.read("k")

            assert await noted(inner) == ["a"]
            assert +store.counts == {"lost reply": 2}

    run(play)


def test_a_lost_reply_hides_a_refusal_too() -> None:
    async def play(inner: MemoryStore) -> None:
        stale = Change(key="k", id="x", entries=(Draft("noted", "{}"),), revision=7)
        async with FaultyStore(inner, ScriptedFaults({("commit", 1): Fate(back=None)})) as store:
            with pytest.raises(Unavailable):
                await store.commit(stale)
            with pytest.raises(Conflict):
                await store.commit(stale)

    run(play)


def test_a_late_request_arrives_after_it_was_given_up_and_said_again() -> None:
    async def play(inner: MemoryStore) -> None:
        faults = ScriptedFaults({("commit", 1): Fate(there=60), ("commit", 3): Fate(there=60)})
        async with FaultyStore(inner, faults, patience=5) as store:
            began = asyncio.get_running_loop().time()
            with pytest.raises(Unavailable, match="no answer to commit within 5 s"):
                await store.commit(note("a"))
            assert 5 <= asyncio.get_running_loop().time() - began < 6
            await store.commit(note("a"))
            with pytest.raises(Unavailable):
                await store.commit(note("b"))
            assert await noted(inner) == ["a"]
            await asyncio.sleep(100)

            assert await noted(inner) == ["a", "b"]
            assert +store.counts == {"late request": 2}

    run(play)


def test_what_has_not_arrived_when_the_store_is_left_is_lost() -> None:
    async def play(inner: MemoryStore) -> None:
        async with FaultyStore(inner, ScriptedFaults({("commit", 1): Fate(there=60)})) as store:
            with pytest.raises(Unavailable):
                await store.commit(note("a"))
        await asyncio.sleep(100)

        assert await noted(inner) == []
        assert +store.counts == {}

    run(play)


def test_a_delay_shows_only_in_the_time() -> None:
    async def play(inner: MemoryStore) -> None:
        async with FaultyStore(inner, ScriptedFaults({("commit", 1): Fate(2, 1)})) as store:
            began = asyncio.get_running_loop().time()
            await store.commit(note("a"))

            assert 3 <= asyncio.get_running_loop().time() - began < 4
            assert +store.counts == {"delay": 2}

    run(play)


def test_a_server_that_pauses_answers_nobody_and_does_afterwards_what_it_was_asked() -> None:
    async def play(inner: MemoryStore) -> None:
        faults = ScriptedFaults({("commit", 1): Fate(pause=3), ("commit", 3): Fate(pause=20)})
        async with FaultyStore(inner, faults, patience=5) as store:
            both = asyncio.gather(store.commit(note("a")), store.commit(note("b")))
            await asyncio.sleep(2)
            assert await noted(inner) == []
            await both
            assert await noted(inner) == ["a", "b"]

            given_up = asyncio.gather(
                store.commit(note("c")), store.read("k"), return_exceptions=True
            )
            assert [type(answer) for answer in await given_up] == [Unavailable, Unavailable]
            await asyncio.sleep(20)
            assert await noted(inner) == ["a", "b", "c"]
            assert +store.counts == {"pause": 2, "delay": 2, "late request": 2}

    run(play)


def test_hints_are_lost_late_and_repeated() -> None:
    async def play(inner: MemoryStore) -> None:
        faults = ScriptedFaults(hints={1: (), 2: (5.5,), 3: (0.0, 7.0)})
        heard: list[int] = []
        async with FaultyStore(inner, faults) as store:
            end = store.watch(lambda hint: heard.append(hint.revision))
            for id in ("a", "b", "c", "d"):
                await store.commit(note(id))
            assert heard == [4, 5]
            await asyncio.sleep(6)
            assert heard == [4, 5, 3]
            end()
            await asyncio.sleep(6)
            await store.commit(note("e"))

            assert heard == [4, 5, 3]
            assert +store.counts == {"lost hint": 1, "late hint": 2, "repeated hint": 1}

    run(play)


ODDS = Odds(
    lost_request=0.1,
    lost_reply=0.1,
    late_request=0.1,
    pause=0.05,
    lost_hint=0.2,
    late_hint=0.2,
    repeated_hint=0.2,
    latency=(0.01, 0.2),
)


async def write_all(inner: MemoryStore, seed: int) -> tuple[FaultyStore, list[float]]:
    """Write a hundred facts, each said until it is accepted; return when each was."""
    loop = asyncio.get_running_loop()
    async with FaultyStore(inner, DrawnFaults(seed, ODDS), patience=1) as store:
        store.watch(lambda hint: None)
        times: list[float] = []
        for number in range(100):
            while True:
                try:
                    await store.commit(note(str(number)))
                except Unavailable:
                    continue
                times.append(round(loop.time(), 3))
                break
        await asyncio.sleep(60)
    return store, times


def test_every_drawn_fault_happens_and_none_writes_twice() -> None:
    async def play(inner: MemoryStore) -> None:
        store, _ = await write_all(inner, seed=1)

        assert await noted(inner) == [str(number) for number in range(100)]
        assert sorted(+store.counts) == [
            "delay",
            "late hint",
            "late request",
            "lost hint",
            "lost reply",
            "lost request",
            "pause",
            "repeated hint",
        ]

    run(play)


def test_the_same_seed_draws_the_same_faults() -> None:
    first, again, other = (
        run(lambda inner, seed=seed: write_all(inner, seed))  # type: ignore[misc]
        for seed in (1, 1, 2)
    )

    assert (first[0].counts, first[1]) == (again[0].counts, again[1])
    assert first[1] != other[1]


def test_odds_may_be_calmed() -> None:
    faults = DrawnFaults(3, Odds(lost_request=1.0, lost_hint=1.0))
    assert (faults.of_request("read"), faults.of_hint(Hint("k"))) == (Fate(None), ())

    faults.odds = Odds()

    assert (faults.of_request("read"), faults.of_hint(Hint("k"))) == (Fate(), (0.0,))
