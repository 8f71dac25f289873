"""Two stores that are asked the same, and must say the same."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from typing import Any

from outlast.errors import Conflict, Fenced, OutlastError, StoreError
from outlast.journal import Change, Head, Lease, is_held
from outlast.store import Claimed, Query, Reading, Store
from outlast.testing.clock import FakeClock


class Pair:
    """The reference and the store under test, with one clock."""

    reference: Store
    store: Store
    clock: FakeClock

    def __init__(self, reference: Store, store: Store, clock: FakeClock) -> None:
        self.reference, self.store, self.clock = reference, store, clock
        self.calls: list[str] = []
        self._counts: dict[int, int] = {}

    async def ask(self, text: str, call: Callable[[Store], Awaitable[Any]]) -> Any:
        """Make the call on both, compare the answers, and return the reference's.

        An error is an answer, too.
        """
        self.calls.append(abridged(text))
        wanted = await answer_of(call, self.reference)
        found = await answer_of(call, self.store)
        left, right = self._shown(wanted), self._shown(found)
        if left != right:
            said = f"{text}\n  the reference says {left}\n  the store says {right}"
            raise AssertionError(abridged(said))
        self._compare_counts(wanted, found)
        return wanted

    async def commit(self, store: Store, changes: Sequence[Change]) -> list[Head]:
        """Commit to one of the two; the reference is no more atomic than the store under test."""
        if store is self.store or self.store.traits.atomic:
            return await store.commit(*changes)
        heads: list[Head] = []
        for change in changes:
            try:
                heads += await store.commit(change)
            except StoreError as error:
                error.done = heads
                raise
        return heads

    def _shown(self, answer: Any) -> Any:
        """Return an answer as it is compared: without what each store may have for itself."""
        match answer:
            case Head():
                # How long ago a lease ended is nobody's affair, and each counts its own writes.
                lease = answer.lease
                if lease and not is_held(answer, self.clock.boot()):
                    lease = lease._replace(until=0.0)
                shown: Any = answer._replace(lease=lease, created=0, updated=0)
            case Reading():
                shown = self._shown(answer.head), list(answer.entries), answer.floor
            case Claimed():
                soon = answer.next_in
                shown = self._shown(answer.heads), None if soon is None else round(soon, 6)
            case OutlastError():
                shown = (type(answer).__name__, *self._fields(answer))
            case bool() | Lease() | None:
                shown = answer
            case [*items]:
                # Of two changes to one journal, the last head counts.
                shown = list({item.key: self._shown(item) for item in items}.values())
            case _:
                raise AssertionError(f"not an answer of a store: {answer!r}")
        return shown

    def _fields(self, error: OutlastError) -> tuple[Any, ...]:
        match error:
            case Fenced():
                return error.key, error.fence, error.current, self._shown(error.done)
            case Conflict():
                told = error.key, error.what, error.expected, error.actual
                return *told, self._shown(error.done)
            case _:
                return ()

    def _compare_counts(self, wanted: Any, found: Any) -> None:
        """Each store counts its own writes; in which order, both must agree."""
        before = len(self._counts)
        for ours, theirs in zip(heads_in(wanted), heads_in(found), strict=True):
            for our, their in ((ours.created, theirs.created), (ours.updated, theirs.updated)):
                assert self._counts.setdefault(our, their) == their, (ours, theirs)
        if len(self._counts) > before:
            in_order = [self._counts[our] for our in sorted(self._counts)]
            assert in_order == sorted(set(in_order)), (heads_in(wanted), heads_in(found))


async def answer_of(call: Callable[[Store], Awaitable[Any]], store: Store) -> Any:
    """Return what a store says, be it an error."""
    try:
        return await call(store)
    except OutlastError as error:
        return error


def abridged(text: str) -> str:
    """Return the text without long repetitions of a letter."""
    return re.sub(r"(.)\1{20,}", r"\1...\1", text)


def brief(said: Change | Query) -> str:
    """Return what a change or a query says, without what it leaves open."""
    told = [
        f"{field.name}={value!r}"
        for field in fields(said)
        if (value := getattr(said, field.name)) != field.default
    ]
    return f"{type(said).__name__}({', '.join(told)})"


def heads_in(answer: Any) -> list[Head]:
    """Return the heads of an answer, whatever it is."""
    match answer:
        case Head():
            return [answer]
        case Reading(head=Head() as head):
            return [head]
        case Claimed():
            return list(answer.heads)
        case StoreError():
            return list(answer.done)
        case [*items]:
            last: dict[str, Head] = {item.key: item for item in items if isinstance(item, Head)}
            return list(last.values())
        case _:
            return []
