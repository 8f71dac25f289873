"""How one turn follows another: what a new input does, and what comes after a turn's end.

An input that stands in the journal before a turn's end is seen by whoever writes that end. The one
rule that must not be broken: the end of a turn and the beginning of the next are one write, so that
no crash finds a run between them with an input that nobody will take up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from outlast.codec.plain import Json, is_same
from outlast.model.events import (
    InputGiven,
    Steering,
    TakenBack,
    TurnBegan,
    TurnEnded,
    TurnMode,
)
from outlast.model.fold import snapshot
from outlast.model.run import Input, Run
from outlast.model.terms import Terms, Written

MAX_PENDING: Final = 10
"""Inputs that may wait for a turn."""


class Answer(Enum):
    """What becomes of an input that a run is given."""

    TAKE = "take"
    JOIN = "join"
    CONFLICT = "conflict"
    FULL = "full"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Offer:
    """An input for a run that is there already.

    Attributes:
        name: of the task.
        steering: None where the task takes no input while a turn is under way.
        if_last_input_id: what its giver takes for the newest input; None: anything.
        known: what was given under this id before; None where nothing was.
    """

    name: str
    input_id: str
    input: Json
    steering: Steering | None
    max_pending: int = MAX_PENDING
    if_last_input_id: str | None = None
    known: Input | None = None


def answer(run: Run, offer: Offer) -> Answer:
    """Decide what becomes of an input, as the table of `start` says.

    The input that the run works on, and one that is `known`, are loaded.
    """
    if run.start.name != offer.name:
        return Answer.CONFLICT
    if offer.known is not None:
        return Answer.JOIN if is_same(offer.known.value, offer.input) else Answer.CONFLICT
    refuses = offer.steering is None and not _rests(run)
    if refuses and _is_equal(run, offer):
        return Answer.JOIN
    if run.outcome is not None or refuses:
        return Answer.CONFLICT
    if offer.if_last_input_id not in (None, run.last_input_id):
        return Answer.MISMATCH
    return Answer.FULL if waiting(run) >= offer.max_pending else Answer.TAKE


def _rests(run: Run) -> bool:
    """Say whether the run waits for its next input: one that came was not taken up at once."""
    return run.suspension is not None and not run.inputs and run.outcome is None


def _is_equal(run: Run, offer: Offer) -> bool:
    at_work = newest(run)
    return at_work is not None and is_same(at_work.value, offer.input)


def newest(run: Run) -> Input | None:
    """Return the input that the newest turn has, or that the next one will have."""
    return run.inputs[0] if run.is_between and run.inputs else run.input


def waiting(run: Run) -> int:
    """Return how many inputs wait behind one that is, or will be, worked on."""
    return max(0, len(run.inputs) - (run.turn == 0))


def accepted(offer: Offer) -> InputGiven:
    """Return the fact that gives the run the input."""
    return InputGiven(offer.input_id, offer.input, offer.steering or "queue")


# From one turn to the next


def end_turn(run: Run, ended: TurnEnded, terms: Terms) -> Sequence[Written]:
    """Return what takes back what is undone, ends the turn, and begins the next if there is one.

    In this order: readers of the turn's stream are told, too, and what they read ends with the
    turn.
    """
    written: list[Written] = []
    streamed = terms.streamed
    if ended.how == "superseded" and is_undone(run) and streamed > run.streamed_before:
        streamed += 1
        written.append(TakenBack(streamed, run.streamed_before, run.turn))
    written.append(ended)
    after = run.after([ended])
    return [*written, *begin_next(after, replace(terms, streamed=streamed))]


def go_on(run: Run, input: Json, terms: Terms) -> Sequence[Written]:
    """Return what ends the turn, and begins another one with an input of its own."""
    assert run.input is not None
    ended = TurnEnded("continued")
    began = TurnBegan(
        run.turn + 1,
        run.input.id,
        "continued",
        streamed=terms.streamed,
        deadline=terms.deadline,
        input=input,
    )
    return [ended, snapshot(run.after([ended])), began]


def begin_next(run: Run, terms: Terms) -> Sequence[Written]:
    """Return what begins the next turn of a run between two; nothing where no input is there."""
    if not run.inputs:
        return []
    chosen = _next_of(run.inputs)
    overtook = tuple(input.id for input in run.inputs[: run.inputs.index(chosen)])
    mode: TurnMode = "fresh" if run.turn == 0 else "resumed" if run.suspension else "steered"
    began = TurnBegan(
        run.turn + 1,
        chosen.id,
        "steered" if overtook else mode,
        overtook,
        terms.streamed,
        terms.deadline,
    )
    return [began] if run.turn == 0 else [snapshot(run), began]


def _next_of(inputs: Sequence[Input]) -> Input:
    """Return the first input, unless others that interrupt came right behind it: then the last.

    An input that another one overtakes never runs.
    """
    chosen = inputs[0]
    for input in inputs[1:]:
        if not input.supersedes:
            break
        chosen = input
    return chosen


def is_undone(run: Run) -> bool:
    """Say whether the input that comes next wants the turn to be as if it had not been."""
    return bool(run.inputs) and _next_of(run.inputs).steering == "rollback"
