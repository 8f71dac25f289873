"""What chance says: changes that are often right, and wrong in every way now and then."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final, cast

from outlast.journal import (
    BLOB_GRACE,
    FORCE,
    MAX_CARD_BYTES,
    SNAPSHOT,
    CardFields,
    Change,
    Claim,
    Draft,
    Fence,
    Head,
    Lease,
)
from outlast.store import Lane, Query

KEYS: Final = ("a", "b", "c/%", "c_\U0001f40d")


class Chance:
    """A seeded source of all that is drawn."""

    def __init__(self, seed: int) -> None:
        self.random: random.Random = random.Random(seed)
        self._prefix = seed
        self._numbers = count(1)

    def happens(self, share: float) -> bool:
        """Say yes in this share of the cases."""
        return self.random.random() < share

    def one_of(self, *values: Any) -> Any:
        """Return one of the values."""
        return self.random.choice(values)

    def some(self, fields: Mapping[str, Any], share: float) -> dict[str, Any]:
        """Return this share of the fields."""
        return {name: value for name, value in fields.items() if self.happens(share)}

    def near(self, actual: int) -> int:
        """Return what is, or sometimes what is not."""
        return max(0, actual + self.random.choice([0, 0, 0, 1, -1]))

    def name(self) -> str:
        """Return an id that was not drawn before."""
        return f"{self._prefix}-{next(self._numbers)}"

    # Changes.

    def change(self, key: str, head: Head | None, leases: Sequence[Lease], wall: float) -> Change:
        """Return a change to the journal of this head, or one that makes it."""
        drafts = [self._draft() for _ in range(self.one_of(0, 1, 1, 1, 2, 5, 9))]
        said: dict[str, Any] = {"key": key, "id": self.name()}
        if any(draft.blobs for draft in drafts):
            said["touched"] = wall - self.one_of(0, 0, BLOB_GRACE)
        if self.happens(0.25):
            said["facts"] = self.near(head.facts if head else 0)
        if self.happens(0.2):
            said["first"] = self.near(head.first if head else 1)
        if self.happens(0.02 if head else 0.9):
            said |= self._create(wall)
        elif head is None or self.happens(0.25):
            said["fact"] = True
        else:
            said |= self._decision(head, leases, wall)
        if said.get("revision") == 0 and not drafts:
            drafts = [Draft("said", "0")]
        return Change(**said, entries=tuple(drafts))

    def _create(self, wall: float) -> dict[str, Any]:
        return {
            "revision": 0 if self.happens(0.9) else None,
            "claim": self._claim() if self.happens(0.3) else None,
            "card": {**self._card(wall), "kind": "run", "queue": "p", "name": "n"},
        }

    def _decision(self, head: Head, leases: Sequence[Lease], wall: float) -> dict[str, Any]:
        said: dict[str, Any] = {"card": self._card(wall) if self.happens(0.6) else {}}
        if self.happens(0.2):
            said["close"] = True
        said["closed"] = head.closed if self.happens(0.85) else not head.closed
        if said["closed"] and self.happens(0.6):
            said["close"] = False
        return said | self._writer(head, leases)

    def _writer(self, head: Head, leases: Sequence[Lease]) -> dict[str, Any]:
        """Return who writes a decision: the holder, a former one, an aborter, or anyone."""
        if self.happens(0.2):
            fences = [lease.fence for lease in leases if lease.key == head.key][-4:]
            if head.fence:
                fences.append(Fence(head.token + 1, head.fence.id))
            return {"fence": self.one_of(*fences, Fence(head.token, "made up"))}
        if head.fence and self.happens(0.6):
            return {"fence": head.fence, "release": self.happens(0.25)}
        if self.happens(0.2):
            return {"fence": FORCE, "release": self.happens(0.7)}
        revision = self.near(head.revision) if self.happens(0.5) else None
        if self.happens(0.5):
            return {"revision": revision, "claim": self._claim()}
        return {"revision": revision, "release": self.happens(0.1)}

    def _claim(self) -> Claim:
        return Claim(self.one_of("u", "v"), self.ttl(), self.name())

    def _card(self, wall: float) -> CardFields:
        fields = {
            "kind": self.one_of("run", "run", "session"),
            "queue": self.one_of("p", "q"),
            "name": self.one_of("m", "n"),
            "status": self.one_of("", "x", "y", "é'"),
            "title": self.one_of("", "t", "\U0001f40d \" '"),
            "due": self.one_of(None, wall, wall - 5, wall + 5, wall + 5, wall + 30.125),
            "priority": self.one_of(-1, 0, 0, 7),
            "tags": self.one_of({}, {"t": "1"}, {"t": "1", "%": "'"}),
            "session": self.one_of("", "s"),
            "source": self.one_of("", "o"),
        }
        if self.happens(0.05):
            fields |= {"title": "x" * (MAX_CARD_BYTES + 1)}
        return cast("CardFields", self.some(fields, 0.4))

    def _draft(self) -> Draft:
        return Draft(
            self.one_of("said", "said", "done", SNAPSHOT, "t'%"),
            self.one_of("1", '{"a": "\\u0000\U0001f40d"}', f'"{"x" * 5_000}"'),
            self.one_of((), (), (), ("sha-1",), ("sha-1", "sha-2")),
        )

    # Other calls.

    def ttl(self) -> float:
        """Return for how long a lease is taken or kept."""
        return cast("float", self.one_of(5.0, 15.0))

    def lanes(self) -> list[Lane]:
        """Return most of the lanes there are."""
        lanes = [Lane(queue, name) for queue in "pq" for name in "mn"]
        return [lane for lane in lanes if self.happens(0.8)]

    def reading(self, head: Head | None) -> dict[str, Any]:
        """Return what to read of a journal."""
        inside = self.random.randint(head.first - 1, head.revision) if head else 0
        return {
            "after": self.one_of(None, 0, inside, inside, self.random.randrange(60)),
            "limit": self.one_of(None, None, 0, 1, 2, 5, 50),
            "last": self.one_of(None, None, 0, 1, 2, 5, 50),
            "types": self.one_of(None, [], ["said"], ["said"], [SNAPSHOT, "done"], ["gone"]),
        }

    def query(self, wall: float) -> Query:
        """Return which journals to look for, and in which order."""
        filters = {
            "statuses": frozenset(self.random.sample(["", "x", "y"], 2)),
            "tags": self.one_of({"t": "1"}, {"t": "1", "%": "'"}),
            "session": self.one_of("", "s"),
            "name": self.one_of("m", "n"),
            "source": self.one_of("", "o"),
            "created_after": wall - self.one_of(0, 5, 30),
            "created_before": wall - self.one_of(0, 5, 30),
            "prefix": self.one_of("c", "c_", "c/", "a", "c/%", "z"),
        }
        return Query(
            kind=self.one_of("run", "run", "session"),
            order=self.one_of("key", "created", "updated"),
            descending=self.happens(0.5),
            **self.some(filters, 0.12),
        )
