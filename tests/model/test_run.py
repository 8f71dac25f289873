"""The fold: what each event does to a run, and where it is not allowed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.journal import Entry
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
    Resolved,
    Retried,
    Signalled,
    Slot,
    Status,
    Steering,
    StepBegan,
    StepStreamed,
    StepTried,
    TimerSet,
    TurnBegan,
    TurnEnd,
    TurnEnded,
    Withdrawn,
    encode,
)
from outlast.model.fold import fold
from outlast.model.run import NotAllowed, Run

CREATED = Created("task", {"x": 1}, "i-1", 100.0, title="a title", tags={"a": "b"}, priority=3)
ERROR: Any = {"type": "OSError", "message": "no"}

STATES: dict[str, Sequence[Event]] = {
    "nothing": [],
    "pending": [CREATED],
    "working": [CREATED, TurnBegan(1)],
    "backing off": [CREATED, TurnBegan(1), AttemptFailed(ERROR, 130.0)],
    "handed back": [CREATED, TurnBegan(1), HandedBack(120.0)],
    "completed": [CREATED, TurnBegan(1), Ended(Status.COMPLETED, 1)],
    "aborted": [CREATED, TurnBegan(1), Aborted("enough")],
    "suspended": [CREATED, TurnBegan(1), TurnEnded("suspended", 1)],
}
ALIVE = {"pending", "working", "backing off", "handed back", "suspended"}

ALLOWED: list[tuple[Event, set[str]]] = [
    (CREATED, {"nothing"}),
    (TurnBegan(1), {"pending"}),
    (TurnBegan(7), set()),
    (AttemptBegan(died=True), {"working"}),
    (AttemptBegan(died=False), {"backing off", "handed back"}),
    (StepBegan("a", 1), {"working"}),
    (StepTried("a", 1, 1, ERROR, 110.0), {"working"}),
    (StepStreamed("a", 1, 0), {"working"}),
    (TimerSet("sleep", "a", 1, 110.0), {"working"}),
    (Checkpointed("step", "a", 1, 0, 7), {"working"}),
    (Checkpointed("wait", "a", 1, 0, timed_out=True), {"working"}),
    (Checkpointed("wait", "a", 1, 0, 7), set()),  # no signal is there
    (AttemptFailed(ERROR, 130.0), {"working"}),
    (HandedBack(120.0), {"working"}),
    (Ended(Status.CANCELLED), ALIVE),
    (Aborted(), ALIVE),
    (TurnEnded("superseded"), {"working", "backing off", "handed back"}),
    (TurnBegan(2, "i-1", "continued", input=1), {"suspended"}),
    (TurnBegan(3, "i-1"), set()),
    (InputTaken("i-2", 1, 1), set()),
    (InputGiven("i-2", 1), ALIVE),
    (Retried(140.0), {"aborted"}),
    (Resolved("a", 1, 1), set()),  # it never began
    (Signalled("go", 1), ALIVE),
    (CancelRequested("why"), ALIVE),
]


def run_after(events: Iterable[Event]) -> Run:
    run = Run()
    for event in events:
        run.evolve(event, 50.0)
    return run


def after(*events: Event) -> Run:
    """Return a run at work on its first turn, after these events."""
    return run_after([*STATES["working"], *events])


def entries_of(events: Iterable[Event]) -> list[Entry]:
    drafts = map(encode, events)
    return [
        Entry(number, draft.type, draft.data, 50.0, f"c{number}")
        for number, draft in enumerate(drafts, 1)
    ]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("event", "states"), ALLOWED, ids=[str(event) for event, _ in ALLOWED])
def test_an_event_is_allowed_where_it_can_happen_and_else_changes_nothing(
    event: Event, states: set[str], state: str
) -> None:
    run, untouched = run_after(STATES[state]), run_after(STATES[state])

    if state in states:
        run.evolve(event, 60.0)
        assert run != untouched
    else:
        with pytest.raises(NotAllowed):
            run.evolve(event, 60.0)
        assert run == untouched


def test_an_outcome_is_recorded_once() -> None:
    run = after(Checkpointed("step", "a", 1, 0, 7))

    with pytest.raises(NotAllowed, match="already recorded"):
        run.evolve(Checkpointed("step", "a", 1, 0, 8), 60.0)

    assert run.checkpoints[Slot("step", "a")].event.value == 7


def test_a_run_without_its_first_entry_has_no_start() -> None:
    with pytest.raises(NotAllowed, match="no first entry"):
        _ = Run().start


# Statuses, and when it is due


@pytest.mark.parametrize(
    ("state", "status", "due", "is_resting"),
    [
        ("pending", Status.PENDING, 100.0, True),
        ("working", Status.RUNNING, 100.0, False),
        ("backing off", Status.RUNNING, 130.0, True),
        ("handed back", Status.PENDING, 120.0, True),
        ("completed", Status.COMPLETED, None, True),
        ("aborted", Status.ABORTED, None, True),
        ("suspended", Status.SUSPENDED, None, True),
    ],
)
def test_a_state_has_a_status_and_a_time_at_which_it_is_due(
    state: str, status: Status, due: float | None, is_resting: bool
) -> None:
    run = run_after(STATES[state])

    assert (run.status, run.due, run.is_resting) == (status, due, is_resting)


@pytest.mark.parametrize("status", Status)
def test_a_status_is_final_unless_the_run_may_go_on(status: Status) -> None:
    assert status.is_final is (status not in ("pending", "running", "suspended"))


def test_due_of_a_run_at_work_stays_as_it_is() -> None:
    assert "due" not in after().moving_card()
    assert run_after(STATES["backing off"]).moving_card() == {"status": "running", "due": 130.0}


def test_the_card_is_what_the_entries_add_up_to() -> None:
    card = run_after(STATES["backing off"]).card()

    assert card == {
        "kind": "run",
        "name": "task",
        "title": "a title",
        "status": "running",
        "queue": "default",
        "due": 130.0,
        "priority": 3,
        "tags": {"a": "b"},
        "session": "",
        "source": "",
    }


# Attempts, recoveries, deaths


def test_a_failed_attempt_counts_and_is_no_recovery() -> None:
    run = after(AttemptFailed(ERROR, 1.0), AttemptBegan(died=False))

    assert (run.attempt, run.recoveries, run.deaths, run.is_recovered) == (1, 0, 0, False)
    assert run.retry_error == ERROR


def test_a_death_is_a_recovery_and_no_attempt() -> None:
    run = after(AttemptBegan(died=True), AttemptBegan(died=True))

    assert (run.attempt, run.recoveries, run.deaths, run.is_recovered) == (0, 2, 2, True)


def test_a_crash_neither_spends_an_attempt_nor_forgets_one() -> None:
    failed_once = (AttemptFailed(ERROR, 1.0), AttemptBegan(died=False))

    run = after(*failed_once, AttemptBegan(died=True))

    assert run.attempt == 1


def test_a_hand_back_is_a_recovery_and_no_death() -> None:
    run = after(AttemptBegan(died=True), HandedBack(1.0), AttemptBegan(died=False))

    assert (run.attempt, run.recoveries, run.deaths, run.is_recovered) == (0, 2, 1, True)


def test_a_recovered_attempt_that_fails_is_entered_again_without_a_recovery() -> None:
    run = after(AttemptBegan(died=True), AttemptFailed(ERROR, 1.0), AttemptBegan(died=False))

    assert (run.recoveries, run.is_recovered) == (1, False)


@pytest.mark.parametrize(
    "event",
    [Checkpointed("step", "a", 1, 0), AttemptFailed(ERROR, 1.0)],
    ids=["outcome", "failure"],
)
def test_what_an_attempt_achieves_ends_a_row_of_deaths(event: Event) -> None:
    run = after(AttemptBegan(died=True), event)

    assert run.deaths == 0


# Outcomes


def test_outcomes_have_the_places_in_which_they_were_recorded() -> None:
    run = after(
        Checkpointed("step", "a", 2, 0),
        Checkpointed("step", "a", 1, 0),
        Checkpointed("sleep", "a", 1, 2),
    )

    places = {slot: (old.place, old.after) for slot, old in run.checkpoints.items()}
    assert places == {
        Slot("step", "a", 2): (0, 0),
        Slot("step", "a", 1): (1, 0),
        Slot("sleep", "a", 1): (2, 2),
    }


def test_a_new_attempt_forgets_failures_and_keeps_the_rest_in_its_order() -> None:
    run = after(
        Checkpointed("step", "fails", 1, 0, error=ERROR, always=False),
        Checkpointed("step", "works", 1, 1, 7),
        Checkpointed("step", "may run once", 1, 2, error=ERROR),
        StepTried("tried", 1, 2, ERROR, 3.0),
        AttemptFailed(ERROR, 1.0),
    )

    assert [(slot.name, old.place) for slot, old in run.checkpoints.items()] == [
        ("works", 0),
        ("may run once", 1),
    ]
    assert not run.tries


def test_within_an_attempt_a_failure_is_kept_also_over_a_crash() -> None:
    run = after(
        Checkpointed("step", "fails", 1, 0, error=ERROR, always=False), AttemptBegan(died=True)
    )

    assert Slot("step", "fails") in run.checkpoints


def test_what_has_an_outcome_is_not_under_way_any_more() -> None:
    slot = Slot("step", "a")
    begun: list[Event] = [
        StepBegan("a", 1, "d"),
        StepTried("a", 1, 1, ERROR, 3.0),
        StepStreamed("a", 1, 4),
        TimerSet("step", "a", 1, 9.0),
    ]
    run = after(*begun)
    assert (run.unknown, run.tries[slot].tries, run.streamed[slot], run.timers[slot]) == (
        {slot: "d"},
        1,
        4,
        9.0,
    )

    run.evolve(Checkpointed("step", "a", 1, 0, digest="d"), 60.0)

    assert not run.unknown
    assert not run.tries
    assert not run.streamed
    assert not run.timers


def test_what_a_failed_step_has_emitted_may_still_be_taken_back() -> None:
    run = after(StepStreamed("a", 1, 4), Checkpointed("step", "a", 1, 0, error=ERROR, always=False))

    assert run.streamed == {Slot("step", "a"): 4}


@pytest.mark.parametrize(("number", "text"), [(1, "search"), (2, "search#2")])
def test_a_slot_is_called_by_its_name_and_from_the_second_on_by_its_number(
    number: int, text: str
) -> None:
    assert str(Slot("step", "search", number)) == text


# Signals and stops


def test_signals_of_one_name_are_taken_first_in_first_out() -> None:
    run = after(Signalled("go", 1), Signalled("other", 2), Signalled("go", 3))

    run.evolve(Checkpointed("wait", "go", 1, 0, 1), 60.0)
    assert {name: list(values) for name, values in run.signals.items()} == {"go": [3], "other": [2]}

    run.evolve(Checkpointed("wait", "go", 2, 1, 3), 60.0)
    assert {name: list(values) for name, values in run.signals.items()} == {"other": [2]}


def test_a_wait_that_timed_out_takes_no_signal() -> None:
    run = after(Signalled("go", 1), Checkpointed("wait", "go", 1, 0, timed_out=True))

    assert list(run.signals["go"]) == [1]


def test_a_signal_that_comes_before_the_run_begins_is_kept() -> None:
    run = run_after([CREATED, Signalled("go", 1), TurnBegan(1)])

    assert list(run.signals["go"]) == [1]


def test_the_first_request_to_cancel_counts() -> None:
    run = after(CancelRequested("first"), CancelRequested("second"))

    assert run.cancel == CancelRequested("first")


# Laws

NAMES = st.sampled_from(["a", "b"])
IDS = st.sampled_from(["i-1", "i-2", "i-3"])
NUMBERS = st.integers(1, 3)
TIMES = st.integers(0, 1000).map(float)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


def made(event: Callable[..., Event], *fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    """Give events with these first fields; the others have their defaults."""
    return st.tuples(*fields).map(lambda values: event(*values))


EVENTS: st.SearchStrategy[Event] = st.one_of(
    made(TurnBegan, st.integers(1, 3), IDS),
    made(
        TurnBegan,
        st.integers(2, 3),
        IDS,
        st.just("continued"),
        st.lists(IDS).map(tuple),
        st.integers(0, 3),
        TIMES,
        JSON,
    ),
    made(TurnEnded, st.sampled_from(get_args(TurnEnd)), JSON),
    made(InputGiven, IDS, JSON, st.sampled_from(get_args(Steering))),
    made(InputTaken, IDS, NUMBERS, NUMBERS),
    made(Withdrawn, IDS),
    made(Retried, TIMES),
    made(Resolved, NAMES, NUMBERS, JSON, JSON),
    made(AttemptBegan, st.booleans()),
    st.builds(StepBegan, NAMES, NUMBERS),
    st.builds(StepTried, NAMES, NUMBERS, NUMBERS, JSON, TIMES),
    st.builds(StepStreamed, NAMES, NUMBERS, NUMBERS),
    st.builds(TimerSet, st.sampled_from(["sleep", "wait"]), NAMES, NUMBERS, TIMES),
    st.builds(
        Checkpointed,
        st.sampled_from(["step", "sleep", "wait"]),
        NAMES,
        NUMBERS,
        st.integers(0, 5),
        JSON,
        JSON,
        always=st.booleans(),
        digest=st.sampled_from(["", "d"]),
        span=st.none() | st.tuples(NUMBERS, NUMBERS),
        timed_out=st.booleans(),
    ),
    st.builds(AttemptFailed, JSON, TIMES),
    st.builds(HandedBack, TIMES),
    st.builds(Signalled, NAMES, JSON),
    st.builds(CancelRequested, st.none() | st.text(max_size=3)),
    st.builds(
        Ended, st.sampled_from([Status.COMPLETED, Status.FAILED, Status.CANCELLED]), JSON, JSON
    ),
    st.builds(Aborted, st.none() | st.text(max_size=3)),
)


@st.composite
def histories(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[Event]:
    """Give histories that are allowed."""
    run, history = Run(), list[Event](STATES["working"])
    for event in history:
        run.evolve(event, 50.0)
    for event in draw(st.lists(EVENTS, max_size=25)):
        try:
            run.evolve(event, 50.0)
        except NotAllowed:
            continue
        history.append(event)
    return history


@given(histories(), st.integers(0, 30))
def test_folded_in_two_halves_it_is_as_folded_at_once(history: list[Event], cut: int) -> None:
    entries = entries_of(history)

    halves = fold(entries[cut:], fold(entries[:cut]))

    assert halves == fold(entries)
    assert halves.revision == len(entries)


@given(histories(), EVENTS)
def test_what_is_not_allowed_changes_nothing(history: list[Event], event: Event) -> None:
    run, untouched = run_after(history), run_after(history)

    try:
        run.evolve(event, 60.0)
    except NotAllowed:
        assert run == untouched


@given(histories(), st.lists(EVENTS, max_size=3))
def test_looking_ahead_leaves_the_run_as_it_was(history: list[Event], events: list[Event]) -> None:
    run, untouched = run_after(history), run_after(history)

    try:
        ahead = run.after(events)
    except NotAllowed:
        ahead = run

    assert run == untouched
    assert ahead.card().keys() == run.card().keys()


@given(histories())
def test_looking_ahead_shows_the_card_that_the_events_add_up_to(history: list[Event]) -> None:
    *before, last = history

    assert run_after(before).after([last]).card() == run_after(history).card()


@given(histories())
def test_the_card_a_writer_keeps_is_the_card_of_a_fresh_fold(history: list[Event]) -> None:
    card: dict[str, Any] = {}
    run = Run()
    for event in history:
        run.evolve(event, 50.0)
        card.update(run.card() if isinstance(event, Created) else run.moving_card())
        expected = dict(run.card())
        if run.is_entered:  # that of a run at work is as it was when it was taken up
            del expected["due"]
        assert {name: card[name] for name in expected} == expected


@given(histories())
def test_places_are_consecutive(history: list[Event]) -> None:
    run = run_after(history)

    assert [old.place for old in run.checkpoints.values()] == list(range(len(run.checkpoints)))


def calls_of(action: Callable[[], object]) -> int:
    """Return how many functions are called, those in C included."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "event",
    [
        Checkpointed("step", "new", 1, 0, 7),
        Checkpointed("wait", "go", 1, 0, 1),
        TimerSet("sleep", "new", 1, 9.0),
        Signalled("go", 1),
        HandedBack(9.0),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_costs_the_same_after_a_long_history(event: Event) -> None:
    costs = []
    for length in (1, 1_000):
        run = after(*(Signalled("go", 1) for _ in range(length)))
        for number in range(1, length + 1):
            run.evolve(Checkpointed("step", "old", number, 0, number), 50.0)
        costs.append(calls_of(lambda run=run: run.evolve(event, 60.0)))  # type: ignore[misc]

    assert costs[0] == costs[1]
