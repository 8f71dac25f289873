"""Stores whose data is there for whoever opens them next, or at the same time."""

# ruff: noqa: D102, PLR2004 - the name of a test is a sentence; a number stands where it is compared

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from outlast.errors import Conflict, Fenced
from outlast.journal import Claim
from outlast.store import Query, Store
from outlast.testing.clock import FakeClock
from outlast.testing.contract.drafting import (
    LANE,
    TTL,
    append,
    create,
    fact,
    held,
    journals,
    keys,
    lease_of,
    new_id,
)


@pytest.mark.asyncio
class SharedStoreContract:
    """`make_store` gives another store on the same data each time, not entered yet."""

    async def test_what_was_accepted_is_there_when_it_is_opened_again(
        self, make_store: Callable[[], Store], clock: FakeClock
    ) -> None:
        taking = replace(create("held", 3), claim=Claim("worker", TTL, new_id()))
        async with make_store() as store:
            await store.commit(create("gone", 7))
            await store.delete("gone", expect=7)
            [head] = await store.commit(taking)
            await store.commit(create("rests", title="é", tags={"x": "1"}, due=None))
            cursor = (await store.scan(Query(kind="run"), limit=1)).next
            before = await journals(store, "gone", "held", "rests")

        async with make_store() as store:
            assert await journals(store, "gone", "held", "rests") == before
            assert before[0].floor == 7
            assert await store.commit(taking) == [head]
            assert (await store.claim([LANE], "another", TTL, 9, new_id())).heads == []
            rest = await store.scan(Query(kind="run"), after=cursor)
            assert [head.key for head in rest.heads] == ["rests"]
            [kept] = await store.renew([held(head)], TTL)
            clock.advance(TTL)
            assert (await lease_of(store, "another")).fence.token == 2
            with pytest.raises(Fenced):
                await store.commit(append("held", fence=kept.fence))
            [made] = await store.commit(create("gone"))
            assert made.first == 8
            assert made.created > head.created

    async def test_what_one_wrote_the_other_reads(self, make_store: Callable[[], Store]) -> None:
        async with make_store() as one, make_store() as other:
            [made] = await one.commit(create())
            assert (await other.read("k")).head == made
            assert await keys(other, Query(kind="run")) == ["k"]

            [written] = await other.commit(append(revision=1))
            assert (await one.read("k")).head == written
            assert await one.delete("k", expect=2)
            assert (await other.read("k")).head is None

    async def test_a_change_said_again_elsewhere_is_done(
        self, make_store: Callable[[], Store]
    ) -> None:
        async with make_store() as one, make_store() as other:
            change = create()
            heads = await one.commit(change)

            assert await other.commit(change) == heads

    async def test_of_two_that_write_at_one_revision_one_wins(
        self, make_store: Callable[[], Store]
    ) -> None:
        async with make_store() as one, make_store() as other:
            for revision in range(6):
                answers = await asyncio.gather(
                    *(store.commit(append(revision=revision)) for store in (one, other)),
                    return_exceptions=True,
                )

                assert sum(isinstance(answer, Conflict) for answer in answers) == 1
            assert [e.revision for e in (await one.read("k")).entries] == [1, 2, 3, 4, 5, 6]

    async def test_no_lease_is_taken_by_two(self, make_store: Callable[[], Store]) -> None:
        async with make_store() as one, make_store() as other:
            await one.commit(*(create(f"k{number:02}") for number in range(20)))

            answers = await asyncio.gather(
                *(
                    store.claim([LANE], "worker", TTL, 3, new_id())
                    for _ in range(4)
                    for store in (one, other)
                )
            )

            taken = [head.key for claimed in answers for head in claimed.heads]
            assert sorted(taken) == [f"k{number:02}" for number in range(20)]

    async def test_a_lease_taken_elsewhere_fences(
        self, make_store: Callable[[], Store], clock: FakeClock
    ) -> None:
        async with make_store() as one, make_store() as other:
            await one.commit(create())
            old = await lease_of(one)
            clock.advance(TTL)
            new = await lease_of(other, "another")

            with pytest.raises(Fenced) as refused:
                await one.commit(append(fence=old.fence))

            assert refused.value.current == new.fence
            assert await one.renew([old], TTL) == []
            assert [lease.fence for lease in await one.renew([new], TTL)] == [new.fence]

    async def test_facts_of_many_are_all_there(self, make_store: Callable[[], Store]) -> None:
        async with make_store() as one, make_store() as other:
            await one.commit(create())
            facts = [fact() for _ in range(40)]

            await asyncio.gather(
                *((one, other)[number % 2].commit(change) for number, change in enumerate(facts))
            )

            reading = await other.read("k", 1)
            assert sorted(entry.change for entry in reading.entries) == sorted(f.id for f in facts)
            assert [entry.revision for entry in reading.entries] == list(range(2, 42))

    async def test_the_floor_is_known_to_all(self, make_store: Callable[[], Store]) -> None:
        async with make_store() as one, make_store() as other:
            await one.commit(create("a", 5))
            assert (await other.read("a")).floor == 0
            await one.delete("a", expect=5)

            [head] = await other.commit(create("b"))

            assert (head.first, (await other.read("b")).floor) == (6, 5)
