"""What may come of a call, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from outlast.errors import Conflict, Fenced, OutlastError
from outlast.journal import FORCE, Change, Fence, Head, Lease, is_held
from outlast.store import Claimed, Reading

OUTCOMES: Final = (
    "commit: created",
    "commit: created and claimed",
    "commit: created above the floor",
    "commit: a fact",
    "commit: a fact brought due to now",
    "commit: by the holder",
    "commit: by the holder of an ended lease",
    "commit: released",
    "commit: an ended lease voided",
    "commit: an ended lease claimed",
    "commit: forced while held",
    "commit: closed",
    "commit: opened",
    "commit: a delivery mark of a closed journal",
    "commit: without entries",
    "commit: with blobs",
    "commit: with a snapshot",
    "commit: done again",
    "commit: done again with an old fence",
    "commit: done again while another holds the lease",
    "commit: Conflict of first",
    "commit: Conflict of revision",
    "commit: Conflict of facts",
    "commit: Conflict of closed",
    "commit: Conflict of lease",
    "commit: Conflict of blobs",
    "commit: Conflict where nothing is there",
    "commit: Fenced while another holds the lease",
    "commit: Fenced while nobody does",
    "commit: Fenced by the id alone",
    "commit: UsageError",
    "commit: several written",
    "commit: several refused at the first",
    "commit: several refused after the first",
    "claim: of a free lease",
    "claim: of an ended lease",
    "claim: of a lease that a start of the machine ended",
    "claim: of none, and none ever",
    "claim: of none, and some later",
    "claim: of some, and more at once",
    "claim: of some, and more later",
    "renew: kept",
    "renew: kept after its end",
    "renew: kept and dropped",
    "renew: dropped",
    "delete: true",
    "delete: true with an ended lease",
    "delete: false",
    "delete: Conflict of revision",
    "delete: Conflict of lease",
    "read: of nothing",
    "read: of no entries",
    "read: of all",
    "read: of some",
    "read: from the newest snapshot",
    "read: of types",
    "scan: of nothing",
    "scan: one page",
    "scan: several pages",
)


def of_error(error: OutlastError) -> str:
    """Name an error by its type and, a conflict, by what failed."""
    return f"Conflict of {error.what}" if isinstance(error, Conflict) else type(error).__name__


def of_refusal(head: Head | None, error: OutlastError) -> str:
    """Name why a change to the journal of this head was refused."""
    match error:
        case Fenced(current=None):
            return "Fenced while nobody does"
        case Fenced(fence=old, current=Fence(token=token)) if token == old.token:
            return "Fenced by the id alone"
        case Fenced():
            return "Fenced while another holds the lease"
        case Conflict(what="revision") if head is None:
            return "Conflict where nothing is there"
        case _:
            return of_error(error)


def of_repetition(change: Change, head: Head, boot: float) -> list[str]:
    """Name what was special about a change that had been written before."""
    named = {
        "done again": True,
        "done again with an old fence": change.fence not in (None, FORCE, head.fence),
        "done again while another holds the lease": not change.fence and is_held(head, boot),
    }
    return [name for name, seen in named.items() if seen]


def of_write(change: Change, old: Head | None, new: Head, boot: float) -> list[str]:
    """Name what a change did that was written."""
    if old is None:
        named = {
            "created": True,
            "created and claimed": change.claim is not None,
            "created above the floor": new.first > 1,
        }
    else:
        held = is_held(old, boot)
        ended = old.lease is not None and not held
        holds = isinstance(change.fence, Fence)
        claims = change.claim is not None
        named = {
            "a fact": change.fact,
            "a fact brought due to now": change.fact and new.card.due != old.card.due,
            "by the holder": holds and held,
            "by the holder of an ended lease": holds and ended,
            "released": holds and change.release,
            "an ended lease voided": ended and not holds and not change.fact and not claims,
            "an ended lease claimed": ended and claims,
            "forced while held": held and change.fence == FORCE,
            "closed": new.closed and not old.closed,
            "opened": old.closed and not new.closed,
            "a delivery mark of a closed journal": holds and old.closed and new.closed,
        }
    named |= {
        "without entries": not change.entries,
        "with blobs": change.touched is not None,
        "with a snapshot": new.since > (old.since if old else 0),
    }
    return [name for name, seen in named.items() if seen]


def of_claim(claimed: Claimed) -> str:
    """Name how many a claim took, and when there may be more."""
    if not claimed.heads:
        return f"of none, and {'none ever' if claimed.next_in is None else 'some later'}"
    return f"of some, and more {'at once' if claimed.next_in == 0 else 'later'}"


def of_renewal(asked: int, kept: Sequence[Lease]) -> str:
    """Name whether all leases were kept, some, or none."""
    if not kept:
        return "dropped"
    return "kept" if len(kept) == asked else "kept and dropped"


def of_reading(reading: Reading, after: int | None, types: Sequence[str] | None) -> list[str]:
    """Name how much of a journal was read."""
    head = reading.head
    if head is None:
        return ["of nothing"]
    if not reading.entries:
        return ["of no entries"]
    everything = len(reading.entries) == head.revision - head.first + 1
    named = {
        "of all": everything,
        "of some": not everything,
        "from the newest snapshot": after is None and head.since > 0,
        "of types": types is not None,
    }
    return [name for name, seen in named.items() if seen]
