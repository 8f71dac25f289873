"""What follows: given a run as it is, what may be written next. Asked anew after a `Conflict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from outlast.codec.plain import Json
from outlast.errors import CodecError, InputTooLarge, StepUnknown
from outlast.model import turns
from outlast.model.events import (
    Aborted,
    AttemptBegan,
    AttemptFailed,
    CancelRequested,
    Ended,
    HandedBack,
    InputTaken,
    Parked,
    Resolved,
    Retried,
    Slot,
    Status,
    TurnEnded,
    Withdrawn,
)
from outlast.model.run import Run
from outlast.model.terms import Terms, Written

MAX_CHECKPOINTS: Final = 50_000
"""Recorded outcomes of one turn; a longer one is to be cut in turns."""


class Entrance(Enum):
    """What whoever claimed a run does with it."""

    ENTER = "enter"
    END = "end"
    PUT_BACK = "put_back"


@dataclass(frozen=True, slots=True)
class Entering:
    """How a claimed run is taken up: what to write, and whether the handler is entered then."""

    entrance: Entrance
    events: Sequence[Written] = ()


_UNSETTLED: Final = tuple(
    f"{kind.__module__}.{kind.__qualname__}" for kind in (StepUnknown, CodecError, InputTooLarge)
)
_PUT_BACK: Final = Entering(Entrance.PUT_BACK)
_WITHDRAWN: Final = "its only input was withdrawn"


def enter(run: Run, terms: Terms) -> Entering:  # noqa: PLR0911 - each case is one rule
    """Decide what to do with a run that was claimed.

    A run that was claimed too early, because of a fact that nobody waits for, is put back with its
    own `due`. A turn that was stopped or superseded is not entered again for that, unless its
    handler waits for `ctx.cancel`.
    """
    if run.outcome is not None:
        return _PUT_BACK
    if not _watches_cancel(run):
        if (end := stopped(run, terms)) is not None:
            return Entering(Entrance.END, (end,))
        if run.is_superseded:
            return Entering(Entrance.ENTER, superseded(run, None, terms))
    if run.is_between:
        return _enter_next(run, terms)
    if run.is_entered:
        return _recover(run, terms)
    if not _is_awaited(run, terms.now):
        return _PUT_BACK
    return Entering(Entrance.ENTER, (_attempt(run, terms, died=False),))


def _enter_next(run: Run, terms: Terms) -> Entering:
    """Take up the next input, if there is one and its time has come."""
    if run.turn == 0 and not run.inputs:
        return Entering(Entrance.END, (Ended(Status.CANCELLED, reason=_WITHDRAWN),))
    is_early = run.turn == 0 and run.due is not None and run.due > terms.now
    began = () if is_early else turns.begin_next(run, terms)
    return Entering(Entrance.ENTER, began) if began else _PUT_BACK


def _recover(run: Run, terms: Terms) -> Entering:
    """Go on after the death of the process that ran the handler, unless it died too often."""
    deaths = run.deaths + 1
    if deaths < terms.max_recoveries:
        return Entering(Entrance.ENTER, (_attempt(run, terms, died=True),))
    message = f"its process died {deaths} times in a row without a new checkpoint"
    error: Json = {"type": "ProcessDied", "message": message, "traceback": ""}
    ended = Ended(Status.FAILED, error=error, reason=message, attempts=run.attempt + 1)
    return Entering(Entrance.END, (ended,))


def _attempt(run: Run, terms: Terms, *, died: bool) -> AttemptBegan:
    """Enter the handler again; a turn that was retried has as much time as a new one."""
    return AttemptBegan(died, terms.deadline if run.deadline is None else None)


def _is_awaited(run: Run, now: float) -> bool:
    """Say whether there is something to do for a run that rests."""
    if run.parked is not None and _has_come(run, run.parked, now):
        return True
    return run.due <= now if run.due is not None else run.parked is None


def _has_come(run: Run, parked: Parked, now: float) -> bool:
    """Say whether something is there that enters the handler again."""
    asks = parked.watches_cancel and _is_asked_to_stop(run, now)
    return asks or any(wait.name in run.signals for wait in parked.waits)


def _is_asked_to_stop(run: Run, now: float) -> bool:
    return run.cancel is not None or run.is_superseded or _is_late(run, now)


def _is_late(run: Run, now: float) -> bool:
    return run.deadline is not None and run.deadline <= now


def _watches_cancel(run: Run) -> bool:
    """Say whether the handler, out of memory, waits for `ctx.cancel`."""
    return run.parked is not None and run.parked.watches_cancel


def _until(run: Run, due: float | None) -> float | None:
    """Return when a run that rests is to be looked at: at its turn's end at the latest."""
    if due is None or run.deadline is None:
        return run.deadline if due is None else due
    return min(due, run.deadline)


# How a turn ends


def park(run: Run, parked: Parked, terms: Terms) -> Sequence[Written]:
    """Decide what becomes of a handler that was unwound because it only waits.

    What came while it unwound enters it again at once.
    """
    if not parked.watches_cancel:
        if (end := stopped(run, terms)) is not None:
            return (end,)
        if run.is_superseded:
            return superseded(run, None, terms)
    due = terms.now if _has_come(run, parked, terms.now) else _until(run, parked.due)
    return (parked._replace(due=due),)


def returned(run: Run, output: Json, terms: Terms) -> Sequence[Written]:
    """Decide what a handler that returned amounts to: a result counts, also after a stop."""
    if stopped(run, terms) is None:
        if run.is_superseded:
            return superseded(run, output, terms)
        if run.inputs:
            return turns.end_turn(run, TurnEnded("completed", output), terms)
    return (Ended(Status.COMPLETED, output=output),)


def raised(
    run: Run, error: Json, retry_at: float | None, terms: Terms, *, is_cancelled: bool = False
) -> Sequence[Written]:
    """Decide what a handler that raised amounts to; its policy would try again at `retry_at`.

    Args:
        run: as it is.
        error: what it raised.
        retry_at: when it would be entered again; None: never.
        terms: of the decision.
        is_cancelled: it raised `CancelledError`.
    """
    if (end := stopped(run, terms)) is not None and (is_cancelled or run.cancel is None):
        return (end,)
    attempts = run.attempt + 1
    if run.cancel is not None:
        return (Ended(Status.FAILED, error=error, attempts=attempts),)
    if run.is_superseded:
        ended = TurnEnded("superseded", error=error, attempts=attempts)
        return turns.end_turn(run, ended, terms)
    if retry_at is not None:
        due = _until(run, retry_at)
        assert due is not None
        return (AttemptFailed(error, due),)
    if terms.on_turn_error == "suspend":
        return turns.end_turn(run, TurnEnded("failed", error=error, attempts=attempts), terms)
    return (Ended(Status.FAILED, error=error, attempts=attempts),)


def suspended(run: Run, output: Json, reason: str | None, terms: Terms) -> Sequence[Written]:
    """Decide what a handler amounts to that asked for its run to rest until the next input."""
    if (end := stopped(run, terms)) is not None:
        return (end,)
    if run.is_superseded:
        return superseded(run, output, terms)
    return turns.end_turn(run, TurnEnded("suspended", output, reason=reason), terms)


def superseded(run: Run, output: Json, terms: Terms) -> Sequence[Written]:
    """Decide that a turn is over because another input takes its place."""
    is_kept = not turns.is_undone(run)
    return turns.end_turn(run, TurnEnded("superseded", output if is_kept else None), terms)


def injected(run: Run, number: int, after: int) -> InputTaken | None:
    """Decide what a handler gets that asks for the next input while its turn runs."""
    offered = (input for input in run.inputs if input.steering == "inject")
    input = next(offered, None)
    return None if input is None else InputTaken(input.id, run.turn, number, after)


def continued(run: Run, input: Json, terms: Terms) -> Sequence[Written]:
    """Decide what a handler amounts to that goes on with another input in a new turn."""
    if (end := stopped(run, terms)) is not None:
        return (end,)
    if run.is_superseded:
        return superseded(run, None, terms)
    return turns.go_on(run, input, terms)


def left(run: Run, terms: Terms) -> Sequence[Written]:
    """Decide what a turn amounts to that was asked to end, and was ended without a result.

    What it was asked for may be gone: then it goes on, as after a hand-back.
    """
    if (end := stopped(run, terms)) is not None:
        return (end,)
    return superseded(run, None, terms) if run.is_superseded else (HandedBack(terms.now),)


# Stops


def stopped(run: Run, terms: Terms) -> Ended | None:
    """Return how a run ends that is to stop, and whose handler gives no result; None: goes on."""
    if run.cancel is not None:
        return Ended(Status.CANCELLED, reason=run.cancel.reason)
    if _is_late(run, terms.now):
        return Ended(Status.TIMED_OUT, reason="its turn took longer than it may")
    return None


def cancel(run: Run, reason: str | None, *, is_held: bool) -> Ended | CancelRequested | None:
    """Decide what a cancel from outside writes: None where the run has ended, or was told already.

    A run that rests, with no lease held, is ended by whoever cancels it; else its holder is told.
    """
    if run.outcome is not None or run.cancel is not None:
        return None
    if run.is_resting and not is_held and not _watches_cancel(run):
        return Ended(Status.CANCELLED, reason=reason)
    return CancelRequested(reason)


def abort(run: Run, reason: str | None) -> Aborted | None:
    """Decide what an abort writes: None where the run has ended."""
    return None if run.outcome is not None else Aborted(reason)


def withdraw(run: Run, input_id: str, *, is_held: bool) -> Ended | Withdrawn | None:
    """Decide what taking an input back writes: None where no turn will take it up anyway.

    A run that has not begun, and has no other input, is ended, with no lease held; else whoever
    holds it is told.
    """
    if run.outcome is not None or all(input.id != input_id for input in run.inputs):
        return None
    if run.turn == 0 and len(run.inputs) == 1 and not is_held:
        return Ended(Status.CANCELLED, reason=_WITHDRAWN)
    return Withdrawn(input_id)


def retry(run: Run, now: float) -> Retried | None:
    """Decide what a retry writes: None where the run has not ended, or has completed."""
    if run.outcome is None or run.status is Status.COMPLETED:
        return None
    return Retried(now)


def resolve(run: Run, slot: Slot, value: Json, error: Json) -> Resolved | None:
    """Decide what telling the outcome of a step writes: None where it is known, or never began."""
    known = run.checkpoints.get(slot)
    is_open = slot in run.unknown if known is None else _is_unsettled(known.event.error)
    return Resolved(slot.name, slot.number, value, error) if is_open else None


def _is_unsettled(error: Json) -> bool:
    """Say whether a recorded error tells that a step ran, or may have, but not what came of it."""
    return isinstance(error, dict) and error.get("type") in _UNSETTLED
