"""Tests of the tests: a store with a deliberate defect does not answer as the reference does.

A defect is a text of `journal.py` or `stores/memory.py` and what stands there instead. If a defect
cannot be made any more, because the text changed, write it anew: it is there to be noticed.
"""

from collections import Counter
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import pytest

from outlast import journal
from outlast.stores import memory
from outlast.stores.memory import MemoryStore
from outlast.testing import FakeClock
from outlast.testing.differential import play


class Defect(NamedTuple):
    name: str
    module: Any
    sound: str
    broken: str


DEFECTS = [
    Defect("nobody is fenced", journal, "lease.fence != change.fence", "False"),
    Defect(
        "a fence is only a token",
        journal,
        "if lease is None or lease.fence != change.fence",
        "if lease is None or lease.fence.token != change.fence.token",
    ),
    Defect(
        "a fence is only an id",
        journal,
        "if lease is None or lease.fence != change.fence",
        "if lease is None or lease.fence.id != change.fence.id",
    ),
    Defect(
        "decisions are written while a lease is held",
        journal,
        "elif change.fence is None and not change.fact and head and is_held(head, now):",
        "elif False:",
    ),
    Defect(
        "facts wait for the lease",
        journal,
        "elif change.fence is None and not change.fact and head",
        "elif change.fence is None and head",
    ),
    Defect("first is not asked", journal, '("first", change.first, first),', "*(),"),
    Defect("revision is not asked", journal, '("revision", change.revision, revision),', "*(),"),
    Defect("facts are not asked", journal, '("facts", change.facts, facts),', "*(),"),
    Defect("closed is not asked", journal, '("closed", change.closed, closed),', "*(),"),
    Defect("blobs may be old", journal, "change.touched is not None and", "False and"),
    Defect(
        "facts make a journal",
        journal,
        "if head is None and (change.fact or change.revision != 0)",
        "if head is None and not change.fact and change.revision != 0",
    ),
    Defect(
        "revisions are used twice",
        journal,
        "Head(change.key, floor + 1, floor",
        "Head(change.key, 1, 0",
    ),
    Defect(
        "a fact drops due",
        journal,
        "    if change.fact:\n        card",
        "    if False:\n        card",
    ),
    Defect("a fact delays due", journal, "min(card.due, wall)", "max(card.due, wall)"),
    Defect(
        "a decision does not void an ended lease",
        journal,
        "elif change.release or not (change.fact or isinstance(change.fence, Fence)):",
        "elif change.release or change.fence == FORCE:",
    ),
    Defect(
        "force leaves the lease",
        journal,
        "not (change.fact or isinstance(change.fence, Fence))",
        "not (change.fact or change.fence)",
    ),
    Defect(
        "a fact voids an ended lease",
        journal,
        "not (change.fact or isinstance(change.fence, Fence))",
        "not isinstance(change.fence, Fence)",
    ),
    Defect("a token is given twice", journal, "token = head.token + 1", "token = head.token or 1"),
    Defect("a lease is not given back", journal, "elif change.release or not (", "elif not ("),
    Defect(
        "snapshots are not known", journal, "            since = number\n", "            pass\n"
    ),
    Defect("held leases are claimed", journal, "<= wall and not is_held(head, now)", "<= wall"),
    Defect("claims come early", journal, "is not None and head.card.due <= wall", "is not None"),
    Defect("priorities are turned round", journal, "return -head.card", "return head.card"),
    Defect(
        "a change is written twice",
        memory,
        "if head and change.id in self._changes[key]",
        "if False",
    ),
    Defect(
        "a change is known by the last entry only",
        memory,
        "if head and change.id in self._changes[key]",
        "if head and self._entries[key] and self._entries[key][-1].change == change.id",
    ),
    Defect("half a commit is written", memory, "self._restore(undo)", "pass"),
    Defect("the snapshot is left out", memory, "max(head.since - 1, 0) if", "head.since if"),
    Defect(
        "limit comes before last",
        memory,
        "if last is not None:",
        "entries = entries[:limit]\n            if last is not None:",
    ),
    Defect(
        "lanes are crossed",
        memory,
        "(h.card.queue, h.card.name) in wanted",
        "h.card.queue in {lane.queue for lane in lanes}",
    ),
    Defect(
        "leases taken over are renewed",
        memory,
        "head.lease.fence == lease.fence",
        "head.lease.fence.id",
    ),
    Defect(
        "ended leases are not renewed",
        memory,
        "head.lease.fence == lease.fence",
        "head.lease.fence == lease.fence and is_held(head, now)",
    ),
    Defect(
        "a scan repeats what its cursor names",
        memory,
        "else place(h) > after",
        "else place(h) >= after",
    ),
    Defect(
        "a scan ends a page early",
        memory,
        "if len(heads) > limit else",
        "if len(heads) > limit + 1 else",
    ),
    Defect(
        "what is held is deleted",
        memory,
        "            if is_held(head, now):",
        "            if False:",
    ),
    Defect("any revision is deleted", memory, "if head.revision != expect:", "if False:"),
    Defect("the floor is not raised", memory, "max(self._floor + 1, head.revision)", "self._floor"),
    Defect("the floor falls", memory, "max(self._floor + 1, head.revision)", "head.revision"),
    Defect(
        "a start of the machine ends no lease",
        memory,
        "if self._boot_id != self._clock.boot_id()",
        "if False",
    ),
    Defect(
        "leases go by the wall clock",
        memory,
        "return self._clock.boot()",
        "return self._clock.wall()",
    ),
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name.replace(" ", "-"))
async def test_a_defect_is_noticed(defect: Defect) -> None:
    broken = store_with(defect)

    with pytest.raises(AssertionError, match="seed"):
        await play_seeds(broken, 100)


async def test_without_a_defect_nothing_is_noticed() -> None:
    await play_seeds(store_with(Defect("none", journal, "def allow(", "def allow(")), 5)


async def play_seeds(broken: type[MemoryStore], number: int) -> None:
    for seed in range(number):
        clock = FakeClock()
        await play(seed, MemoryStore(clock), broken(clock), clock, Counter())


def store_with(defect: Defect) -> type[MemoryStore]:
    """Return a memory store with the defect, its rules and its code run anew from their text."""
    rules = run(journal, defect)
    # Heads, fences and the like stay those of everybody else.
    rules |= {name: kind for name, kind in vars(journal).items() if isinstance(kind, type)}
    store = run(memory, defect)
    store |= {name: rule for name, rule in rules.items() if isinstance(rule, FunctionType)}
    found = store["MemoryStore"]
    assert isinstance(found, type)
    return found


def run(module: Any, defect: Defect) -> dict[str, Any]:
    path = Path(module.__file__)
    text = path.read_text()
    if module is defect.module:
        assert text.count(defect.sound) == 1, f"write the defect anew: {defect.name}"
        text = text.replace(defect.sound, defect.broken)
    names: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(text, path, "exec"), names)
    return names
