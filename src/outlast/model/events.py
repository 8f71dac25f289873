"""The events of a run, and how they stand in its journal.

A *fact* says that something happened outside; everything else is a *decision* of whoever acts on
the run. The one rule that must not be broken: an event once written is read for ever, so fields are
only added, each with a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, NamedTuple

from outlast.codec.plain import Json, from_text, to_text
from outlast.errors import Corrupt
from outlast.journal import Draft, Entry

FORMAT: Final = 1
"""The version of what stands in a run's journal; `Created` carries it."""


class Status(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self not in (Status.PENDING, Status.RUNNING, Status.SUSPENDED)


Kind = Literal["step", "sleep", "wait"]


class Slot(NamedTuple):
    """Where a checkpoint of a turn is kept: the `number`-th `name` of its kind."""

    kind: Kind
    name: str
    number: int = 1

    def __str__(self) -> str:
        return self.name if self.number == 1 else f"{self.name}#{self.number}"


@dataclass(frozen=True, slots=True)
class Created:
    """A run was accepted, with its first input; it may begin at `due`, in seconds since 1970."""

    TYPE: ClassVar = "created"
    name: str
    input: Json
    input_id: str
    due: float
    queue: str = "default"
    priority: int = 0
    session: str = ""
    title: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """A worker took up an input, and enters the handler with it for the first time."""

    TYPE: ClassVar = "turn_began"
    turn: int


@dataclass(frozen=True, slots=True)
class AttemptBegan:
    """A worker enters the handler again. `died`: the process before did not give it back."""

    TYPE: ClassVar = "attempt_began"
    died: bool


@dataclass(frozen=True, slots=True)
class StepBegan:
    """A step that may run at most once is about to run."""

    TYPE: ClassVar = "step_began"
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class StepTried:
    """A step raised, and is tried again at `retry_at`."""

    TYPE: ClassVar = "step_tried"
    name: str
    number: int
    tries: int
    error: Json
    retry_at: float


@dataclass(frozen=True, slots=True)
class StepStreamed:
    """A try of a step emits its first item; `after` is the stream's offset before it."""

    TYPE: ClassVar = "step_streamed"
    name: str
    number: int
    after: int


@dataclass(frozen=True, slots=True)
class TimerSet:
    """A sleep, or a wait with a timeout, began; it is over at `until`."""

    TYPE: ClassVar = "timer_set"
    kind: Kind
    name: str
    number: int
    until: float


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """An outcome, written once under a name.

    Attributes:
        after: how many outcomes of the turn the handler had been given when it asked for this one.
        value: what came out; `error` what was raised instead.
        always: whether it is read on every replay, not only within the attempt that recorded it.
        digest: of a step's arguments, or its `key`.
        span: the first and the last number of the steps of this name that it overlapped with in
            time.
        timed_out: the wait's timeout came before its signal.
    """

    TYPE: ClassVar = "checkpointed"
    kind: Kind
    name: str
    number: int
    after: int
    value: Json = None
    error: Json = None
    always: bool = True
    digest: str = ""
    span: tuple[int, int] | None = None
    timed_out: bool = False

    def __post_init__(self) -> None:
        if self.span is not None:  # JSON gives a list back
            object.__setattr__(self, "span", tuple(self.span))


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """The handler raised, and is entered again at `retry_at`."""

    TYPE: ClassVar = "attempt_failed"
    error: Json
    retry_at: float


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The worker shuts down; any other may go on at once."""

    TYPE: ClassVar = "handed_back"
    due: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over. `error` is what its handler raised at the last of so many `attempts`."""

    TYPE: ClassVar = "ended"
    status: Status
    output: Json = None
    error: Json = None
    reason: str | None = None
    attempts: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))  # JSON gives a plain string back


@dataclass(frozen=True, slots=True)
class Aborted:
    """Somebody ended the run, whoever held it."""

    TYPE: ClassVar = "aborted"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Signalled:
    """Somebody sent a signal."""

    TYPE: ClassVar = "signalled"
    name: str
    value: Json


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody asked the run to stop."""

    TYPE: ClassVar = "cancel_requested"
    reason: str | None = None


Decision = (
    Created
    | TurnBegan
    | AttemptBegan
    | StepBegan
    | StepTried
    | StepStreamed
    | TimerSet
    | Checkpointed
    | AttemptFailed
    | HandedBack
    | Ended
    | Aborted
)
Fact = Signalled | CancelRequested
Event = Decision | Fact


@dataclass(frozen=True, slots=True)
class Emitted:
    """An item of the stream. Never folded, never read on recovery.

    Attributes:
        step: the step that emitted it; None outside of steps.
        outside: how many items of this turn the handler's own task emitted outside of steps so far.
        digest: of the value, where another task of the handler emitted it.
    """

    TYPE: ClassVar = "emitted"
    offset: int
    turn: int
    value: Json
    step: str | None = None
    outside: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What `step` (None: the turn) emitted after the offset `after` does not count."""

    TYPE: ClassVar = "taken_back"
    offset: int
    after: int
    turn: int
    step: str | None = None
    outside: int = 0


StreamEvent = Emitted | TakenBack

_FOLDED: Final[tuple[type[Any], ...]] = (
    Created,
    TurnBegan,
    AttemptBegan,
    StepBegan,
    StepTried,
    StepStreamed,
    TimerSet,
    Checkpointed,
    AttemptFailed,
    HandedBack,
    Ended,
    Aborted,
    Signalled,
    CancelRequested,
)
_STREAMED: Final[tuple[type[Any], ...]] = (Emitted, TakenBack)

FOLDED_TYPES: Final = tuple(event.TYPE for event in _FOLDED)
STREAM_TYPES: Final = tuple(event.TYPE for event in _STREAMED)
END_TYPES: Final = (Ended.TYPE, Aborted.TYPE)

_EVENTS: Final[Mapping[str, type[Any]]] = {event.TYPE: event for event in _FOLDED + _STREAMED}
_FIELDS: Final[Mapping[type[Any], Mapping[str, Any]]] = {
    event: {
        f.name: f.default if f.default_factory is MISSING else f.default_factory()
        for f in fields(event)
    }
    for event in _EVENTS.values()
}
"""The fields of each event, with their defaults."""


def encode(event: Event | StreamEvent) -> Draft:
    """Return the entry that holds the event; a field that has its default is left out."""
    data: dict[str, Json] = {}
    for name, default in _FIELDS[type(event)].items():
        value = getattr(event, name)
        if value is not default and value != default:
            data[name] = value
    return Draft(event.TYPE, to_text(data))


def decode(entry: Entry) -> Event | StreamEvent:
    """Return the event that the entry holds; fields that this version does not know are left out.

    Raises:
        Corrupt: it is none of ours.
    """
    kind = _EVENTS.get(entry.type)
    data = from_text(entry.data)
    if kind is None or not isinstance(data, dict):
        raise Corrupt(f"entry {entry.revision} of type {entry.type!r} is not of a run")
    values: dict[str, Any] = {name: data[name] for name in _FIELDS[kind] if name in data}
    try:
        event: Event | StreamEvent = kind(**values)
    except (TypeError, ValueError) as error:
        raise Corrupt(f"entry {entry.revision} of type {entry.type!r}: {error}") from error
    return event
