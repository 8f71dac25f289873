"""Leases: who may write, for how long, and who may not any more."""

# ruff: noqa: D102, PLR2004 - the name of a test is a sentence; a number stands where it is compared

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from outlast.errors import Conflict, Fenced
from outlast.journal import Change, Claim, Fence, Lease, is_held
from outlast.store import Store
from outlast.testing.clock import FakeClock
from outlast.testing.contract.drafting import (
    LANE,
    TTL,
    abort,
    append,
    create,
    fact,
    held,
    journals,
    lease_of,
    new_id,
)


@pytest.mark.asyncio
class LeaseContract:
    """Clocks say when to try; fences say who may write."""

    # Fences.

    async def test_the_holder_writes_without_naming_a_revision(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        await store.commit(fact())

        [head] = await store.commit(append(fence=lease.fence))

        assert (head.revision, head.lease) == (3, lease)

    async def test_an_old_holder_is_fenced(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create())
        old = await lease_of(store)
        clock.advance(TTL)
        new = await lease_of(store, "another")

        await assert_fenced(store, append(fence=old.fence), old.fence, new.fence)
        await assert_fenced(store, append(fence=old.fence, release=True), old.fence, new.fence)
        await assert_fenced(store, append(fence=old.fence, revision=99), old.fence, new.fence)
        [head] = await store.commit(append(fence=new.fence))
        assert head.lease == new

    async def test_who_gave_the_lease_back_is_fenced(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        await store.commit(append(fence=lease.fence, release=True))

        await assert_fenced(store, append(fence=lease.fence), lease.fence, None)

    async def test_no_fence_opens_what_is_not_there(self, store: Store) -> None:
        fence = Fence(1, "made up")

        await assert_fenced(store, append(fence=fence, revision=0), fence, None)
        await store.commit(create())
        await assert_fenced(store, append(fence=fence), fence, None)

    async def test_both_the_token_and_the_id_count(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        token, id = lease.fence.token, lease.fence.id

        for fence in (Fence(token, "other"), Fence(token + 1, id), Fence(token - 1, id)):
            await assert_fenced(store, append(fence=fence), fence, lease.fence)

    async def test_a_journal_made_anew_does_not_revive_an_old_lease(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        old = await lease_of(store)
        clock.advance(TTL)
        await store.delete("k", expect=1)
        await store.commit(create())

        await assert_fenced(store, append(fence=old.fence), old.fence, None)
        new = await lease_of(store, "another")

        assert new.fence.token == old.fence.token == 1
        await assert_fenced(store, append(fence=old.fence), old.fence, new.fence)
        assert await store.renew([old], TTL) == []

    async def test_the_token_only_grows(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create())
        tokens: list[int] = []
        for _ in range(3):
            tokens.append((await lease_of(store)).fence.token)
            clock.advance(TTL)
            [head] = await store.commit(append(claim=Claim("worker", TTL, new_id())))
            tokens.append(held(head).fence.token)
            [head] = await store.commit(append(fence=head.fence, release=True))
            assert head.token == tokens[-1]

        assert tokens == [1, 2, 3, 4, 5, 6]

    async def test_a_decision_without_a_fence_waits_for_the_lease(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        before = await journals(store, "k")

        for change in (append(), append(revision=1), append(entries=(), card={"due": None})):
            with pytest.raises(Conflict) as refused:
                await store.commit(change)
            said = refused.value
            assert (said.key, said.what, said.expected, said.actual) == (
                "k",
                "lease",
                None,
                str(lease.fence),
            )

        assert await journals(store, "k") == before

    async def test_the_lease_is_asked_before_what_is_expected(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        old = await lease_of(store)
        for change in (append(revision=9), append(first=9), append(closed=True)):
            with pytest.raises(Conflict) as refused:
                await store.commit(change)
            assert refused.value.what == "lease"
        clock.advance(TTL)

        await store.commit(append(close=True))

        await assert_fenced(store, append(fence=old.fence, revision=9), old.fence, None)

    # The end of a lease.

    async def test_a_lease_that_ended_still_writes_until_somebody_else_does(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        clock.advance(TTL + 99)

        [head] = await store.commit(append(fence=lease.fence))
        await store.commit(fact())
        [head] = await store.commit(append(fence=lease.fence))

        assert head.fence == lease.fence

    async def test_a_decision_voids_a_lease_that_ended(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        clock.advance(TTL)

        [head] = await store.commit(append(revision=1))

        assert (head.lease, head.token) == (None, 1)
        await assert_fenced(store, append(fence=lease.fence), lease.fence, None)
        assert await store.renew([lease], TTL) == []

    async def test_a_refused_decision_voids_nothing(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        clock.advance(TTL)

        with pytest.raises(Conflict):
            await store.commit(append(revision=7))

        [head] = await store.commit(append(fence=lease.fence))
        assert head.fence == lease.fence

    # An abort.

    async def test_force_takes_the_lease_from_its_holder(self, store: Store) -> None:
        await store.commit(create())
        lease = await lease_of(store)

        [head] = await store.commit(abort())

        assert (head.closed, head.lease, head.token) == (True, None, 1)
        await assert_fenced(store, append(fence=lease.fence), lease.fence, None)
        await assert_fenced(store, append(fence=lease.fence, closed=True), lease.fence, None)
        assert await store.renew([lease], TTL) == []

    async def test_force_takes_the_lease_even_if_it_does_not_say_release(
        self, store: Store
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)

        [head] = await store.commit(append(fence="force"))

        assert head.lease is None
        await assert_fenced(store, append(fence=lease.fence), lease.fence, None)

    async def test_force_still_expects(self, store: Store) -> None:
        await store.commit(create())
        await lease_of(store)

        with pytest.raises(Conflict) as refused:
            await store.commit(replace(abort(), revision=5))

        assert refused.value.what == "revision"

    # Renewing.

    async def test_renewing_keeps_others_out(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        clock.advance(TTL - 1)

        before = clock.boot()
        [kept] = await store.renew([lease], TTL)
        after = clock.boot()
        clock.advance(TTL - 1)

        assert before + TTL <= kept.until <= after + TTL
        assert kept == lease._replace(until=kept.until)
        assert (await store.claim([LANE], "another", TTL, 1, new_id())).heads == []
        head = (await store.read("k")).head
        assert head is not None
        assert head.lease == kept
        clock.advance(1)
        await lease_of(store, "another")

    async def test_renewing_may_shorten_a_lease(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create())
        lease = await lease_of(store)

        await store.renew([lease], 1.0)
        clock.advance(1.0)

        await lease_of(store, "another")

    async def test_renewing_is_no_update(self, store: Store) -> None:
        [old] = await store.commit(create())
        lease = await lease_of(store)

        await store.renew([lease], TTL)

        head = (await store.read("k")).head
        assert head is not None
        assert (head.updated, head.updated_at, head.revision) == (
            old.updated,
            old.updated_at,
            old.revision,
        )

    async def test_a_lease_that_ended_is_renewed_while_nobody_took_it(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        clock.advance(TTL + 99)
        await store.commit(fact())

        [kept] = await store.renew([lease], TTL)

        assert kept.fence == lease.fence
        assert (await store.claim([LANE], "another", TTL, 1, new_id())).heads == []
        await store.commit(append(fence=kept.fence))

    async def test_only_what_is_still_held_is_renewed(self, store: Store, clock: FakeClock) -> None:
        names = ("aborted", "decided", "deleted", "kept", "released", "taken over")
        await store.commit(*(create(name) for name in names))
        heads = (await store.claim([LANE], "worker", TTL, 9, new_id())).heads
        leases = {head.key: held(head) for head in heads}
        await store.commit(append("released", fence=leases["released"].fence, release=True))
        await store.commit(append("released", card={"due": None}))
        await store.commit(abort("aborted"))
        await store.commit(append("aborted", closed=True, card={"due": None}))
        [kept] = await store.renew([leases["kept"]], TTL + 99)
        clock.advance(TTL)
        await store.commit(append("decided", card={"due": None}))
        await store.delete("deleted", expect=1)
        new = await lease_of(store, "another")
        before = await journals(store, *names)

        assert await store.renew([leases["kept"]], TTL) == [kept._replace(until=clock.boot() + TTL)]
        lost = [lease for key, lease in leases.items() if key != "kept"]
        assert await store.renew(lost, TTL) == []

        after = await journals(store, *names)
        assert [key for key, a, b in zip(names, before, after, strict=True) if a != b] == ["kept"]
        assert new.key == "taken over"

    async def test_all_leases_of_a_worker_are_renewed_at_once(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(*(create(f"k{number:03}") for number in range(120)))
        heads = (await store.claim([LANE], "worker", TTL, 120, new_id())).heads
        leases = [held(head) for head in heads]
        made_up = Lease("nobody", "worker", Fence(1, "x"), 0.0)
        old = leases[7]._replace(fence=Fence(0, leases[7].fence.id))
        clock.advance(TTL - 1)

        kept = await store.renew([made_up, *leases[8:], old, *leases[:7]], TTL)

        assert {lease.key for lease in kept} == {f"k{number:03}" for number in range(120)} - {
            "k007"
        }
        clock.advance(1)
        claimed = await store.claim([LANE], "another", TTL, 99, new_id())
        assert [head.key for head in claimed.heads] == ["k007"]

    async def test_renewing_nothing_keeps_nothing(self, store: Store) -> None:
        assert await store.renew([], TTL) == []
        assert await store.renew([Lease("k", "worker", Fence(1, "x"), 0.0)], TTL) == []

    async def test_a_blocked_event_loop_does_not_lose_its_leases(
        self, store: Store, clock: FakeClock
    ) -> None:
        """Leases are renewed from another thread's loop while this one does not turn."""
        await store.commit(create())
        lease = await lease_of(store)
        clock.advance(TTL - 1)
        kept: list[Lease] = []

        def renewing() -> None:
            kept.extend(asyncio.run(store.renew([lease], TTL)))

        thread = threading.Thread(target=renewing, daemon=True)
        thread.start()
        thread.join(30)

        assert [(other.key, other.fence) for other in kept] == [("k", lease.fence)]
        clock.advance(TTL - 1)
        assert (await store.claim([LANE], "another", TTL, 1, new_id())).heads == []

    async def test_a_renewal_and_a_takeover_do_not_both_win(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)
        clock.advance(TTL)

        kept, claimed = await asyncio.gather(
            store.renew([lease], TTL), store.claim([LANE], "another", TTL, 1, new_id())
        )

        assert len(kept) + len(claimed.heads) == 1


@pytest.mark.asyncio
class EmbeddedClockContract:
    """What a store promises that goes by the clocks of its machine: a `store` given the `clock`."""

    async def test_a_wall_clock_that_is_set_ends_no_lease_and_lengthens_none(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(create())
        lease = await lease_of(store)

        clock.jump(9_999)
        assert (await store.claim([LANE], "another", TTL, 1, new_id())).heads == []
        [kept] = await store.renew([lease], TTL)
        clock.jump(-9_999)
        clock.advance(TTL)

        assert kept.until == lease.until
        assert (await lease_of(store, "another")).fence.token == 2

    async def test_due_goes_by_the_wall_clock(self, store: Store, clock: FakeClock) -> None:
        await store.commit(create(due=clock.wall() + 60))
        clock.jump(-60)
        clock.advance(60)
        assert (await store.claim([LANE], "worker", TTL, 1, new_id())).heads == []

        clock.jump(60)

        await lease_of(store)

    async def test_times_are_those_of_the_wall_clock(self, store: Store, clock: FakeClock) -> None:
        [made] = await store.commit(create())
        clock.jump(-100)
        [written] = await store.commit(append())

        assert (made.created_at, made.updated_at) == (clock.wall() + 100, clock.wall() + 100)
        assert (written.created_at, written.updated_at) == (clock.wall() + 100, clock.wall())

    async def test_a_start_of_the_machine_ends_all_leases(
        self, store: Store, clock: FakeClock
    ) -> None:
        await store.commit(*(create(key) for key in "abcd"))
        heads = (await store.claim([LANE], "worker", TTL, 4, new_id())).heads
        old = {head.key: held(head) for head in heads}

        clock.reboot(boot=1.0)

        for reading in await journals(store, "a", "b", "c", "d"):
            assert reading.head is not None
            assert not is_held(reading.head, clock.boot())
        claimed = await store.claim([LANE], "another", TTL, 1, new_id())
        assert [(head.key, head.token) for head in claimed.heads] == [("a", 2)]
        assert claimed.next_in == 0
        await assert_fenced(
            store, append("a", fence=old["a"].fence), old["a"].fence, claimed.heads[0].fence
        )
        [head] = await store.commit(append("b", revision=1))
        assert head.lease is None
        assert await store.delete("c", expect=1)
        [kept] = await store.renew([old["d"]], TTL)
        assert kept.until == clock.boot() + TTL

    async def test_a_start_of_the_machine_ends_leases_by_its_id(
        self, store: Store, clock: FakeClock
    ) -> None:
        """A machine that has been up for longer than before has been started anew all the same."""
        await store.commit(create())
        await lease_of(store)

        clock.reboot(boot=clock.boot())

        assert (await lease_of(store, "another")).fence.token == 2


async def assert_fenced(store: Store, change: Change, fence: Fence, current: Fence | None) -> None:
    """The change is refused for its fence, and changes nothing."""
    before = await journals(store, change.key)
    with pytest.raises(Fenced) as refused:
        await store.commit(change)
    said = refused.value
    assert (said.key, said.fence, said.current) == (change.key, fence, current)
    assert await journals(store, change.key) == before
