"""What a run amounts to: a fold over its entries.

The one rule that must not be broken: the card of the head is what the entries add up to. Whoever
writes events folds them first, and sends the fields of the card that they change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Final

from outlast.codec.plain import Json
from outlast.journal import NEVER, CardFields, Entry
from outlast.model.events import (
    Aborted,
    AttemptBegan,
    AttemptFailed,
    CancelRequested,
    Checkpointed,
    Created,
    Emitted,
    Ended,
    Event,
    HandedBack,
    Parked,
    Signalled,
    Slot,
    Status,
    StepBegan,
    StepStreamed,
    StepTried,
    TakenBack,
    TimerSet,
    TurnBegan,
    decode,
)

_EDGES: Final = (
    Created,
    TurnBegan,
    AttemptBegan,
    AttemptFailed,
    Parked,
    HandedBack,
    Ended,
    Aborted,
)

RUN: Final = "run"
"""The kind of journal that holds a run."""


class NotAllowed(Exception):
    """The event does not fit the run as it is: a bug of ours, never the handler's."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A recorded outcome.

    Attributes:
        place: in the order in which those of the turn were recorded, from 0.
        after: how many the handler had been given when it asked for this one; -1: not certain.
    """

    place: int
    after: int
    event: Checkpointed


@dataclass(slots=True)
class Run:
    """A run as its entries, up to `revision`, leave it.

    Attributes:
        due: when it needs a worker by itself; the head's may come earlier, because of a fact.
        is_entered: a worker entered the handler, and neither ended the attempt nor gave the run
            back.
        is_recovered: the attempt under way goes on after a crash or a hand-back.
        entries: how often the handler was entered.
        parked: what the handler waits for, while it is out of memory.
        attempt: how many attempts of this turn have failed.
        recoveries: how often the run was taken over from a process that died or gave it back.
        deaths: how often in a row, without a new checkpoint, the process that ran it died.
        checkpoints: the turn's outcomes; they are read, not run, when the handler is entered again.
        tries, timers, streamed: of what has no outcome yet: failed tries, ends of waits, and the
            stream's offset before the first item of a step's try.
        asked: of sleeps and waits that have no outcome, how many outcomes the handler had been
            given when it first asked for them.
        unknown: at-most-once steps that began and have no outcome, with their arguments' digests.
        signals: those that no wait has taken yet, oldest first.
    """

    revision: int = 0
    status: Status = Status.PENDING
    due: float | None = NEVER
    created: Created | None = None
    created_at: float = 0.0
    turn: int = 0
    is_entered: bool = False
    is_recovered: bool = False
    entries: int = 0
    parked: Parked | None = None
    attempt: int = 0
    recoveries: int = 0
    deaths: int = 0
    checkpoints: dict[Slot, Checkpoint] = field(default_factory=dict[Slot, Checkpoint])
    tries: dict[Slot, StepTried] = field(default_factory=dict[Slot, StepTried])
    timers: dict[Slot, float] = field(default_factory=dict[Slot, float])
    asked: dict[Slot, int] = field(default_factory=dict[Slot, int])
    streamed: dict[Slot, int] = field(default_factory=dict[Slot, int])
    unknown: dict[Slot, str] = field(default_factory=dict[Slot, str])
    signals: dict[str, deque[Json]] = field(default_factory=dict[str, deque[Json]])
    cancel: CancelRequested | None = None
    retry_error: Json = None
    outcome: Ended | Aborted | None = None

    @property
    def start(self) -> Created:
        """The event that made the run."""
        if self.created is None:
            raise NotAllowed("the run has no first entry")
        return self.created

    @property
    def is_resting(self) -> bool:
        """Whether nobody was at work on it when its last entry was written."""
        return not self.is_entered

    def evolve(self, event: Event, at: float) -> None:
        """Take the event, written at `at`, into account, in place; history does not raise the cost.

        Raises:
            NotAllowed: it does not fit the run as it is; nothing has changed.
        """
        if self.outcome is not None:
            raise NotAllowed(f"{type(event).__name__} after {self.status}")
        if (self.created is None) is not isinstance(event, Created):
            raise NotAllowed(
                f"{type(event).__name__} {'before' if self.created is None else 'after'} Created"
            )
        match event:
            case Signalled(name, value):
                self.signals.setdefault(name, deque()).append(value)
            case CancelRequested():
                self.cancel = self.cancel or event
            case Created():
                self.created, self.created_at, self.due = event, at, event.due
            case TurnBegan(turn):
                self._begin(turn)
            case AttemptBegan(died):
                self._enter_again(died=died)
            case Ended(status):
                self._rest(NEVER)
                self.status, self.outcome = status, event
            case Aborted():
                self._rest(NEVER)
                self.status, self.outcome = Status.ABORTED, event
            case _:
                self._work(event)

    def _work(self, event: Event) -> None:
        """Take into account what only happens while an attempt is under way."""
        if not self.is_entered:
            raise NotAllowed(f"{type(event).__name__} while nobody is at work on the run")
        match event:
            case Checkpointed(kind, name, number):
                self._record(Slot(kind, name, number), event)
            case StepBegan(name, number, digest):
                self.unknown[Slot("step", name, number)] = digest
            case StepTried(name, number):
                self.tries[Slot("step", name, number)] = event
            case StepStreamed(name, number, after):
                self.streamed[Slot("step", name, number)] = after
            case TimerSet(kind, name, number, until, after):
                self.timers[Slot(kind, name, number)] = until
                self.asked[Slot(kind, name, number)] = after
            case AttemptFailed(error, retry_at):
                self._rest(retry_at)
                self.attempt += 1
                self.deaths = 0
                self.retry_error = error
                self._forget_failures()
            case Parked(due, waits):
                self._rest(due)
                self.parked = event
                asked = {Slot("wait", wait.name, wait.number): wait.after for wait in waits}
                self.asked = {**asked, **self.asked}
            case HandedBack(due):
                self._rest(due)
                self.status = Status.PENDING
            case _:  # pragma: no cover - every event has its case
                raise NotAllowed(f"{type(event).__name__} is unknown")

    def _begin(self, turn: int) -> None:
        if self.is_entered or turn != self.turn + 1:
            raise NotAllowed(f"turn {turn}, but is_entered={self.is_entered} in turn {self.turn}")
        self.is_entered, self.turn, self.status = True, turn, Status.RUNNING
        self.entries += 1

    def _enter_again(self, *, died: bool) -> None:
        if died is not self.is_entered or self.turn == 0:
            raise NotAllowed(f"died={died}, but is_entered={self.is_entered} in turn {self.turn}")
        # After an attempt that failed the status is `running`: to enter again is no recovery.
        self.is_recovered = died or self.status is Status.PENDING
        self.recoveries += self.is_recovered
        self.deaths += died
        self.is_entered, self.status, self.parked = True, Status.RUNNING, None
        self.entries += 1

    def _rest(self, due: float | None) -> None:
        self.is_entered, self.due = False, due

    def _record(self, slot: Slot, event: Checkpointed) -> None:
        if slot in self.checkpoints:
            raise NotAllowed(f"{slot.kind} {str(slot)!r} is already recorded")
        if slot.kind == "wait" and not event.timed_out:
            self._take_signal(slot.name)
        self.checkpoints[slot] = Checkpoint(len(self.checkpoints), event.after, event)
        self.deaths = 0
        self.tries.pop(slot, None)
        self.timers.pop(slot, None)
        self.asked.pop(slot, None)
        if event.always:  # else another attempt runs it again, and takes back what it emitted
            self.streamed.pop(slot, None)
        if self.unknown.get(slot) == event.digest:
            del self.unknown[slot]  # else one with other arguments had begun there

    def _take_signal(self, name: str) -> None:
        queue = self.signals.get(name)
        if not queue:
            raise NotAllowed(f"no signal {name!r} is there to be taken")
        queue.popleft()
        if not queue:
            del self.signals[name]

    def _forget_failures(self) -> None:
        """Keep what is read by every attempt, in its order; a step that failed is run again."""
        kept = {slot: old for slot, old in self.checkpoints.items() if old.event.always}
        if len(kept) < len(self.checkpoints):  # the others have other places now
            self.checkpoints = {
                slot: Checkpoint(place, -1, old.event)
                for place, (slot, old) in enumerate(kept.items())
            }
        self.tries, self.asked = {}, {}

    def after(self, events: Iterable[Event]) -> Run:
        """Return the run as it would be, as far as its card goes; this one stays as it is."""
        run = Run(*_FIELDS_OF(self))  # what begins or ends an attempt changes no container in place
        for event in events:
            if isinstance(event, _EDGES):
                run.evolve(event, self.created_at)
        return run

    def card(self) -> CardFields:
        """Return the fields of the card, all of them."""
        start = self.start
        return CardFields(
            kind=RUN,
            name=start.name,
            title=start.title,
            status=self.status.value,
            queue=start.queue,
            due=self.due,
            priority=start.priority,
            tags=start.tags,
            session=start.session,
            source=start.source,
        )

    def moving_card(self) -> CardFields:
        """Return the fields of the card that change while the run lives.

        `due` of a run at work stays in the past, so that a crash leaves it claimable.
        """
        if self.is_entered:
            return CardFields(status=self.status.value)
        return CardFields(status=self.status.value, due=self.due)


_FIELDS_OF: Final = attrgetter(*(field.name for field in fields(Run)))


def fold(entries: Iterable[Entry], run: Run | None = None) -> Run:
    """Return what the entries amount to, on top of `run`, which is changed in place."""
    run = Run() if run is None else run
    for entry in entries:
        event = decode(entry)
        assert not isinstance(event, Emitted | TakenBack)  # only folded types are read
        run.evolve(event, entry.at)
        run.revision = entry.revision
    return run
