"""What a run amounts to: a fold over its entries.

The one rule that must not be broken: the card of the head is what the entries add up to. Whoever
writes events folds them first, and sends the fields of the card that they change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, ClassVar, Final, NamedTuple

from outlast.codec.plain import Json
from outlast.journal import NEVER, CardFields
from outlast.model.events import (
    Aborted,
    AttemptBegan,
    AttemptFailed,
    CancelRequested,
    Checkpointed,
    Created,
    Ended,
    Event,
    HandedBack,
    InputGiven,
    InputTaken,
    Parked,
    Resolved,
    Retried,
    Signalled,
    Slot,
    Snapshot,
    Status,
    Steering,
    StepBegan,
    StepStreamed,
    StepTried,
    StreamEvent,
    TimerSet,
    TurnBegan,
    TurnEnded,
    TurnMode,
    Withdrawn,
)

_EDGES: Final = (
    Created,
    Snapshot,
    TurnBegan,
    TurnEnded,
    AttemptBegan,
    AttemptFailed,
    Parked,
    HandedBack,
    Ended,
    Aborted,
    Retried,
)

FIRST: Final = 0
"""In place of a revision: the first one of the journal, wherever its numbers begin."""

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


class Input(NamedTuple):
    """One that the run was given.

    Attributes:
        value: None where it is not loaded, `is_loaded` says which.
        revision: of the entry that holds it; `FIRST` for the one that the run was started with.
    """

    id: str
    steering: Steering = "queue"
    revision: int = FIRST
    value: Json = None
    is_loaded: bool = True

    @property
    def supersedes(self) -> bool:
        """Whether it ends a turn that is under way."""
        return self.steering in ("interrupt", "rollback")


def _slot_of(event: StepBegan | StepTried | StepStreamed) -> Slot:
    return Slot("step", event.name, event.number)


_OF_THE_ENDED: Final = frozenset({Retried, Resolved})
"""What only happens to a run that has ended."""

_OF_WORK: Final = frozenset(
    {
        AttemptFailed,
        Checkpointed,
        HandedBack,
        InputTaken,
        Parked,
        StepBegan,
        StepStreamed,
        StepTried,
        TimerSet,
    }
)
"""What only happens while an attempt is under way."""


@dataclass(slots=True)
class Run:
    """A run as its entries, up to `revision`, leave it.

    Attributes:
        due: when it needs a worker by itself; the head's may come earlier, because of a fact.
        inputs: those that no turn has taken up, oldest first; that of the start is among them.
        last_input_id: of the newest input.
        turn: the number of the turn that was begun last, from 1.
        mode: how that turn began; `input` is what it took up, `previous` what the one before had.
        is_between: no turn is under way: none has begun, or the last one has ended.
        deadline: when the turn times out.
        streamed_before: the stream's offset before the turn.
        taken: the inputs that the handler took while the turn ran, by the number of its asking.
        asks: how often the handler had asked for an input when it was parked last.
        is_entered: a worker entered the handler, and neither ended the attempt nor gave the run
            back.
        is_handed_back: a worker that shut down gave it back, and nobody has gone on since.
        is_recovered: the attempt under way goes on after a crash or a hand-back.
        entries: how often the handler was entered.
        parked: what the handler waits for, while it is out of memory.
        suspension: how the last turn ended, while the run is suspended.
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
    inputs: tuple[Input, ...] = ()
    last_input_id: str = ""
    turn: int = 0
    mode: TurnMode = "fresh"
    input: Input | None = None
    previous: Input | None = None
    is_between: bool = True
    deadline: float | None = None
    streamed_before: int = 0
    taken: dict[int, Input] = field(default_factory=dict[int, Input])
    asks: int = 0
    is_entered: bool = False
    is_handed_back: bool = False
    is_recovered: bool = False
    entries: int = 0
    parked: Parked | None = None
    suspension: TurnEnded | None = None
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
        """The event that made the run; once a second turn has begun, its input is left out."""
        if self.created is None:
            raise NotAllowed("the run has no first entry")
        return self.created

    @property
    def is_resting(self) -> bool:
        """Whether nobody was at work on it when its last entry was written."""
        return not self.is_entered

    @property
    def is_superseded(self) -> bool:
        """Whether an input is there that ends the turn under way."""
        return not self.is_between and any(input.supersedes for input in self.inputs)

    def evolve(self, event: Event, at: float, revision: int = 0) -> None:
        """Take the event into account, in place; history does not raise the cost.

        Args:
            event: what was written.
            at: when, in seconds since 1970.
            revision: of its entry.

        Raises:
            NotAllowed: it does not fit the run as it is; nothing has changed.
        """
        self._check(event)
        match event:
            case Created():
                self.created, self.created_at, self.due = event, at, event.due
                self._take_in(Input(event.input_id, value=event.input))
            case InputGiven(id, value, steering):
                self._take_in(Input(id, steering, revision, value))
            case TurnBegan():
                self._begin(event, revision)
            case _:
                self._WHAT_IT_DOES[type(event)](self, event)

    def _check(self, event: Event) -> None:
        """Refuse an event that cannot happen to the run as it is."""
        kind, what = type(event), type(event).__name__
        if self.created is None:
            if kind is not Created:
                raise NotAllowed(f"{what} before Created")
        elif kind is Created:
            raise NotAllowed("Created twice")
        elif (self.outcome is None) is (kind in _OF_THE_ENDED):
            raise NotAllowed(f"{what} while the run is {self.status}")
        elif kind in _OF_WORK and not self.is_entered:
            raise NotAllowed(f"{what} while nobody is at work on the run")

    # From outside

    def _take_in(self, input: Input) -> None:
        self.inputs, self.last_input_id = (*self.inputs, input), input.id

    def _signal(self, event: Signalled) -> None:
        self.signals.setdefault(event.name, deque()).append(event.value)

    def _withdraw(self, event: Withdrawn) -> None:
        self.inputs = tuple(input for input in self.inputs if input.id != event.input_id)

    def _ask_to_stop(self, event: CancelRequested) -> None:
        self.cancel = self.cancel or event

    # Turns

    def _keep(self, event: Snapshot) -> None:
        """Change nothing: the entries before say the same."""

    def _take_input(self, id: str) -> Input:
        taken = next((input for input in self.inputs if input.id == id), None)
        if taken is None:
            raise NotAllowed(f"no input {id!r} is there to be taken up")
        self.inputs = tuple(input for input in self.inputs if input is not taken)
        return taken

    def _begin(self, event: TurnBegan, revision: int) -> None:
        if not self.is_between or event.turn != self.turn + 1:
            raise NotAllowed(f"turn {event.turn} while is_between={self.is_between}, {self.turn=}")
        if event.mode == "continued":
            input = Input(event.input_id, "queue", revision, event.input)
        else:
            input = self._take_input(event.input_id or self.start.input_id)
        self.previous, self.input = self.input, input
        self.inputs = tuple(input for input in self.inputs if input.id not in event.overtook)
        self.turn, self.mode, self.deadline = event.turn, event.mode, event.deadline
        self.streamed_before = event.streamed
        self._forget_the_turn()
        self.is_between, self.suspension = False, None
        self.is_entered, self.status = True, Status.RUNNING
        self.entries += 1

    def _forget_the_turn(self) -> None:
        """Keep nothing of the turn before but what is the run's own."""
        self.attempt = self.deaths = 0
        self.taken, self.asks, self.retry_error = {}, 0, None
        self.parked, self.is_handed_back, self.is_recovered = None, False, False
        self.checkpoints, self.tries, self.timers = {}, {}, {}
        self.asked, self.streamed, self.unknown = {}, {}, {}

    def _end_turn(self, event: TurnEnded) -> None:
        if self.is_between:
            raise NotAllowed(f"a turn ends, and none is under way after {self.turn}")
        rests = event.how in ("suspended", "failed")
        self._rest(NEVER)
        self.is_between, self.deadline = True, None
        self.status = Status.SUSPENDED if rests else Status.RUNNING
        self.suspension = event if rests else None

    def _enter_again(self, event: AttemptBegan) -> None:
        if event.died is not self.is_entered or self.is_between:
            raise NotAllowed(f"{event}, but {self.is_entered=} in turn {self.turn}")
        self.is_recovered = event.died or self.is_handed_back
        self.recoveries += self.is_recovered
        self.deaths += event.died
        self.is_entered, self.status, self.parked = True, Status.RUNNING, None
        self.is_handed_back, self.deadline = False, event.deadline or self.deadline
        self.entries += 1

    def _fail(self, event: AttemptFailed) -> None:
        self._rest(event.retry_at)
        self.attempt += 1
        self.deaths = 0
        self.retry_error = event.error
        self._forget_failures()

    def _park(self, event: Parked) -> None:
        self._rest(event.due)
        self.parked, self.asks = event, event.asks
        asked = {Slot("wait", wait.name, wait.number): wait.after for wait in event.waits}
        self.asked = {**asked, **self.asked}

    def _hand_back(self, event: HandedBack) -> None:
        self._rest(event.due)
        self.is_handed_back, self.status = True, Status.PENDING

    def _end(self, event: Ended | Aborted) -> None:
        self._rest(NEVER)
        self.status = Status.ABORTED if isinstance(event, Aborted) else event.status
        self.outcome = event

    def _rest(self, due: float | None) -> None:
        self.is_entered, self.due = False, due

    def _open_again(self, event: Retried) -> None:
        """Take the end back, and begin the turn anew, with what is recorded of it."""
        if self.status is Status.COMPLETED:
            raise NotAllowed("a run that has a result is not opened again")
        self.outcome = self.cancel = self.parked = self.retry_error = self.deadline = None
        self.attempt = self.deaths = 0
        self.is_handed_back = False
        self._forget_failures()
        # A run that was suspended waits for its next input again.
        self.due = NEVER if self.suspension and not self.inputs else event.due
        self.status = Status.SUSPENDED if self.suspension else Status.PENDING

    def _resolve(self, event: Resolved) -> None:
        """Let an outcome that nobody knew be what somebody says."""
        slot = Slot("step", event.name, event.number)
        old = self.checkpoints.get(slot)
        if slot not in self.unknown and (old is None or old.event.error is None):
            raise NotAllowed(f"the outcome of step {str(slot)!r} is known, or it never began")
        recorded = Checkpointed(
            slot.kind,
            slot.name,
            slot.number,
            old.after if old else -1,
            event.value,
            event.error,
            digest=old.event.digest if old else self.unknown[slot],
            span=old.event.span if old else None,
        )
        place = old.place if old else len(self.checkpoints)
        self.checkpoints = {**self.checkpoints, slot: Checkpoint(place, recorded.after, recorded)}
        self.unknown.pop(slot, None)

    # What the handler does

    def _begin_step(self, event: StepBegan) -> None:
        self.unknown[_slot_of(event)] = event.digest

    def _try(self, event: StepTried) -> None:
        self.tries[_slot_of(event)] = event

    def _stream(self, event: StepStreamed) -> None:
        self.streamed[_slot_of(event)] = event.after

    def _set_timer(self, event: TimerSet) -> None:
        slot = Slot(event.kind, event.name, event.number)
        self.timers[slot], self.asked[slot] = event.until, event.after

    def _inject(self, event: InputTaken) -> None:
        if event.turn != self.turn or event.number in self.taken:
            raise NotAllowed(f"{event} in turn {self.turn}, which took {sorted(self.taken)}")
        self.taken[event.number] = self._take_input(event.input_id)

    def _record(self, event: Checkpointed) -> None:
        slot = Slot(event.kind, event.name, event.number)
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
        self.tries, self.asked, self.asks = {}, {}, 0

    def after(self, events: Iterable[Event | StreamEvent]) -> Run:
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

    _WHAT_IT_DOES: ClassVar[Mapping[type[Any], Callable[[Any, Any], None]]] = {
        Signalled: _signal,
        Withdrawn: _withdraw,
        CancelRequested: _ask_to_stop,
        Snapshot: _keep,
        TurnEnded: _end_turn,
        AttemptBegan: _enter_again,
        AttemptFailed: _fail,
        Parked: _park,
        HandedBack: _hand_back,
        Ended: _end,
        Aborted: _end,
        Retried: _open_again,
        Resolved: _resolve,
        StepBegan: _begin_step,
        StepTried: _try,
        StepStreamed: _stream,
        TimerSet: _set_timer,
        InputTaken: _inject,
        Checkpointed: _record,
    }


_FIELDS_OF: Final = attrgetter(*(field.name for field in fields(Run)))
