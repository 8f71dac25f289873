"""`claim`: whose turn it is, and who gets it."""

# ruff: noqa: D102, PLR2004 - the name of a test is a sentence; a number stands where it is compared

from __future__ import annotations

import asyncio

import pytest

from outlast.store import Claimed, Lane, Store
from outlast.testing.clock import FakeClock
from outlast.testing.contract.drafting import (
    LANE,
    TTL,
    append,
    create,
    fact,
    held,
    journals,
    lease_of,
    new_id,
)


@pytest.mark.asyncio
class ClaimContract:
    """What is due in a lane, and held by nobody, is taken by one."""

    async def test_where_nothing_is_there_nothing_is_claimed(self, store: Store) -> None:
        assert await claim(store) == ([], None)
        assert await claim(store, lanes=[]) == ([], None)

    async def test_a_claim_takes_the_lease(self, store: Store, clock: FakeClock) -> None:
        [old] = await store.commit(create())

        before = clock.boot()
        claimed = await store.claim([LANE], "worker", TTL, 1, "mine")
        after = clock.boot()

        [head] = claimed.heads
        lease = held(head)
        assert (head.key, head.revision, head.card) == ("k", old.revision, old.card)
        assert (lease.key, lease.owner, lease.fence.token, lease.fence.id) == (
            "k",
            "worker",
            1,
            "mine",
        )
        assert before + TTL <= lease.until <= after + TTL
        assert head.token == 1
        assert (await store.read("k")).head == head

    async def test_a_claim_is_no_update(self, store: Store) -> None:
        [old] = await store.commit(create())

        [head] = (await store.claim([LANE], "worker", TTL, 1, new_id())).heads

        assert (head.updated, head.updated_at) == (old.updated, old.updated_at)

    async def test_only_what_is_due_is_claimed(self, store: Store, clock: FakeClock) -> None:
        now = clock.wall()
        await store.commit(
            create("past", due=now - 1),
            create("now", due=now),
            create("later", due=now + 5),
            create("never", due=None),
        )

        assert (await claim(store))[0] == ["past", "now"]
        clock.advance(5)
        assert (await claim(store))[0] == ["later"]

    async def test_a_lane_is_a_queue_and_a_name(self, store: Store) -> None:
        for queue, name in (("q", "n"), ("q", "m"), ("p", "n"), ("p", "m"), ("", "n"), ("q", "")):
            await store.commit(create(f"{queue}-{name}", queue=queue, name=name))

        assert (await claim(store, lanes=[Lane("q", "n"), Lane("p", "m")]))[0] == ["p-m", "q-n"]
        assert (await claim(store, lanes=[Lane("n", "q"), Lane("Q", "m")]))[0] == []
        assert (await claim(store, lanes=[Lane("q", ""), Lane("q", "")]))[0] == ["q-"]
        assert (await claim(store, lanes=[Lane("p", "n"), Lane("q", "m"), Lane("", "n")]))[0] == [
            "-n",
            "p-n",
            "q-m",
        ]

    async def test_the_texts_of_a_lane_are_taken_literally(self, store: Store) -> None:
        lanes = [
            Lane("a:b", "c"),
            Lane("a", "b:c"),
            Lane("a%", "_"),
            Lane("a'", '"'),
            Lane("é", "\0"),
        ]
        lanes = [lane for lane in lanes if "\0" not in lane.name]
        for number, lane in enumerate(lanes):
            await store.commit(create(str(number), queue=lane.queue, name=lane.name))

        for number, lane in enumerate(lanes):
            assert (await claim(store, lanes=[lane]))[0] == [str(number)]

    async def test_priority_then_due_then_key(self, store: Store, clock: FakeClock) -> None:
        now = clock.wall()
        for key, priority, due in (
            ("c", 0, now - 1),
            ("b", 0, now - 2),
            ("B", 0, now - 1),
            ("a", -1, now - 9),
            ("é", 0, now - 1),
            ("d", 7, now),
            ("later", 9, now + 1),
            ("\U0001f40d", 0, now - 1),
            ("\ufffd", 0, now - 1),
            ("e", 10, now),
        ):
            await store.commit(create(key, priority=priority, due=due))

        taken = [(await claim(store, limit=limit))[0] for limit in (2, 3, 99)]

        assert taken == [["e", "d"], ["b", "B", "c"], ["é", "\ufffd", "\U0001f40d", "a"]]

    async def test_the_order_holds_over_all_lanes(self, store: Store) -> None:
        lanes = [Lane("q", str(number)) for number in range(30)]
        for number, lane in enumerate(lanes):
            await store.commit(
                create(f"k{number:02}", queue=lane.queue, name=lane.name, priority=number * 7 % 30)
            )

        taken = [(await claim(store, limit=8, lanes=lanes))[0] for _ in range(4)]

        assert [key for found in taken for key in found] == [
            f"k{number:02}" for number in sorted(range(30), key=lambda n: -(n * 7 % 30))
        ]

    async def test_a_claim_takes_no_more_than_its_limit(self, store: Store) -> None:
        await store.commit(*(create(f"k{number}") for number in range(5)))

        assert await claim(store, limit=2) == (["k0", "k1"], 0.0)
        assert await claim(store, limit=0) == ([], 0.0)
        taken, next_in = await claim(store, limit=3)
        assert taken == ["k2", "k3", "k4"]
        assert next_in != 0

    async def test_what_somebody_holds_is_not_claimed(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create())
        await lease_of(store)

        assert (await claim(store))[0] == []
        clock.advance(TTL - 0.5)
        assert (await claim(store))[0] == []
        clock.advance(0.5)
        assert (await claim(store))[0] == ["k"]

    async def test_one_claim_gives_all_its_leases_one_id(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(*(create(f"k{number}") for number in range(3)))
        await store.claim([LANE], "worker", TTL, 2, "first")
        clock.advance(TTL)

        heads = (await store.claim([LANE], "another", TTL, 3, "second")).heads

        leases = [held(head) for head in heads]
        assert [(lease.fence.token, lease.fence.id) for lease in leases] == [
            (2, "second"),
            (2, "second"),
            (1, "second"),
        ]
        assert {lease.owner for lease in leases} == {"another"}

    async def test_no_two_workers_get_the_same_lease(self, store: Store) -> None:
        await store.commit(*(create(f"k{number:02}") for number in range(20)))

        answers = await asyncio.gather(*(claim(store, limit=4) for _ in range(8)))

        taken = [key for keys, _ in answers for key in keys]
        assert sorted(taken) == [f"k{number:02}" for number in range(20)]

    async def test_the_card_of_the_last_write_says_where_it_is_claimed(self, store: Store) -> None:
        await store.commit(create())

        await store.commit(append(card={"queue": "other", "name": "task"}))

        assert (await claim(store))[0] == []
        assert (await claim(store, lanes=[Lane("other", "task")]))[0] == ["k"]

    async def test_a_fact_makes_claimable(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create("a", due=None), create("b", due=clock.wall() + 99))

        await store.commit(fact("b"))
        await store.commit(fact("a"))

        assert (await claim(store))[0] == ["a", "b"]

    async def test_a_run_at_work_is_claimable_again_at_its_leases_end(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        await store.commit(append(fence=lease.fence))

        clock.advance(TTL)

        second = await lease_of(store, "another")
        assert (second.owner, second.fence.token) == ("another", 2)

    async def test_what_is_given_back_may_be_claimed_at_once(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)

        [head] = await store.commit(append(fence=lease.fence, release=True))

        assert (head.lease, head.token) == (None, 1)
        assert (await lease_of(store)).fence.token == 2

    async def test_what_is_given_back_with_its_own_due_waits_for_it(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        due = clock.wall() + 60

        await store.commit(append(fence=lease.fence, release=True, card={"due": due}))

        assert (await claim(store))[0] == []
        clock.advance(60)
        assert (await claim(store))[0] == ["k"]

    async def test_a_closed_journal_that_is_due_is_claimed(self, store: Store) -> None:
        await store.commit(create())
        await store.commit(append(close=True))

        lease = await lease_of(store)

        [head] = await store.commit(append(fence=lease.fence, closed=True, card={"due": None}))
        assert head.closed

    # When the next one may come.

    async def test_next_in_is_when_the_next_may_be_claimable(
        self, store: Store, clock: FakeClock
    ) -> None:
        now = clock.wall()
        await store.commit(create("rests", due=None))
        assert await claim(store) == ([], None)
        await store.commit(create("elsewhere", due=now + 1, queue="other"))
        assert await claim(store) == ([], None)
        await store.commit(create("later", due=now + 40), create("soon", due=now + 8))

        taken, next_in = await claim(store)

        assert taken == []
        assert_soon(next_in, 8)

    async def test_next_in_knows_when_leases_end(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create())

        taken, next_in = await claim(store)
        clock.advance(4)
        none, sooner = await claim(store)

        assert (taken, none) == (["k"], [])
        assert_soon(next_in, TTL)
        assert_soon(sooner, TTL - 4)

    async def test_next_in_is_the_later_of_due_and_the_leases_end(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create("a"), create("b"))
        heads = (await store.claim([LANE], "worker", TTL, 2, new_id())).heads
        due = clock.wall() + 60
        await store.commit(append("a", fence=heads[0].fence, card={"due": due}))
        await store.commit(append("b", fence=heads[1].fence, card={"due": None}))

        _, next_in = await claim(store)

        assert_soon(next_in, 60)
        assert next_in is not None
        assert next_in > TTL, "the lease ends sooner, and then nothing is due"

    async def test_who_waits_for_next_in_finds_something(
        self, store: Store, clock: FakeClock
    ) -> None:
        for number in range(6):
            await store.commit(create(f"k{number}", due=clock.wall() + number * number * 3.5))
        before = await journals(store, "k0")

        taken: list[str] = []
        for _ in range(20):
            found, next_in = await claim(store, limit=1, ttl=10_000.0)
            taken += found
            assert next_in is not None
            assert found or next_in > 0
            clock.advance(next_in if len(taken) < 6 else 0)

        assert taken == [f"k{number}" for number in range(6)]
        assert before != await journals(store, "k0")


async def claim(
    store: Store,
    *,
    limit: int = 10,
    lanes: list[Lane] | tuple[Lane, ...] = (LANE,),
    ttl: float = TTL,
) -> tuple[list[str], float | None]:
    """Return the keys of what is claimed, and when there may be more."""
    claimed: Claimed = await store.claim(lanes, "worker", ttl, limit, new_id())
    return [head.key for head in claimed.heads], claimed.next_in


def assert_soon(next_in: float | None, seconds: float) -> None:
    """A worker that sleeps so long is not late; it may look early, and is not kept busy."""
    assert next_in is not None
    assert 0 < next_in <= seconds + 1e-3
