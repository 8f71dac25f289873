"""Programs that ask one thing at a time, so that anything may happen between two of their requests.

A program is a coroutine. What it awaits is a `Request`; whoever explores answers it. Its state is
its name, its arguments, and the answers so far: with the same answers it does the same, so it can
be left at any request, for ever, and gone on with at any time. `Wire` and `Machine` are what the
engine's own code needs for that: a store whose every verb is a request, and a machine whose time is
that of the last answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, fields
from types import coroutine
from typing import Any, Final, NamedTuple, Self

from outlast.engine.clock import System
from outlast.errors import Unavailable
from outlast.journal import Change, Entry, Head, Lease, numbered
from outlast.model.events import FOLDED_TYPES
from outlast.store import Claimed, Lane, Listener, Query, Reading, Scanned, Traits


class Request(NamedTuple):
    """What a program asks for; it has `seen` its journal up to that revision."""

    verb: str
    args: tuple[Any, ...]
    seen: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Raised:
    """An error instead of an answer; one that says the same is the same."""

    error: Exception

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Raised) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"


class Answer(NamedTuple):
    """What it is told, and what time it is then."""

    wall: float
    value: Any


class Next(NamedTuple):
    """The program that a program goes on as, and with what it knows."""

    program: str
    args: tuple[Any, ...]


class Done(NamedTuple):
    """A program that is over, and what came of it."""

    said: str


class Broken(NamedTuple):
    """A program that raised what no program may raise: an error of ours."""

    why: str


@coroutine
def ask(request: Request) -> Generator[Request, Any, Any]:
    """Return the answer."""
    return (yield request)


class Wire:
    """The store, as one program reaches it.

    Attributes:
        entries: those that the program has read or written, without a gap, stream items left out.
        seen: up to which revision.
    """

    traits = Traits(atomic=True)

    def __init__(self, entries: Sequence[Entry] = (), seen: int = 0) -> None:
        self.entries, self.seen = list(entries), seen

    async def commit(self, *changes: Change) -> list[Head]:
        [change] = changes
        if change.revision == 0:  # what was there before, if anything was, is gone
            self.entries, self.seen = [], (change.first or 1) - 1
        [head] = heads = await ask(Request("commit", (change,), self.seen))
        if head.revision == self.seen + len(change.entries):
            written = numbered(change, head, 0.0)
            self.entries += [entry for entry in written if entry.type in FOLDED_TYPES]
            self.seen = head.revision
        return list(heads)

    async def read(
        self,
        key: str,
        after: int | None = 0,
        *,
        limit: int | None = None,
        last: int | None = None,
        types: Sequence[str] | None = None,
    ) -> Reading:
        how = {"limit": limit, "last": last, "types": None if types is None else tuple(types)}
        reading: Reading = await ask(Request("read", (key, after, how)))
        if types == FOLDED_TYPES and reading.head is not None:
            known = {entry.revision for entry in self.entries} if after else ()
            self.entries = [*self.entries] if after else []
            self.entries += [entry for entry in reading.entries if entry.revision not in known]
            self.seen = reading.head.revision
        return reading

    async def claim(
        self, lanes: Sequence[Lane], owner: str, ttl: float, limit: int, id: str
    ) -> Claimed:
        claimed: Claimed = await ask(Request("claim", (tuple(lanes), owner, ttl, limit, id)))
        return claimed

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        return list(await ask(Request("renew", (tuple(leases), ttl))))

    async def scan(self, query: Query, *, limit: int = 100, after: str | None = None) -> Scanned:
        raise NotImplementedError("nobody scans in a small world")

    async def delete(self, key: str, *, expect: int) -> bool:
        return bool(await ask(Request("delete", (key, expect), self.seen)))

    def watch(self, listener: Listener) -> Callable[[], None]:
        return lambda: None  # hints may be lost, and all of them are

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Leave the store to the others."""


class Machine(System):
    """A machine on which only answers take time."""

    def __init__(self, name: str, wall: float) -> None:
        self.name, self.drawn, self._wall = name, 0, wall

    def told(self, answer: Answer) -> None:
        """Know what time it is."""
        self._wall = answer.wall

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._wall

    async def sleep(self, delay: float) -> None:
        """Return at once: how long nobody answers is up to whoever explores."""

    def draw_name(self) -> str:
        self.drawn += 1
        return f"{self.name}{self.drawn}"

    def draw_factor(self, share: float) -> float:
        return 1.0


class Actor(NamedTuple):
    """Where a program stands: `wall` is when it began, `answers` are numbers of a `Table`."""

    program: str
    name: str
    wall: float
    args: tuple[Any, ...]
    answers: tuple[int, ...] = ()


Program = Callable[..., Coroutine[Any, Any, Next | Done]]


def play(
    actor: Actor, program: Program, answers: Sequence[Answer]
) -> tuple[Request | Next | Done | Broken, float]:
    """Return what the program asks for next, or what became of it, and when."""
    machine = Machine(actor.name, actor.wall)
    running = program(machine, *actor.args)
    try:
        request: Request = running.send(None)
        for answer in answers:
            machine.told(answer)
            if isinstance(answer.value, Raised):
                # The same error is raised in many plays: it keeps the traceback of none.
                request = running.throw(answer.value.error.with_traceback(None))
            else:
                request = running.send(answer.value)
    except StopIteration as stop:
        over: Next | Done = stop.value
        return over, machine.wall()
    except Exception as error:  # noqa: BLE001 - told to whoever explores
        return Broken(f"{type(error).__name__}: {error}"), machine.wall()
    else:
        return request, machine.wall()
    finally:
        running.close()


def run_through(awaitable: Awaitable[Any]) -> Any:
    """Return what a coroutine gives that never waits."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class Table:
    """Gives equal values one number, so that states are small, and compared at once."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._values: list[Any] = []

    def number(self, value: object) -> int:
        """Return the number of the value."""
        found = self._numbers.setdefault(_frozen(value), len(self._values))
        if found == len(self._values):
            self._values.append(value)
        return found

    def __getitem__(self, number: int) -> Any:
        return self._values[number]


def _frozen(value: object) -> object:
    """Return what is equal, and has the same hash, for equal values, mutable or not."""
    try:
        hash(value)
    except TypeError:  # there is a mapping or a list in it
        if isinstance(value, Mapping):
            return tuple(sorted((name, _frozen(item)) for name, item in value.items()))
        parts = value if isinstance(value, tuple | list) else _fields(value)
        return (type(value), *map(_frozen, parts))
    return type(value), value


def _fields(value: Any) -> Sequence[object]:
    return [getattr(value, field.name) for field in fields(value)]


LOST: Final = Raised(Unavailable("no answer came"))
