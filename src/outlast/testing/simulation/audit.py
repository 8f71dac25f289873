"""A store that looks at every write: what must never be written is noticed there and then.

It knows what `docs/reference/format.md` says, and none of the code that decides on a write: it
keeps its own copy of each journal and its own account of each lease. The one rule that must not be
broken: the audit asks the store, and changes nothing of what it answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from outlast.errors import Conflict, Fenced, StoreError
from outlast.journal import Change, Entry, Fence, Head, Lease
from outlast.store import Claimed, Lane, Reading, Store
from outlast.testing.clock import FakeClock
from outlast.testing.simulation.account import RunAccount
from outlast.testing.wrapping import WrappedStore


@dataclass(eq=False, slots=True)
class Journal:
    """What the audit knows of a journal.

    Attributes:
        floor: what its first revision is above.
        fence, until: of the lease that may write, and its end; None: nobody's may.
        tokens: the highest that was ever given.
        run: what its entries amount to.
    """

    key: str
    floor: int
    entries: list[Entry] = field(default_factory=list[Entry])
    ids: set[str] = field(default_factory=set[str])
    facts: int = 0
    closed: bool = False
    fence: Fence | None = None
    until: float = 0.0
    tokens: int = 0
    run: RunAccount = field(default_factory=RunAccount)

    @property
    def revision(self) -> int:
        """The last one."""
        return self.floor + len(self.entries)


class Watcher(Protocol):
    """Who hears of what is written."""

    def wrote(self, journal: Journal, entries: Sequence[Entry], token: int | None) -> None:
        """Take note of new entries, written under a lease with this token, or under none."""
        ...

    def deleted(self, journal: Journal) -> None:
        """Take note that a journal is there no more."""
        ...


class AuditedStore(WrappedStore):
    """Any store; what it writes against the rules is told to `fail`.

    Args:
        store: the one that answers.
        clock: it goes by.
        fail: called with what is wrong.
        trace: called with everything that is written.
        who: names the process that asks.
        watcher: hears of it, too.

    Attributes:
        journals: those that are there, by key.
        gone: those that were deleted.
        totals: how often what happened.
        slack: seconds by which the wall clock may have been set.
    """

    def __init__(
        self,
        store: Store,
        clock: FakeClock,
        *,
        fail: Callable[[str], None],
        trace: Callable[[str], None],
        who: Callable[[], str],
        watcher: Watcher,
    ) -> None:
        super().__init__(store)
        self.journals: dict[str, Journal] = {}
        self.gone: list[Journal] = []
        self.totals: Counter[str] = Counter()
        self.slack: float = 0.0
        self._clock, self._fail, self._trace, self._watcher = clock, fail, trace, watcher
        self._who = who
        self._shown: dict[tuple[str, str], int] = {}
        self._floor = 0

    def _require(self, holds: object, key: str, what: str) -> None:
        if not holds:
            self._fail(f"{key}: {what}")

    async def read(
        self,
        key: str,
        after: int | None = 0,
        *,
        limit: int | None = None,
        last: int | None = None,
        types: Sequence[str] | None = None,
    ) -> Reading:
        """Read, and keep in mind up to where whoever asks has been shown the run."""
        reading = await super().read(key, after, limit=limit, last=last, types=types)
        if reading.head is not None:
            shown = self._shown.get((self._who(), key), 0)
            self._shown[self._who(), key] = max(shown, reading.head.revision)
        return reading

    async def commit(self, *changes: Change) -> list[Head]:
        """Write the changes, and look at what was written."""
        try:
            heads = await self._store.commit(*changes)
        except StoreError as error:
            self._count_refusal(error)
            for change in changes:
                await self._expect_nothing_new(change.key)
            raise
        for change, head in zip(changes, heads, strict=True):
            await self._audit(change, head)
        return heads

    def _count_refusal(self, error: StoreError) -> None:
        self.totals["conflicts"] += isinstance(error, Conflict)
        self.totals["fenced"] += isinstance(error, Fenced)

    async def _expect_nothing_new(self, key: str) -> None:
        journal = self.journals.get(key)
        head = (await self._store.read(key, limit=0)).head
        known = journal.revision if journal else None
        self._require(
            (head.revision if head else None) == known, key, "a refused change was written"
        )

    async def _audit(self, change: Change, head: Head) -> None:
        key, journal = change.key, self.journals.get(change.key)
        known = journal.revision if journal else self._floor
        reading = await self._store.read(key, known if journal else 0)
        new = reading.entries
        if journal and change.id in journal.ids:
            self.totals["repetitions"] += 1
            self._require(not new, key, f"change {change.id} was written twice")
            return
        self._audit_right(change, journal)
        drafts = [(draft.type, draft.data, draft.blobs, change.id) for draft in change.entries]
        written = [(entry.type, entry.data, entry.blobs, entry.change) for entry in new]
        self._require(written == drafts, key, f"{written} was written instead of {drafts}")
        revisions = [entry.revision for entry in new]
        expected = list(range(known + 1, known + 1 + len(new)))
        self._require(revisions == expected, key, f"revisions {revisions} follow {known}")
        self._require(head == reading.head, key, f"{head} was answered, not {reading.head}")
        if journal is None:
            journal = self.journals[key] = Journal(key, self._floor)
        self._write(journal, change, head, new)

    def _audit_right(self, change: Change, journal: Journal | None) -> None:
        """Hold the change to the table of who may write what, and when."""
        key, now = change.key, self._clock.boot()
        if isinstance(change.fence, Fence):
            fence = journal.fence if journal else None
            self._require(
                fence == change.fence, key, f"{change.fence} wrote, and {fence} is the owner's"
            )
        elif change.fence is None and not change.fact and journal and journal.fence:
            self._require(journal.until <= now, key, "a decision was written beside a lease")
        if change.fence is None and not change.fact and journal:
            self._audit_sight(change, journal)
        if change.fact:
            self._require(journal, key, "a fact made a journal")
        if journal is None:
            # Else a copy of it that comes late makes what was deleted meanwhile once more.
            self._require(change.first, key, "it was made without regard to what was deleted")
        if journal and journal.closed:
            self._require(not change.entries, key, "something was written after the end")
        for what, wanted, there in (
            ("first", change.first, (journal.floor if journal else self._floor) + 1),
            ("revision", change.revision, journal.revision if journal else 0),
            ("facts", change.facts, journal.facts if journal else 0),
        ):
            self._require(wanted in (None, there), key, f"written at {what} {there}, not {wanted}")

    def _audit_sight(self, change: Change, journal: Journal) -> None:
        """Hold who decides without a lease to what they were shown, and the run to be at rest."""
        key, shown = change.key, self._shown.get((self._who(), change.key), 0)
        self._require(
            shown >= journal.revision,
            key,
            f"{self._who()} decides at revision {journal.revision}, and was shown {shown}",
        )
        self._require(journal.run.is_at_rest, key, "somebody without a lease decides on its work")

    def _write(self, journal: Journal, change: Change, head: Head, new: Sequence[Entry]) -> None:
        token = change.fence.token if isinstance(change.fence, Fence) else None
        journal.entries += new
        if new:
            journal.ids.add(change.id)
        journal.facts += len(new) if change.fact else 0
        journal.closed = journal.closed if change.close is None else change.close
        if change.claim and head.lease:
            self._grant(journal, head.lease, change.claim.ttl)
            token = head.lease.fence.token
        elif change.release or not (change.fact or isinstance(change.fence, Fence)):
            journal.fence = None
        fence = head.lease.fence if head.lease else None
        self._require(fence == journal.fence, journal.key, f"{fence} has it, not {journal.fence}")
        self._trace(
            f"{journal.key} @{journal.revision} {'+'.join(entry.type for entry in new) or 'card'}"
            f" due {head.card.due} by {change.fence or change.claim or 'anyone'}"
            f"{', released' if change.release else ''}"
        )
        for entry in new:
            if problem := journal.run.take(entry):
                self._fail(f"{journal.key}: {problem}")
        self.totals.update(journal.run.counted(new))
        if problem := journal.run.stranded(head, self._clock.wall() + self.slack):
            self._fail(f"{journal.key}: {problem}")
        self._watcher.wrote(journal, new, token)

    def _grant(self, journal: Journal, lease: Lease, ttl: float) -> None:
        self._require(
            lease.fence.token > journal.tokens, journal.key, f"the token of {lease} is not new"
        )
        journal.fence, journal.tokens = lease.fence, lease.fence.token
        journal.until = self._clock.boot() + ttl

    async def claim(
        self, lanes: Sequence[Lane], owner: str, ttl: float, limit: int, id: str
    ) -> Claimed:
        """Take leases, and look at whose they were."""
        claimed = await self._store.claim(lanes, owner, ttl, limit, id)
        for head in claimed.heads:
            journal = self.journals[head.key]
            is_free = journal.fence is None or journal.until <= self._clock.boot()
            self._require(is_free, head.key, "it was claimed while its lease is held")
            self._require(not journal.closed, head.key, "it was claimed after its end")
            if head.lease:
                self._grant(journal, head.lease, ttl)
                self._trace(f"{head.key} is claimed as {head.lease.fence}")
            self.totals["claims"] += 1
        return claimed

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        """Keep leases, and look at which are kept."""
        kept = await self._store.renew(leases, ttl)
        for lease in leases:
            journal = self.journals.get(lease.key)
            is_owner = journal is not None and journal.fence == lease.fence
            # One claim may give several journals leases of the same token and id.
            is_kept = any((one.key, one.fence) == (lease.key, lease.fence) for one in kept)
            self._require(is_owner == is_kept, lease.key, f"{lease} is kept: {is_kept}")
            if journal and is_kept:
                journal.until = self._clock.boot() + ttl
        return kept

    async def delete(self, key: str, *, expect: int) -> bool:
        """Forget the journal, and look at what is forgotten."""
        try:
            was_there = await self._store.delete(key, expect=expect)
        except StoreError as error:
            self._count_refusal(error)
            raise
        journal = self.journals.pop(key, None)
        self._require(was_there == (journal is not None), key, f"deleted: {was_there}")
        if journal:
            is_free = journal.fence is None or journal.until <= self._clock.boot()
            self._require(is_free, key, "it was deleted while its lease is held")
            self._require(journal.revision == expect, key, f"deleted, expecting {expect}")
            self.gone.append(journal)
            self._watcher.deleted(journal)
            self._floor = max(self._floor + 1, journal.revision)
            self.totals["deletions"] += 1
            self._trace(f"{key} is deleted")
        return was_there
