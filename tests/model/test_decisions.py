"""What follows from a run as it is."""

from __future__ import annotations

import pytest

from outlast.model import decisions
from outlast.model.decisions import Entrance
from outlast.model.events import (
    Aborted,
    Asked,
    AttemptBegan,
    AttemptFailed,
    CancelRequested,
    Checkpointed,
    Ended,
    Event,
    HandedBack,
    Parked,
    Signalled,
    Status,
    TakenBack,
    TurnBegan,
)
from outlast.model.run import Run
from outlast.model.terms import Terms
from tests.model.test_run import ERROR, STATES, after, run_after

TERMS = Terms(1000.0)


def entered(
    run: Run, *, now: float = 1000.0, max_recoveries: int = 3
) -> tuple[Entrance, Event | None]:
    entering = decisions.enter(run, Terms(now, max_recoveries=max_recoveries))
    assert len(entering.events) <= 1
    events = [event for event in entering.events if not isinstance(event, TakenBack)]
    for event in events:
        run.evolve(event, now)
    return entering.entrance, next(iter(events), None)


# Leaving memory

PARKED = Parked(1100.0, (Asked("go", 1, 0),))


def test_what_came_while_a_handler_unwound_enters_it_at_once() -> None:
    run = after(Signalled("go", 7))

    assert decisions.park(run, PARKED, TERMS) == (PARKED._replace(due=1000.0),)


def test_a_signal_that_no_wait_asks_for_enters_nobody() -> None:
    run = after(Signalled("other", 7))

    assert decisions.park(run, PARKED, TERMS) == (PARKED,)


def test_a_run_that_is_cancelled_while_it_unwinds_ends_unless_it_waits_for_that() -> None:
    run, watching = after(CancelRequested("why")), PARKED._replace(watches_cancel=True)

    assert decisions.park(run, PARKED, TERMS) == (Ended(Status.CANCELLED, reason="why"),)
    assert decisions.park(run, watching, TERMS) == (watching._replace(due=1000.0),)


@pytest.mark.parametrize(
    ("event", "now", "entrance"),
    [
        (None, 1099.0, Entrance.PUT_BACK),
        (None, 1100.0, Entrance.ENTER),
        (Signalled("other", 7), 1099.0, Entrance.PUT_BACK),
        (Signalled("go", 7), 1099.0, Entrance.ENTER),
        (CancelRequested("why"), 1099.0, Entrance.END),
    ],
)
def test_a_parked_run_is_entered_at_its_time_or_for_its_signal(
    event: Event | None, now: float, entrance: Entrance
) -> None:
    run = after(PARKED, *([event] if event else []))

    assert entered(run, now=now)[0] is entrance


# Taking a run up


@pytest.mark.parametrize(
    ("state", "event"),
    [
        ("pending", TurnBegan(1, "i-1")),
        ("working", AttemptBegan(died=True)),
        ("backing off", AttemptBegan(died=False)),
        ("handed back", AttemptBegan(died=False)),
    ],
)
def test_a_run_that_is_due_is_entered(state: str, event: Event) -> None:
    assert entered(run_after(STATES[state])) == (Entrance.ENTER, event)


@pytest.mark.parametrize("state", ["pending", "backing off", "handed back"])
def test_a_run_that_was_claimed_too_early_is_put_back(state: str) -> None:
    assert entered(run_after(STATES[state]), now=99.0) == (Entrance.PUT_BACK, None)


def test_an_orphan_is_entered_whenever_it_is_claimed() -> None:
    assert entered(run_after(STATES["working"]), now=0.0)[0] is Entrance.ENTER


@pytest.mark.parametrize("state", ["completed", "aborted"])
def test_a_run_that_has_ended_is_put_back(state: str) -> None:
    assert entered(run_after(STATES[state])) == (Entrance.PUT_BACK, None)


@pytest.mark.parametrize("state", ["pending", "working", "backing off", "handed back"])
def test_a_run_that_was_asked_to_stop_is_not_entered_again(state: str) -> None:
    run = run_after([*STATES[state], CancelRequested("why")])

    assert entered(run, now=0.0) == (Entrance.END, Ended(Status.CANCELLED, reason="why"))


def test_a_run_fails_at_the_last_death_that_it_may_have() -> None:
    run = after()

    assert entered(run)[0] is Entrance.ENTER
    assert entered(run)[0] is Entrance.ENTER
    entrance, event = entered(run)

    assert entrance is Entrance.END
    assert isinstance(event, Ended)
    assert event.status is Status.FAILED
    assert event.reason == "its process died 3 times in a row without a new checkpoint"


def test_hand_backs_and_outcomes_are_no_deaths() -> None:
    run = after()
    for number in range(1, 10):
        assert entered(run)[0] is Entrance.ENTER
        run.evolve(Checkpointed("step", "a", number, 0), 1.0)
        assert entered(run)[0] is Entrance.ENTER
        run.evolve(HandedBack(0.0), 1.0)
        assert entered(run)[0] is Entrance.ENTER
        run.evolve(Checkpointed("step", "b", number, 0), 1.0)


# The end of an attempt


def test_a_result_completes_the_run_also_after_a_cancel() -> None:
    for run in (after(), after(CancelRequested())):
        assert decisions.returned(run, 7, TERMS) == (Ended(Status.COMPLETED, output=7),)


def test_an_error_is_tried_again_where_the_policy_says_when() -> None:
    assert decisions.raised(after(), ERROR, 9.0, TERMS) == (AttemptFailed(ERROR, 9.0),)


def test_an_error_fails_the_run_where_no_retry_is_left() -> None:
    run = after(AttemptFailed(ERROR, 1.0), AttemptBegan(died=False))

    ended = Ended(Status.FAILED, error=ERROR, attempts=2)
    assert decisions.raised(run, ERROR, None, TERMS) == (ended,)


def test_an_error_after_a_cancel_is_not_tried_again() -> None:
    run = after(CancelRequested())

    ended = Ended(Status.FAILED, error=ERROR, attempts=1)
    assert decisions.raised(run, ERROR, 9.0, TERMS) == (ended,)


# From outside


@pytest.mark.parametrize("state", ["pending", "backing off", "handed back"])
def test_a_run_that_rests_is_ended_by_whoever_cancels_it(state: str) -> None:
    event = decisions.cancel(run_after(STATES[state]), "why", is_held=False)

    assert event == Ended(Status.CANCELLED, reason="why")


@pytest.mark.parametrize("state", ["pending", "working", "backing off", "handed back"])
def test_whoever_holds_a_run_is_told_to_cancel_it(state: str) -> None:
    event = decisions.cancel(run_after(STATES[state]), "why", is_held=True)

    assert event == CancelRequested("why")


def test_an_orphan_is_told_to_cancel() -> None:
    assert decisions.cancel(after(), None, is_held=False) == CancelRequested()


@pytest.mark.parametrize("state", ["completed", "aborted"])
def test_a_run_that_has_ended_is_neither_cancelled_nor_aborted(state: str) -> None:
    run = run_after(STATES[state])

    assert decisions.cancel(run, None, is_held=False) is None
    assert decisions.abort(run, None) is None


def test_a_second_cancel_does_nothing() -> None:
    assert decisions.cancel(after(CancelRequested()), None, is_held=True) is None


@pytest.mark.parametrize("state", ["pending", "working", "backing off", "handed back"])
def test_an_abort_ends_whatever_has_not_ended(state: str) -> None:
    assert decisions.abort(run_after(STATES[state]), "why") == Aborted("why")
