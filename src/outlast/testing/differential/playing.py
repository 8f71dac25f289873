"""The calls of a seed, made on both stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Final

from outlast.errors import OutlastError, StoreError
from outlast.journal import Change, Head, Lease, allow, is_held
from outlast.store import Claimed, Reading, Store
from outlast.testing.clock import FakeClock
from outlast.testing.differential import outcomes
from outlast.testing.differential.comparing import Pair, brief, heads_in
from outlast.testing.differential.drawing import KEYS, Chance

CALLS: Final = 80
"""So many are made with one seed."""


async def play(
    seed: int, reference: Store, store: Store, clock: FakeClock, seen: Counter[str]
) -> None:
    """Make the calls of a seed on two empty stores that go by `clock`, and count what came of them.

    Raises:
        AssertionError: the store does not answer as the reference does; its notes tell the calls.
    """
    player = Player(seed, Pair(reference, store, clock), seen)
    try:
        for _ in range(CALLS):
            await player.call()
    except AssertionError as error:
        error.add_note(f"seed {seed}:")
        error.add_note("\n".join(f"  {call}" for call in player.pair.calls))
        raise


class Player:
    """Draws calls, and knows what it needs of their answers to draw the next."""

    chance: Chance
    pair: Pair
    clock: FakeClock

    def __init__(self, seed: int, pair: Pair, seen: Counter[str]) -> None:
        self.chance, self.pair, self.clock = Chance(seed), pair, pair.clock
        self.heads: dict[str, Head] = {}
        self._seen = seen
        self._said: list[tuple[Change, ...]] = []
        self._leases: list[Lease] = []
        self._ended_by_a_start: set[str] = set()
        self._weights: Mapping[Callable[[], Awaitable[None]], int] = {
            self.commit: 40,
            self.commit_several: 6,
            self.commit_again: 12,
            self.claim: 16,
            self.renew: 6,
            self.delete: 8,
            self.read: 10,
            self.scan: 8,
            self.let_time_pass: 12,
        }

    async def call(self) -> None:
        """Make one call that chance chooses, and compare all that is there afterwards."""
        calls, weights = list(self._weights), list(self._weights.values())
        [call] = self.chance.random.choices(calls, weights)
        await call()
        self.heads = {}
        for key in KEYS:
            if head := (await self._read(key)).head:
                self.heads[key] = head
        # Only calls tell what happened; that both hold the same afterwards goes without saying.
        del self.pair.calls[-len(KEYS) :]

    async def _read(self, key: str) -> Reading:
        async def say(store: Store) -> Reading:
            return await store.read(key)

        reading = await self.pair.ask(f"read({key!r})", say)
        assert isinstance(reading, Reading)
        return reading

    async def commit(self) -> None:
        """Write a new change."""
        await self._commit(self._draw_change())

    async def commit_several(self) -> None:
        """Write changes to several journals, or several to one; sometimes all under one id."""
        changes = [self._draw_change() for _ in range(self.chance.one_of(2, 2, 3))]
        if self.chance.happens(0.3):
            changes = [replace(change, id=changes[0].id) for change in changes]
        await self._commit(*changes)

    async def commit_again(self) -> None:
        """Say again what was said before, mostly not long ago."""
        if self._said:
            recent = self._said[-8:] if self.chance.happens(0.7) else self._said
            await self._commit(*self.chance.random.choice(recent))

    def _draw_change(self) -> Change:
        key = self.chance.random.choice(KEYS)
        return self.chance.change(key, self.heads.get(key), self._leases, self.clock.wall())

    async def _commit(self, *changes: Change) -> None:
        first, head = changes[0], self.heads.get(changes[0].key)
        reading = await self.pair.reference.read(first.key)
        done = any(entry.change == first.id for entry in reading.entries)
        self._said.append(changes)

        async def say(store: Store) -> list[Head]:
            return await self.pair.commit(store, changes)

        answer = await self.pair.ask(f"commit({', '.join(map(brief, changes))})", say)
        boot = self.clock.boot()
        heads = heads_in(answer)
        self._leases += [head.lease for head in heads if head.lease]
        refused = isinstance(answer, OutlastError)
        if refused and len(changes) > 1:
            alone = done or self._is_allowed(first, head, reading.floor)
            self._see("commit", f"several refused {'after' if alone else 'at'} the first")
        elif refused:
            self._see("commit", outcomes.of_refusal(head, answer))
        elif len(changes) > 1:
            self._see("commit", "several written")
        elif done:
            assert head
            self._see("commit", *outcomes.of_repetition(first, head, boot))
        else:
            self._see("commit", *outcomes.of_write(first, head, heads[0], boot))

    def _is_allowed(self, change: Change, head: Head | None, floor: int) -> bool:
        try:
            allow(change, head, floor, now=self.clock.boot(), wall=self.clock.wall())
        except StoreError:
            return False
        return True

    async def claim(self) -> None:
        """Take what is claimable in some lanes."""
        lanes, ttl, id = self.chance.lanes(), self.chance.ttl(), self.chance.name()
        limit, owner = self.chance.one_of(1, 1, 2, 9), self.chance.one_of("u", "v")

        async def say(store: Store) -> Claimed:
            return await store.claim(lanes, owner, ttl, limit, id)

        claimed = await self.pair.ask(f"claim({lanes}, {owner!r}, {ttl}, {limit}, {id!r})", say)
        self._see("claim", outcomes.of_claim(claimed))
        for head in claimed.heads:
            self._leases.append(head.lease)
            ended = self.heads[head.key].lease is not None
            self._see("claim", "of an ended lease" if ended else "of a free lease")
            if head.key in self._ended_by_a_start:
                self._see("claim", "of a lease that a start of the machine ended")
                self._ended_by_a_start.discard(head.key)

    async def renew(self) -> None:
        """Renew some leases, those that are held and those that are over."""
        now_there = [head.lease for head in self.heads.values() if head.lease]
        drawn = [lease for lease in (*now_there, *self._leases) if self.chance.happens(0.4)]
        leases = list({(lease.key, lease.fence): lease for lease in drawn}.values())
        ttl = self.chance.ttl()

        async def say(store: Store) -> list[Lease]:
            return sorted(await store.renew(leases, ttl), key=lambda lease: lease.key)

        kept = await self.pair.ask(f"renew({leases}, {ttl})", say)
        if leases:
            self._see("renew", outcomes.of_renewal(len(leases), kept))
        for lease in kept:
            self._ended_by_a_start.discard(lease.key)
            if not is_held(self.heads[lease.key], self.clock.boot()):
                self._see("renew", "kept after its end")

    async def delete(self) -> None:
        """Delete a journal, sometimes at another revision."""
        key = self.chance.random.choice(KEYS)
        head = self.heads.get(key)
        expect = self.chance.near(head.revision if head else 3)

        async def say(store: Store) -> bool:
            return await store.delete(key, expect=expect)

        answer = await self.pair.ask(f"delete({key!r}, expect={expect})", say)
        if isinstance(answer, OutlastError):
            self._see("delete", outcomes.of_error(answer))
            return
        self._see("delete", str(answer).lower())
        if answer and head and head.lease:
            self._see("delete", "true with an ended lease")

    async def read(self) -> None:
        """Read some entries of a journal."""
        key = self.chance.random.choice(KEYS)
        asked = self.chance.reading(self.heads.get(key))

        async def say(store: Store) -> Reading:
            return await store.read(key, **asked)

        reading = await self.pair.ask(f"read({key!r}, {asked})", say)
        self._see("read", *outcomes.of_reading(reading, asked["after"], asked["types"]))

    async def scan(self) -> None:
        """Scan to the end; which page holds what is each store's own affair."""
        query, limit = self.chance.query(self.clock.wall()), self.chance.one_of(1, 2, 99)
        pages = 0

        async def say(store: Store) -> list[Head]:
            nonlocal pages
            heads: list[Head] = []
            after: str | None = None
            for pages in count(1):
                page = await store.scan(query, limit=limit, after=after)
                assert len(page.heads) <= limit
                assert pages < 100, "a scan of a few journals does not end"  # noqa: PLR2004
                heads += page.heads
                if page.next is None:
                    break
                after = page.next
            return heads

        heads = await self.pair.ask(f"scan({brief(query)}), {limit} a page", say)
        self._see("scan", "several pages" if pages > 1 else "one page" if heads else "of nothing")

    async def let_time_pass(self) -> None:
        """Move the clocks: mostly both, sometimes the wall clock alone; or start the machine."""
        boot = self.clock.boot()
        match self.chance.random.randrange(12):
            case 0:
                self.clock.jump(seconds := self.chance.one_of(-20.0, 20.0))
                deed = f"somebody sets the wall clock by {seconds} s"
            case 1 | 2:
                held = {key for key, head in self.heads.items() if is_held(head, boot)}
                self._ended_by_a_start |= held
                self.clock.reboot(boot=self.chance.one_of(1.0, boot))
                deed = "the machine starts anew"
            case _:
                self.clock.advance(seconds := self.chance.one_of(0.5, 5.0, 5.0, 15.0))
                deed = f"{seconds} s pass"
        self.pair.calls.append(deed)

    def _see(self, call: str, *seen: str) -> None:
        self._seen.update(f"{call}: {outcome}" for outcome in seen)
