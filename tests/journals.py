"""A journal in each of its states, and what becomes of a change to it."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.errors import Conflict, Fenced
from outlast.journal import Change, Draft, Fence, Head, Lease, allow, apply

NOW = 5_000.0
WALL = 1_700_000_000.0
FENCE = Fence(3, "mine")
LEASE = Lease("k", "worker", FENCE, NOW + 15)
AT_REST = Head("k", first=1, revision=5, facts=2, token=3)
HELD = AT_REST._replace(lease=LEASE)
ENDED = AT_REST._replace(lease=LEASE._replace(until=NOW))
CLOSED = AT_REST._replace(closed=True)
ONE = (Draft("said", "1"),)


def change(**details: Any) -> Change:
    return Change(**{"key": "k", "id": "c", "entries": ONE} | details)


def write(said: Change, head: Head | None, floor: int = 0) -> Head:
    allow(said, head, floor, now=NOW, wall=WALL)
    return apply(said, head, floor, now=NOW, wall=WALL, updated=9)


def conflict(said: Change, head: Head | None, floor: int = 0) -> Conflict:
    with pytest.raises(Conflict) as refused:
        allow(said, head, floor, now=NOW, wall=WALL)
    assert refused.value.key == "k"
    return refused.value


def fenced(said: Change, head: Head | None) -> Fenced:
    with pytest.raises(Fenced) as refused:
        allow(said, head, 0, now=NOW, wall=WALL)
    assert (refused.value.key, refused.value.fence) == ("k", said.fence)
    return refused.value
