"""`delete`: what is forgotten, and that no revision comes again."""

# ruff: noqa: D102 - the name of a test is a sentence

from __future__ import annotations

import pytest

from outlast.errors import Conflict
from outlast.store import Query, Reading, Store
from outlast.testing.clock import FakeClock
from outlast.testing.contract.drafting import (
    LANE,
    TTL,
    append,
    create,
    journals,
    keys,
    lease_of,
    new_id,
)


@pytest.mark.asyncio
class DeleteContract:
    """What is deleted leaves only the floor."""

    async def test_a_delete_forgets_everything(self, store: Store) -> None:
        await store.commit(create("a", 50, tags={"x": "1"}), create("b"))

        assert await store.delete("a", expect=50) is True

        assert await store.read("a") == Reading(None, [], 50)
        assert await keys(store, Query(kind="run")) == ["b"]
        assert await keys(store, Query(kind="run", tags={"x": "1"}, order="created")) == []
        claimed = await store.claim([LANE], "worker", TTL, 9, new_id())
        assert [head.key for head in claimed.heads] == ["b"]

    async def test_what_is_not_there_is_not_deleted(self, store: Store) -> None:
        await store.commit(create())

        assert await store.delete("other", expect=77) is False
        assert await store.delete("k", expect=1) is True
        assert await store.delete("k", expect=1) is False
        assert (await store.read("k")).floor == 1

    async def test_a_delete_expects_the_revision_that_was_read(self, store: Store) -> None:
        await store.commit(create(number=3))
        before = await journals(store, "k")

        for expect in (2, 4, 0):
            with pytest.raises(Conflict) as refused:
                await store.delete("k", expect=expect)
            said = refused.value
            assert (said.key, said.what, said.expected, said.actual) == ("k", "revision", expect, 3)

        assert await journals(store, "k") == before

    async def test_what_somebody_holds_is_not_deleted(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        before = await journals(store, "k")

        with pytest.raises(Conflict) as refused:
            await store.delete("k", expect=1)

        assert (refused.value.what, refused.value.actual) == ("lease", str(lease.fence))
        assert await journals(store, "k") == before
        clock.advance(TTL)
        assert await store.delete("k", expect=1) is True
        assert await store.renew([lease], TTL) == []

    async def test_no_revision_of_a_key_is_used_twice(self, store: Store) -> None:
        await store.commit(create(number=4))
        await store.delete("k", expect=4)

        [head] = await store.commit(create(number=2))

        assert (head.first, head.revision) == (5, 6)
        reading = await store.read("k")
        assert [entry.revision for entry in reading.entries] == [5, 6]
        assert (reading.head, reading.floor) == (head, 4)
        [head] = await store.commit(append(first=5, revision=6))
        assert (head.first, head.revision) == (5, 7)

    async def test_a_journal_made_anew_begins_with_nothing(
        self, store: Store, clock: FakeClock
    ) -> None:
        [old] = await store.commit(create(title="t", tags={"x": "1"}, due=None, priority=4))
        await store.commit(append(card={"due": 0.0}))
        await lease_of(store)
        clock.advance(TTL)
        await store.commit(append(close=True))
        await store.delete("k", expect=3)
        clock.advance(1)

        [new] = await store.commit(create())

        assert (new.facts, new.since, new.closed, new.token, new.lease) == (0, 0, False, 0, None)
        assert (new.card.title, new.card.tags, new.card.priority) == ("", {}, 0)
        assert new.created > old.created
        assert new.created_at > old.created_at
        assert [entry.revision for entry in (await store.read("k", None)).entries] == [4]

    async def test_the_floor_is_one_for_all_keys_and_rises_each_time(self, store: Store) -> None:
        await store.commit(create("a", 9), create("b", 3), create("c"))
        floors = [(await store.read("c")).floor]
        for key, revision in (("a", 9), ("b", 3), ("c", 1)):
            await store.delete(key, expect=revision)
            floors.append((await store.read("anything")).floor)

        heads = await store.commit(create("b"), create("new", 2))

        assert floors == [0, 9, 10, 11]
        assert [(head.first, head.revision) for head in heads] == [(12, 12), (12, 13)]

    async def test_reads_count_revisions_not_entries(self, store: Store) -> None:
        await store.commit(create(number=10))
        await store.delete("k", expect=10)
        await store.commit(create(number=10))

        reading = await store.read("k", 14, limit=3)

        assert [entry.revision for entry in reading.entries] == [15, 16, 17]
        assert [e.revision for e in (await store.read("k", last=2)).entries] == [19, 20]
        assert [e.revision for e in (await store.read("k", 5, limit=2)).entries] == [11, 12]

    async def test_what_was_meant_for_a_deleted_journal_expects_its_first(
        self, store: Store
    ) -> None:
        await store.commit(create())
        late = append(first=1)
        await store.delete("k", expect=1)
        await store.commit(create())

        with pytest.raises(Conflict) as refused:
            await store.commit(late)

        assert (refused.value.what, refused.value.expected, refused.value.actual) == ("first", 1, 2)

    async def test_a_create_that_was_said_before_a_delete_is_refused_after_it(
        self, store: Store
    ) -> None:
        """Also where the journal was shorter than one that was deleted while it was there."""
        await store.commit(create("long", 9), create("short", 2))
        await store.delete("long", expect=9)
        late = append(key="short", revision=0, first=(await store.read("short")).floor + 1)
        await store.delete("short", expect=2)

        with pytest.raises(Conflict) as refused:
            await store.commit(late)

        assert refused.value.what == "first"

    async def test_a_create_said_again_after_a_delete_is_refused(self, store: Store) -> None:
        floor = (await store.read("k")).floor
        made = append(revision=0, first=floor + 1)
        await store.commit(made)
        await store.delete("k", expect=1)

        with pytest.raises(Conflict) as refused:
            await store.commit(made)

        assert refused.value.what == "first"
        assert (await store.read("k")).head is None

    async def test_an_id_is_forgotten_with_its_journal(self, store: Store) -> None:
        made = create()
        await store.commit(made)
        await store.delete("k", expect=1)

        [head] = await store.commit(made)

        assert (head.first, head.revision) == (2, 2)
