"""What follows: given a run as it is, what may be written next. Asked anew after a `Conflict`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from outlast.codec.plain import Json, is_same
from outlast.model.events import (
    Aborted,
    AttemptBegan,
    AttemptFailed,
    CancelRequested,
    Decision,
    Ended,
    Parked,
    Status,
    TurnBegan,
)
from outlast.model.run import Run

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
    events: tuple[Decision, ...] = ()


def enter(  # noqa: PLR0911 - each case is one rule
    run: Run, now: float, max_recoveries: int
) -> Entering:
    """Decide what to do with a run that was claimed at the time `now`.

    A run that was claimed too early, because of a fact that nobody waits for, is put back with its
    own `due`.
    """
    if run.outcome is not None:
        return Entering(Entrance.PUT_BACK)
    if run.cancel is not None and not _watches_cancel(run):
        return Entering(Entrance.END, (cancelled(run),))
    if run.is_entered:
        if run.deaths + 1 >= max_recoveries:
            message = f"its process died {run.deaths + 1} times in a row without a new checkpoint"
            error: Json = {"type": "ProcessDied", "message": message, "traceback": ""}
            ended = Ended(Status.FAILED, error=error, reason=message, attempts=run.attempt + 1)
            return Entering(Entrance.END, (ended,))
        return Entering(Entrance.ENTER, (AttemptBegan(died=True),))
    if not _is_awaited(run, now):
        return Entering(Entrance.PUT_BACK)
    if run.turn == 0:
        return Entering(Entrance.ENTER, (TurnBegan(1),))
    return Entering(Entrance.ENTER, (AttemptBegan(died=False),))


def _is_awaited(run: Run, now: float) -> bool:
    """Say whether there is something to do for a run that rests."""
    if run.parked is not None and _has_come(run, run.parked):
        return True
    return run.due <= now if run.due is not None else run.parked is None


def _has_come(run: Run, parked: Parked) -> bool:
    """Say whether something is there that enters the handler again."""
    return run.cancel is not None or any(wait.name in run.signals for wait in parked.waits)


def _watches_cancel(run: Run) -> bool:
    """Say whether the handler, out of memory, waits for `ctx.cancel`."""
    return run.parked is not None and run.parked.watches_cancel


def park(run: Run, parked: Parked, now: float) -> Decision:
    """Decide what becomes of a handler that was unwound because it only waits.

    What came while it unwound enters it again at once.
    """
    if run.cancel is not None and not parked.watches_cancel:
        return cancelled(run)
    return parked._replace(due=now) if _has_come(run, parked) else parked


def returned(output: Json) -> Ended:
    """Decide what a handler that returned amounts to: a result counts, also after a cancel."""
    return Ended(Status.COMPLETED, output=output)


def raised(run: Run, error: Json, retry_at: float | None) -> Decision:
    """Decide what a handler that raised amounts to; its policy would try again at `retry_at`."""
    if retry_at is None or run.cancel is not None:
        return Ended(Status.FAILED, error=error, attempts=run.attempt + 1)
    return AttemptFailed(error, retry_at)


def cancelled(run: Run) -> Ended:
    """Decide that the run ends without a result because somebody asked for it."""
    return Ended(Status.CANCELLED, reason=run.cancel.reason if run.cancel else None)


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


def is_said_again(run: Run, name: str, input: Json) -> bool:
    """Say whether a start names the same task with an equal input: then it joins the run."""
    return run.start.name == name and is_same(input, run.start.input)
