"""Every state of a small world, nearest first, so that a counterexample is a shortest one.

A world gives its first state, what may happen next, and what is wrong. Two things are looked for: a
move that does what must never be done, and a state from which no good end can be reached.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class World(Protocol[S]):
    """What can be explored."""

    def start(self) -> S:
        """Return the first state."""
        ...

    def moves(self, state: S) -> Iterable[tuple[object, S, str | None]]:
        """Give everything that may happen next: what, the state afterwards, what is wrong."""
        ...

    def unsettled(self, state: S) -> str | None:
        """Return what is wrong with a state in which nothing can happen any more."""
        ...

    def tell(self, move: object) -> str:
        """Return the move as a line for a reader."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `trace` is the shortest way to what is wrong."""

    states: int
    moves: int
    depth: int
    ends: int
    wrong: str | None = None
    trace: Sequence[str] = ()

    def __str__(self) -> str:
        size = (
            f"{self.states:,} states, {self.moves:,} moves, {self.depth} deep, {self.ends:,} ends"
        )
        if self.wrong is None:
            return size
        lines = (f"{number:4}  {line}" for number, line in enumerate(self.trace, 1))
        return "\n".join((f"{self.wrong}, after {len(self.trace)} moves ({size})", *lines))


def explore(world: World[S], limit: int) -> Outcome:
    """Visit every state, up to `limit` of them: to have too many is wrong, too."""
    search = _Search(world)
    number = 0
    while number < len(search.states):
        if (outcome := search.visit(number)) is not None:
            return outcome
        if len(search.states) > limit:
            return search.outcome("there are too many states", number)
        number += 1
    stuck = _first_stuck(number, search.sources, search.targets, search.ends)
    return search.outcome() if stuck is None else search.outcome("it can never rest", stuck)


class _Search(Generic[S]):
    """What was found so far; a state is known by its number, in the order of their finding."""

    def __init__(self, world: World[S]) -> None:
        self.world = world
        self.states = [world.start()]
        self.numbers = {self.states[0]: 0}
        self.parents, self.depths = array("l", [-1]), array("l", [0])
        # A move leads from a source to the target at the same place.
        self.sources, self.targets, self.ends = array("l"), array("l"), array("l")

    def visit(self, number: int) -> Outcome | None:
        """Find what comes after a state; return what is wrong with it."""
        state, is_end = self.states[number], True
        for move, after, wrong in self.world.moves(state):
            if wrong is not None:
                return self.outcome(wrong, number, move)
            found = self._find(after, number)
            if found != number:
                is_end = False
                self.sources.append(number)
                self.targets.append(found)
        if is_end:
            self.ends.append(number)
            if (wrong := self.world.unsettled(state)) is not None:
                return self.outcome(wrong, number)
        return None

    def _find(self, state: S, parent: int) -> int:
        found = self.numbers.get(state)
        if found is None:
            found = self.numbers[state] = len(self.states)
            self.states.append(state)
            self.parents.append(parent)
            self.depths.append(self.depths[parent] + 1)
        return found

    def outcome(self, wrong: str | None = None, at: int = 0, last: object = None) -> Outcome:
        """Return what came of it; `last` is what is wrong to do in the state `at`."""
        size = len(self.states), len(self.sources), self.depths[-1], len(self.ends)
        return Outcome(*size, wrong, () if wrong is None else self._trace(at, last))

    def _trace(self, at: int, last: object) -> Sequence[str]:
        lines = [] if last is None else [self.world.tell(last)]
        while (before := self.parents[at]) >= 0:
            # How it was reached is found again: kept for all states, it would fill the memory.
            moves, state = self.world.moves(self.states[before]), self.states[at]
            lines.append(next(self.world.tell(move) for move, after, _ in moves if after == state))
            at = before
        return lines[::-1]


def _first_stuck(
    count: int, sources: array[int], targets: array[int], ends: array[int]
) -> int | None:
    """Return the first state from which none of the ends can be reached."""
    # The moves into each state, side by side: those of `n` are `before[start[n]:start[n + 1]]`.
    start = array("l", bytes(array("l").itemsize * (count + 1)))
    for target in targets:
        start[target] += 1
    for number in range(count):
        start[number + 1] += start[number]
    before = array("l", bytes(array("l").itemsize * len(sources)))
    for source, target in zip(sources, targets, strict=True):
        start[target] -= 1
        before[start[target]] = source
    is_good = bytearray(count)
    for end in ends:
        is_good[end] = True
    waiting = list(ends)
    while waiting:
        number = waiting.pop()
        for earlier in before[start[number] : start[number + 1]]:
            if not is_good[earlier]:
                is_good[earlier] = True
                waiting.append(earlier)
    stuck = is_good.find(0)
    return None if stuck < 0 else stuck
