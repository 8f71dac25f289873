"""`commit`: what is written, what is refused, and what is said twice."""

# ruff: noqa: D102, PLR2004 - the name of a test is a sentence; a number stands where it is compared

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from outlast.errors import Conflict, Fenced, StoreError, UsageError
from outlast.journal import BLOB_GRACE, MAX_CARD_BYTES, SNAPSHOT, Card, Change, Claim, Draft, Head
from outlast.store import Store
from outlast.testing.clock import FakeClock
from outlast.testing.contract.drafting import (
    TTL,
    abort,
    append,
    create,
    drafts,
    fact,
    held,
    journals,
    lease_of,
    new_id,
)


@pytest.mark.asyncio
class CommitContract:
    """Each change is written whole or not at all, and once."""

    async def test_a_commit_of_nothing_writes_nothing(self, store: Store) -> None:
        assert await store.commit() == []

    async def test_what_was_committed_is_read_back(self, store: Store, clock: FakeClock) -> None:
        change = Change(
            key="k",
            id="c-1",
            entries=(Draft("a", '{"x":1}'), Draft("b", "[2]")),
            revision=0,
            card={
                "kind": "run",
                "name": "n",
                "title": "t",
                "status": "pending",
                "queue": "q",
                "due": 12.5,
                "priority": -3,
                "tags": {"x": "1", "y": "2"},
                "session": "s",
                "source": "u",
            },
        )

        before = clock.wall()
        [head] = await store.commit(change)
        after = clock.wall()
        reading = await store.read("k")

        assert reading.head == head
        assert (head.key, head.first, head.revision, head.facts, head.since) == ("k", 1, 2, 0, 0)
        assert (head.closed, head.token, head.lease) == (False, 0, None)
        assert head.card == Card(
            kind="run",
            name="n",
            title="t",
            status="pending",
            queue="q",
            due=12.5,
            priority=-3,
            tags={"x": "1", "y": "2"},
            session="s",
            source="u",
        )
        assert before <= head.created_at == head.updated_at <= after
        assert [(e.revision, e.type, e.data, e.change) for e in reading.entries] == [
            (1, "a", '{"x":1}', "c-1"),
            (2, "b", "[2]", "c-1"),
        ]
        assert all(before <= entry.at <= after for entry in reading.entries)

    async def test_revisions_are_consecutive(self, store: Store) -> None:
        await store.commit(create())
        for number in (3, 0, 40, 2):
            await store.commit(append(entries=drafts(number)))

        reading = await store.read("k")

        assert [entry.revision for entry in reading.entries] == list(range(1, 47))
        assert reading.head is not None
        assert reading.head.revision == 46

    async def test_a_card_field_that_is_not_named_stays(self, store: Store) -> None:
        [old] = await store.commit(create(title="t", tags={"a": "b"}, priority=2, session="s"))

        [new] = await store.commit(append(card={"status": "running", "due": None, "title": ""}))

        assert new.card == old.card._replace(status="running", due=None, title="")

    async def test_tags_are_set_as_a_whole(self, store: Store) -> None:
        await store.commit(create(tags={"a": "1", "b": "2"}))

        [head] = await store.commit(append(card={"tags": {"b": "3"}}))

        assert head.card.tags == {"b": "3"}

    async def test_a_change_without_entries_sets_fields(self, store: Store) -> None:
        [old] = await store.commit(create())

        [new] = await store.commit(append(entries=(), card={"due": 7.25}))

        assert (new.revision, new.card.due) == (old.revision, 7.25)
        assert (await store.read("k")).head == new

    async def test_the_card_has_its_limit(self, store: Store) -> None:
        room = MAX_CARD_BYTES - len("run" + "queue" + "name")
        [head] = await store.commit(create(title="é" * (room // 2)))
        before = await journals(store, "k", "other")

        with pytest.raises(UsageError, match="card"):
            await store.commit(append(card={"source": "ab"}))
        with pytest.raises(UsageError, match="card"):
            await store.commit(create("other", tags={"t" * 5_000: "v" * 5_000}))

        assert len(head.card.title) == room // 2
        assert await journals(store, "k", "other") == before

    async def test_the_head_knows_its_newest_snapshot(self, store: Store) -> None:
        await store.commit(create(number=2))

        [first] = await store.commit(append(entries=(*drafts(), *drafts(1, SNAPSHOT), *drafts())))
        [second] = await store.commit(append())
        [third] = await store.commit(append(entries=drafts(2, SNAPSHOT)))

        assert [head.since for head in (first, second, third)] == [4, 4, 8]

    async def test_the_store_counts_its_writes(self, store: Store, clock: FakeClock) -> None:
        [a] = await store.commit(create("a"))
        clock.jump(-500.0)
        [b] = await store.commit(create("b"))
        [later] = await store.commit(append("a"))

        assert a.created == a.updated < b.created == b.updated < later.updated
        assert later.created == a.created
        assert later.created_at == a.created_at
        assert b.created_at < a.created_at

    async def test_entries_keep_the_blobs_that_they_name(
        self, store: Store, clock: FakeClock
    ) -> None:
        named = (Draft("a", "1", ("sha-1", "sha-2")), Draft("b", "2"), Draft("c", "3", ("sha-1",)))

        await store.commit(append(revision=0, entries=named, touched=clock.wall()))

        assert [entry.blobs for entry in (await store.read("k")).entries] == [
            ("sha-1", "sha-2"),
            (),
            ("sha-1",),
        ]

    async def test_blobs_that_a_sweep_may_have_taken_are_refused(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        named = append(entries=(Draft("a", "1", ("sha",)),), touched=clock.wall())
        clock.advance(BLOB_GRACE / 2 + 1)
        before = await journals(store, "k")

        with pytest.raises(Conflict) as refused:
            await store.commit(named)

        assert (refused.value.key, refused.value.what) == ("k", "blobs")
        assert await journals(store, "k") == before
        await store.commit(replace(named, touched=clock.wall()))

    # Facts.

    async def test_a_fact_is_counted_and_brings_due_to_now(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create("never", due=None), create("later", due=clock.wall() + 900))

        before = clock.wall()
        heads = await store.commit(fact("never", 2), fact("later"))
        after = clock.wall()

        assert [head.facts for head in heads] == [2, 1]
        for head in heads:
            assert head.card.due is not None
            assert before <= head.card.due <= after

    async def test_a_fact_leaves_a_due_that_has_come(self, store: Store) -> None:
        await store.commit(create(due=3.0))

        [head] = await store.commit(fact())

        assert head.card.due == 3.0

    async def test_a_fact_changes_nothing_else_of_the_head(self, store: Store) -> None:
        [old] = await store.commit(create(title="t", due=3.0, tags={"a": "b"}))

        [new] = await store.commit(fact())

        assert new.card == old.card
        assert (new.closed, new.token, new.lease, new.since) == (False, 0, None, 0)

    async def test_a_fact_is_written_while_somebody_holds_the_lease(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)

        [head] = await store.commit(fact())

        assert head.lease == lease

    async def test_a_fact_does_not_make_a_journal(self, store: Store) -> None:
        with pytest.raises(Conflict) as refused:
            await store.commit(fact())

        assert refused.value.what == "revision"
        assert (await store.read("k")).head is None

    async def test_a_flood_of_facts_holds_up_no_step(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        for _ in range(20):
            await store.commit(fact())

        [head] = await store.commit(append(fence=lease.fence))

        assert (head.revision, head.facts) == (22, 20)

    # What is expected.

    async def test_an_expectation_that_fails_is_a_conflict_and_writes_nothing(
        self, store: Store
    ) -> None:
        await store.commit(create(number=2))
        await store.commit(fact())
        before = await journals(store, "k")

        for what, change, expected, actual in (
            ("first", append(first=2), 2, 1),
            ("revision", append(revision=2), 2, 3),
            ("revision", append(revision=4), 4, 3),
            ("revision", create(), 0, 3),
            ("facts", append(facts=0), 0, 1),
            ("facts", fact(facts=2), 2, 1),
            ("closed", append(closed=True), True, False),
        ):
            with pytest.raises(Conflict) as refused:
                await store.commit(change)
            said = refused.value
            assert (said.key, said.what, said.expected, said.actual) == (
                "k",
                what,
                expected,
                actual,
            )

        assert await journals(store, "k") == before

    async def test_expectations_that_hold_are_no_conflict(self, store: Store) -> None:
        await store.commit(create(number=2))
        await store.commit(fact(facts=0))

        [head] = await store.commit(append(first=1, revision=3, facts=1, closed=False))

        assert head.revision == 4

    async def test_what_is_not_there_is_only_made_by_a_create(self, store: Store) -> None:
        for change in (append(), append(revision=3), abort(), append(first=1), append(close=True)):
            with pytest.raises(Conflict) as refused:
                await store.commit(change)
            assert (refused.value.what, refused.value.actual) == ("revision", 0)

        assert (await store.read("k")).head is None

    async def test_a_create_expects_the_floor_that_it_read(self, store: Store) -> None:
        with pytest.raises(Conflict) as refused:
            await store.commit(append(revision=0, first=2))

        assert (refused.value.what, refused.value.actual) == ("first", 1)
        [head] = await store.commit(append(revision=0, first=1, facts=0))
        assert head.first == 1

    async def test_of_concurrent_commits_one_wins(self, store: Store) -> None:
        for revision in (0, 1):
            changes = [append(revision=revision) for _ in range(8)]

            answers = await asyncio.gather(
                *(store.commit(change) for change in changes), return_exceptions=True
            )

            won = [n for n, answer in enumerate(answers) if not isinstance(answer, BaseException)]
            lost = [answer for answer in answers if isinstance(answer, Conflict)]
            assert (len(won), len(lost)) == (1, 7)
            entries = (await store.read("k", revision)).entries
            assert [entry.change for entry in entries] == [changes[won[0]].id]

    async def test_concurrent_commits_to_one_journal_are_all_numbered(self, store: Store) -> None:
        await store.commit(create())

        answers = await asyncio.gather(*(store.commit(fact()) for _ in range(30)))

        assert sorted(head.revision for [head] in answers) == list(range(2, 32))
        assert [entry.revision for entry in (await store.read("k")).entries] == list(range(1, 32))

    async def test_a_refused_call_touches_no_other(self, store: Store) -> None:
        """Calls that wait together may be written together; each stands or falls for itself."""
        await store.commit(create("a"), create("b"))
        good = [append("a") for _ in range(10)]
        bad = [append("b", revision=99) for _ in range(10)]
        calls = [change for pair in zip(good, bad, strict=True) for change in pair]

        answers = await asyncio.gather(
            *(store.commit(change) for change in calls), return_exceptions=True
        )

        assert [isinstance(answer, Conflict) for answer in answers] == [False, True] * 10
        assert {e.change for e in (await store.read("a", 1)).entries} == {c.id for c in good}
        assert (await store.read("b", 1)).entries == []

    async def test_a_call_that_is_cancelled_is_said_again(self, store: Store) -> None:
        """It may or may not have been written; said again, it is there once."""
        await store.commit(create())
        change, other = fact(), fact()
        gone = asyncio.ensure_future(store.commit(change))  # noqa: TID251 - to be cancelled
        beside = asyncio.ensure_future(store.commit(other))  # noqa: TID251
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, beside, return_exceptions=True)

        await store.commit(change)

        written = [entry.change for entry in (await store.read("k", 1)).entries]
        assert sorted(written) == sorted([change.id, other.id])

    # Said twice.

    async def test_a_change_said_again_writes_nothing(self, store: Store) -> None:
        changes = [create(number=3), append(card={"title": "t"}), fact(), append(revision=5)]
        for change in changes:
            await store.commit(change)
        before = await journals(store, "k")

        for change in changes:
            [head] = await store.commit(change)
            assert head == before[0].head

        assert await journals(store, "k") == before

    async def test_already_done_is_asked_before_everything_else(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        step = append(
            fence=lease.fence,
            facts=0,
            entries=(Draft("a", "1", ("sha",)),),
            touched=clock.wall(),
        )
        signal, ended = fact(facts=0), append(fence=lease.fence, close=True, release=True)
        for change in (step, signal, ended):
            await store.commit(change)
        await store.commit(append(closed=True, close=True, card={"due": 0.0}))
        await lease_of(store, "another")
        clock.advance(BLOB_GRACE)
        before = await journals(store, "k")

        for change in (step, signal, ended):
            [head] = await store.commit(change)
            assert head == before[0].head

        assert await journals(store, "k") == before

    async def test_an_id_said_again_counts_whatever_else_it_says(self, store: Store) -> None:
        change = create()
        [head] = await store.commit(change)

        assert await store.commit(Change(key="k", id=change.id, revision=77)) == [head]
        assert await store.commit(replace(abort(), id=change.id)) == [head]

    async def test_a_change_said_again_takes_no_lease(self, store: Store, clock: FakeClock) -> None:
        """Whoever claims compares the fence: this one is another's, or over."""
        taking = replace(create(), claim=Claim("worker", TTL, "one"))
        [mine] = await store.commit(taking)
        again = replace(taking, claim=Claim("worker", TTL, "two"))

        [while_held] = await store.commit(again)
        clock.advance(TTL)
        [once_over] = await store.commit(again)
        await store.commit(append(revision=1))
        [once_void] = await store.commit(again)

        assert while_held == once_over == mine
        assert (once_void.lease, once_void.token) == (None, 1)

    async def test_a_change_without_entries_is_not_remembered(self, store: Store) -> None:
        """An id is kept by the entries that bear it; what wrote none is done again."""
        await store.commit(create())
        early, late = (append(entries=(), card={"due": due}) for due in (1.0, 2.0))
        await store.commit(early)
        await store.commit(late)

        [head] = await store.commit(early)

        assert (head.card.due, head.revision) == (1.0, 1)

    async def test_an_id_is_unique_in_its_journal_only(self, store: Store) -> None:
        change = create("a")
        await store.commit(change, create("c"))

        heads = await store.commit(replace(change, key="b"), replace(append("c"), id=change.id))

        assert [(head.key, head.revision) for head in heads] == [("b", 1), ("c", 2)]

    async def test_a_change_that_was_refused_may_be_said_again(self, store: Store) -> None:
        await store.commit(create())
        change = append(revision=2)
        with pytest.raises(Conflict):
            await store.commit(change)
        await store.commit(append())

        [head] = await store.commit(change)

        assert head.revision == 3

    # Closed.

    async def test_a_closed_journal_takes_neither_decisions_nor_facts(self, store: Store) -> None:
        await store.commit(create())
        [head] = await store.commit(append(close=True))
        before = await journals(store, "k")
        assert head.closed

        for change in (append(), append(revision=2), fact(), abort(), append(close=False)):
            with pytest.raises(Conflict) as refused:
                await store.commit(change)
            said = refused.value
            assert (said.what, said.expected, said.actual) == ("closed", False, True)

        assert await journals(store, "k") == before

    async def test_who_expects_a_closed_journal_may_write_and_open_it(self, store: Store) -> None:
        await store.commit(create())
        await store.commit(append(close=True))

        [marked] = await store.commit(append(closed=True))
        [opened] = await store.commit(append(closed=True, close=False, revision=3))
        [written] = await store.commit(fact())

        assert [head.closed for head in (marked, opened, written)] == [True, False, False]

    async def test_a_run_ends_before_a_late_input_or_after_it(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)

        ending, coming = await asyncio.gather(
            store.commit(append(fence=lease.fence, facts=0, close=True, release=True)),
            store.commit(fact(facts=0)),
            return_exceptions=True,
        )

        assert isinstance(ending, Conflict) != isinstance(coming, Conflict)

    # Several journals.

    async def test_heads_come_back_in_the_order_of_the_changes(self, store: Store) -> None:
        await store.commit(create("b", 2))

        heads = await store.commit(create("c"), append("b"), create("a", 5))

        assert [(head.key, head.revision) for head in heads] == [("c", 1), ("b", 3), ("a", 5)]
        assert [r.head for r in await journals(store, "c", "b", "a")] == heads

    async def test_changes_to_one_journal_are_written_in_their_order(self, store: Store) -> None:
        made, more = create(), append(revision=1)

        heads = await store.commit(made, more, made)

        assert (heads[-1].revision, len(heads)) == (2, 3)
        entries = (await store.read("k")).entries
        assert [entry.change for entry in entries] == [made.id, more.id]

    async def test_several_changes_stand_or_fall_together_if_the_store_is_atomic(
        self, store: Store
    ) -> None:
        await store.commit(create("a"), create("b"), create("c"))
        lease = await lease_of(store)
        before = await journals(store, "a", "b", "c", "d")
        wanted = (fact("b"), create("d"), append("c", revision=5), fact("b"))

        with pytest.raises(Conflict) as refused:
            await store.commit(append(lease.key, fence=lease.fence), *wanted)

        assert refused.value.key == "c"
        done = [(head.key, head.revision) for head in refused.value.done]
        if store.traits.atomic:
            assert done == []
            assert await journals(store, "a", "b", "c", "d") == before
        else:
            assert done == [("a", 2), ("b", 2), ("d", 1)]
            assert await revisions(store, "a", "b", "c", "d") == [2, 2, 1, 1]

    async def test_a_commit_of_several_may_be_said_again(self, store: Store) -> None:
        await store.commit(create("a"), create("b"))
        call = (append("a"), append("b", revision=2), create("c"))
        with pytest.raises(Conflict):
            await store.commit(*call)
        await store.commit(append("b"))

        await store.commit(*call)
        await store.commit(*call)

        assert await revisions(store, "a", "b", "c") == [2, 3, 1]

    async def test_the_fenced_change_stands_first_so_that_nothing_follows_it(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create("a"), create("b", due=None))
        old = await lease_of(store)
        clock.advance(TTL)
        await lease_of(store, "another")
        before = await journals(store, "a", "b")

        with pytest.raises(Fenced) as refused:
            await store.commit(append("a", fence=old.fence), fact("b"))

        assert list(refused.value.done) == []
        assert await journals(store, "a", "b") == before

    async def test_a_refused_commit_of_several_gives_its_ids_back(self, store: Store) -> None:
        made, broken = create("a"), append("b", revision=4)
        with pytest.raises(StoreError):
            await store.commit(broken, made)

        [head] = await store.commit(made)

        assert head.revision == 1

    # Create and claim in one write.

    async def test_create_and_claim_is_one_write(self, store: Store, clock: FakeClock) -> None:
        taking = replace(create(), claim=Claim("worker", TTL, "mine"))

        before = clock.boot()
        [head] = await store.commit(taking)
        after = clock.boot()

        lease = held(head)
        assert (lease.key, lease.owner, lease.fence.id, lease.fence.token) == (
            "k",
            "worker",
            "mine",
            1,
        )
        assert before + TTL <= lease.until <= after + TTL
        assert head.token == 1
        [head] = await store.commit(append(fence=lease.fence))
        assert head.revision == 2

    async def test_of_two_starters_the_second_gets_a_conflict(self, store: Store) -> None:
        answers = await asyncio.gather(
            *(
                store.commit(replace(create(), claim=Claim(owner, TTL, new_id())))
                for owner in ("one", "two")
            ),
            return_exceptions=True,
        )

        assert sum(isinstance(answer, Conflict) for answer in answers) == 1
        reading = await store.read("k")
        assert isinstance(reading.head, Head)
        assert reading.head.token == 1
        assert len(reading.entries) == 1

    async def test_a_change_claims_only_what_nobody_holds(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        taking = append(claim=Claim("another", TTL, "theirs"))

        with pytest.raises(Conflict) as refused:
            await store.commit(taking)
        clock.advance(TTL)
        [head] = await store.commit(taking)

        assert (refused.value.what, refused.value.expected) == ("lease", None)
        assert refused.value.actual == str(lease.fence)
        assert (held(head).owner, held(head).fence.token) == ("another", 2)


async def revisions(store: Store, *keys: str) -> list[int | None]:
    """Return the revisions of these journals; None: it is not there."""
    readings = await journals(store, *keys)
    return [reading.head.revision if reading.head else None for reading in readings]
