"""What a small world is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.worlds.workers import Handler

COSTS: Final = ("crash", "silence", "end", "chance")
"""What may go wrong, each so many times: a process dies, a request gets no answer, a lease ends
while its holder lives, and what the handler's `choices` name."""


class Client(NamedTuple):
    """A client: its program, its own name, and its arguments."""

    program: str
    name: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Setting:
    """What a world is made of.

    Attributes:
        handler: of every run in it.
        clients: who does something once.
        runs: events that stand in the journal of each run at the beginning.
        workers: how many there are, all alike.
        sees: what must happen somewhere in it: else the world is not what it is named for.
        faults: how many there may be together, where one is too few to see what it is about.
        crash, silence, end, chance: how many of each kind of fault there may be.
    """

    handler: Handler
    clients: tuple[Client, ...] = ()
    runs: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    workers: int = 2
    sees: frozenset[str] = frozenset()
    faults: int = 1
    crash: int = 1
    silence: int = 1
    end: int = 1
    chance: int = 0
