"""The events of a run, and how they stand in its journal.

A *fact* says that something happened outside; everything else is a *decision* of whoever acts on
the run. The one rule that must not be broken: an event once written is read for ever, so fields are
only added, each with a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

from outlast.codec.plain import Json, from_text, to_text
from outlast.errors import Corrupt
from outlast.journal import SNAPSHOT, Draft, Entry

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

Steering = Literal["queue", "interrupt", "rollback", "inject"]
"""What a new input does to a turn under way: waits for its end, ends it, undoes it, or joins it."""

TurnMode = Literal["fresh", "resumed", "steered", "continued"]
"""How a turn began: with the run, after a suspension, with an input that was given while the run
was at work, or with what the turn before went on with."""

TurnEnd = Literal["completed", "suspended", "superseded", "continued", "failed"]
"""How a turn may end while its run goes on."""


class Slot(NamedTuple):
    """Where a checkpoint of a turn is kept: the `number`-th `name` of its kind."""

    kind: Kind
    name: str
    number: int = 1

    def __str__(self) -> str:
        return self.name if self.number == 1 else f"{self.name}#{self.number}"


class Created(NamedTuple):
    """A run was accepted, with its first input; it may begin at `due`, in seconds since 1970."""

    name: str
    input: Json
    input_id: str
    due: float
    queue: str = "default"
    priority: int = 0
    session: str = ""
    title: str = ""
    description: str = ""
    tags: Mapping[str, str] = {}
    source: str = ""
    options: Mapping[str, Any] = {}
    format: int = FORMAT


class TurnBegan(NamedTuple):
    """A worker took up an input, and enters the handler with it for the first time.

    Attributes:
        input_id: of the input; that of the start where it is left out, as early versions did.
        input: what the turn before went on with; every other input has an entry of its own.
        mode: how the turn began.
        overtook: the inputs that a later one took the place of; they never run.
        streamed: the stream's offset before it.
        deadline: when the turn times out, in seconds since 1970.
    """

    turn: int
    input_id: str = ""
    mode: TurnMode = "fresh"
    overtook: tuple[str, ...] = ()
    streamed: int = 0
    deadline: float | None = None
    input: Json = None


class TurnEnded(NamedTuple):
    """A turn is over, and its run goes on.

    Attributes:
        output: what its callers get.
        error: what its handler raised at the last of so many `attempts`.
        reason: of a suspension.
    """

    how: TurnEnd
    output: Json = None
    error: Json = None
    reason: str | None = None
    attempts: int = 1


class InputTaken(NamedTuple):
    """The handler took an input that was given while its `turn` ran, at its `number`-th asking.

    `after` is how many outcomes of the turn the handler had been given when it asked; -1: that is
    not certain.
    """

    input_id: str
    turn: int
    number: int
    after: int = -1


class Retried(NamedTuple):
    """Somebody opened a run again that had ended; its turn begins anew at `due`."""

    due: float


class Resolved(NamedTuple):
    """Somebody told the outcome of a step that nobody knew: a value, or an error."""

    name: str
    number: int
    value: Json = None
    error: Json = None


class Snapshot(NamedTuple):
    """What the entries before amount to, as far as it still matters; see `model.run`."""

    state: Mapping[str, Any]


class AttemptBegan(NamedTuple):
    """A worker enters the handler again.

    Attributes:
        died: the process before did not give it back.
        deadline: of a turn that was retried, when it times out; else it stays as it was.
    """

    died: bool
    deadline: float | None = None


class StepBegan(NamedTuple):
    """A step that may run at most once is about to run; `digest` is that of its arguments."""

    name: str
    number: int
    digest: str = ""


class StepTried(NamedTuple):
    """A step raised, and is tried again at `retry_at`."""

    name: str
    number: int
    tries: int
    error: Json
    retry_at: float


class StepStreamed(NamedTuple):
    """A try of a step emits its first item; `after` is the stream's offset before it."""

    name: str
    number: int
    after: int


class TimerSet(NamedTuple):
    """A sleep, or a wait with a timeout, began; it is over at `until`.

    `after` is how many outcomes the handler had been given then; -1: not certain.
    """

    kind: Kind
    name: str
    number: int
    until: float
    after: int = -1


class Checkpointed(NamedTuple):
    """An outcome, written once under a name.

    Attributes:
        after: how many outcomes of the turn the handler had been given when it asked for this one;
            -1: that is not certain.
        value: what came out; `error` what was raised instead.
        always: whether it is read on every replay, not only within the attempt that recorded it.
        digest: of a step's arguments, or its `key`, where it overlapped with others of its name, or
            may run at most once; else empty.
        span: the first and the last number of the steps of this name that it overlapped with in
            time.
        timed_out: the wait's timeout came before its signal.
    """

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


class AttemptFailed(NamedTuple):
    """The handler raised, and is entered again at `retry_at`."""

    error: Json
    retry_at: float


class Asked(NamedTuple):
    """The `number`-th wait for a signal, asked for after so many outcomes had been given."""

    name: str
    number: int
    after: int


class Parked(NamedTuple):
    """The handler waits for nothing but what is recorded, and leaves memory until `due`.

    Attributes:
        due: when the first of its timers ends; None: it waits for signals only.
        waits: its waits for signals; any of these enters the handler again.
        watches_cancel: it waits for `ctx.cancel` as well, which enters it again too.
        asks: how often it had asked for an input: what it got then, it gets again.
    """

    due: float | None = None
    waits: tuple[Asked, ...] = ()
    watches_cancel: bool = False
    asks: int = 0


class HandedBack(NamedTuple):
    """The worker shuts down; any other may go on at once."""

    due: float


class Ended(NamedTuple):
    """The run is over. `error` is what its handler raised at the last of so many `attempts`."""

    status: Status
    output: Json = None
    error: Json = None
    reason: str | None = None
    attempts: int = 1


class Aborted(NamedTuple):
    """Somebody ended the run, whoever held it."""

    reason: str | None = None


class Signalled(NamedTuple):
    """Somebody sent a signal."""

    name: str
    value: Json


class InputGiven(NamedTuple):
    """Somebody gave the run another input; `steering` says what it does to a turn under way."""

    input_id: str
    input: Json
    steering: Steering = "queue"


class Withdrawn(NamedTuple):
    """Somebody took back an input, which counts if no turn had taken it up."""

    input_id: str


class CancelRequested(NamedTuple):
    """Somebody asked the run to stop."""

    reason: str | None = None


Decision = (
    Created
    | Snapshot
    | TurnBegan
    | TurnEnded
    | InputTaken
    | AttemptBegan
    | StepBegan
    | StepTried
    | StepStreamed
    | TimerSet
    | Checkpointed
    | AttemptFailed
    | Parked
    | HandedBack
    | Ended
    | Aborted
    | Retried
    | Resolved
)
Fact = Signalled | InputGiven | Withdrawn | CancelRequested
Event = Decision | Fact


class Emitted(NamedTuple):
    """An item of the stream. Never folded, never read on recovery.

    Attributes:
        step: the step that emitted it; None outside of steps.
        outside: how many items of this turn the handler's own task emitted outside of steps so far.
        digest: of the value, where another task of the handler emitted it.
    """

    offset: int
    turn: int
    value: Json
    step: str | None = None
    outside: int = 0
    digest: str = ""


class TakenBack(NamedTuple):
    """What `step` (None: the turn) emitted after the offset `after` does not count."""

    offset: int
    after: int
    turn: int
    step: str | None = None
    outside: int = 0


StreamEvent = Emitted | TakenBack

TYPE_OF: Final[Mapping[type[Any], str]] = {
    Created: "created",
    Snapshot: SNAPSHOT,
    TurnBegan: "turn_began",
    TurnEnded: "turn_ended",
    InputTaken: "input_taken",
    AttemptBegan: "attempt_began",
    StepBegan: "step_began",
    StepTried: "step_tried",
    StepStreamed: "step_streamed",
    TimerSet: "timer_set",
    Checkpointed: "checkpointed",
    AttemptFailed: "attempt_failed",
    Parked: "parked",
    HandedBack: "handed_back",
    Ended: "ended",
    Aborted: "aborted",
    Retried: "retried",
    Resolved: "resolved",
    Signalled: "signalled",
    InputGiven: "input_given",
    Withdrawn: "withdrawn",
    CancelRequested: "cancel_requested",
    Emitted: "emitted",
    TakenBack: "taken_back",
}
"""The type of the entry that holds each event; it is stored, so no other name changes it."""

STREAM_TYPES: Final = (TYPE_OF[Emitted], TYPE_OF[TakenBack])
FOLDED_TYPES: Final = tuple(type for type in TYPE_OF.values() if type not in STREAM_TYPES)
END_TYPES: Final = (TYPE_OF[Ended], TYPE_OF[Aborted])

_EVENTS: Final[Mapping[str, type[Any]]] = {type: event for event, type in TYPE_OF.items()}
_NEEDED: Final = object()
_DEFAULTS: Final[Mapping[type[Any], tuple[Any, ...]]] = {
    event: tuple(event._field_defaults.get(name, _NEEDED) for name in event._fields)
    for event in TYPE_OF
}
_FROM_JSON: Final[Mapping[str, Callable[[Any], Any]]] = {
    "status": Status,
    "overtook": lambda ids: (*ids,),
    "span": lambda span: None if span is None else tuple(span),
    "waits": lambda waits: tuple(Asked(*asked) for asked in waits),
}
"""What makes a field of what JSON gives back."""


def encode(event: Event | StreamEvent) -> Draft:
    """Return the entry that holds the event; a field that has its default is left out."""
    kind = type(event)
    fields = zip(event._fields, event, _DEFAULTS[kind], strict=True)
    data: Any = {  # plain JSON, as the fields' types say
        name: value for name, value, default in fields if value is not default and value != default
    }
    return Draft(TYPE_OF[kind], to_text(data))


def decode(entry: Entry) -> Event | StreamEvent:
    """Return the event that the entry holds; fields that this version does not know are left out.

    Raises:
        Corrupt: it is none of ours.
    """
    kind = _EVENTS.get(entry.type)
    data = from_text(entry.data)
    if kind is None or not isinstance(data, dict):
        raise Corrupt(f"entry {entry.revision} of type {entry.type!r} is not of a run")
    try:
        event: Event | StreamEvent = kind(
            **{
                name: _FROM_JSON[name](data[name]) if name in _FROM_JSON else data[name]
                for name in kind._fields
                if name in data
            }
        )
    except (TypeError, ValueError) as error:
        raise Corrupt(f"entry {entry.revision} of type {entry.type!r}: {error}") from error
    return event
