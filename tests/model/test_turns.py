"""From turn to turn: what a new input does, and what stands in the journal at a turn's end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.model import decisions, turns
from outlast.model.decisions import Entrance
from outlast.model.events import (
    Aborted,
    AttemptBegan,
    AttemptFailed,
    CancelRequested,
    Checkpointed,
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
    TakenBack,
    TurnBegan,
    TurnEnded,
    Withdrawn,
)
from outlast.model.fold import fold, snapshot
from outlast.model.run import Input, NotAllowed, Run
from outlast.model.terms import Terms, Written
from outlast.model.turns import Answer, Offer, answer
from tests.model.test_run import CREATED, ERROR, STATES, after, entries_of, histories, run_after

NOW = Terms(1000.0)
LATER = Terms(1000.0, timeout=60.0, streamed=7)


def given_to(run: Run, *inputs: tuple[str, Steering]) -> Run:
    for id, steering in inputs:
        run.evolve(InputGiven(id, f"input {id}", steering), 1.0)
    return run


def said(written: Sequence[Written]) -> list[str]:
    """Return what is written in short: no snapshot, and of a turn what it takes up and how."""
    words: list[str] = []
    for event in written:
        match event:
            case TurnEnded(how, output):
                words.append(how if output is None else f"{how} with {output}")
            case TurnBegan(turn, id, mode, overtook):
                past = f" past {', '.join(overtook)}" if overtook else ""
                words.append(f"{mode} {turn}: {id or 'its first'}{past}")
            case Ended(status):
                words.append(f"end {status}")
            case TakenBack(offset, back_to):
                words.append(f"take back {back_to} to {offset}")
            case Snapshot():
                pass
            case _:
                words.append(type(event).__name__)
    return words


def written_to(run: Run, written: Sequence[Written]) -> Run:
    for event in written:
        if not isinstance(event, TakenBack):
            run.evolve(event, 60.0)
    return run


# What `start` says to a run that is there


def offer(input_id: str = "new", input: Any = "another", **fields: Any) -> Offer:
    return Offer("task", input_id, input, **{"steering": "queue", **fields})


ENDED = ("completed", "aborted")
OPEN = tuple(state for state in STATES if state not in (*ENDED, "nothing"))


@pytest.mark.parametrize("steering", [None, *get_args(Steering)])
@pytest.mark.parametrize("state", [*OPEN, *ENDED])
def test_a_known_input_is_joined_whatever_its_run_does(
    state: str, steering: Steering | None
) -> None:
    known = Input("i-1", value={"x": 1})
    same = offer("i-1", {"x": 1}, steering=steering, known=known, if_last_input_id="older")

    assert answer(run_after(STATES[state]), same) is Answer.JOIN


@pytest.mark.parametrize("state", [*OPEN, *ENDED])
def test_a_known_id_with_another_input_is_a_conflict(state: str) -> None:
    other = offer("i-1", {"x": True}, known=Input("i-1", value={"x": 1}))

    assert answer(run_after(STATES[state]), other) is Answer.CONFLICT


@pytest.mark.parametrize("state", STATES.keys() - {"nothing"})
def test_an_id_of_another_task_is_a_conflict(state: str) -> None:
    other = Offer("other", "new", "another", "queue")

    assert answer(run_after(STATES[state]), other) is Answer.CONFLICT


@pytest.mark.parametrize("steering", get_args(Steering))
@pytest.mark.parametrize("state", [*OPEN, *ENDED])
def test_a_new_input_is_taken_until_the_run_ends(state: str, steering: Steering) -> None:
    expected = Answer.CONFLICT if state in ENDED else Answer.TAKE

    assert answer(run_after(STATES[state]), offer(steering=steering)) is expected


@pytest.mark.parametrize("state", [*OPEN, *ENDED])
def test_a_task_that_rejects_takes_a_new_input_between_turns_only(state: str) -> None:
    expected = Answer.TAKE if state == "suspended" else Answer.CONFLICT

    assert answer(run_after(STATES[state]), offer(steering=None)) is expected


@pytest.mark.parametrize("state", [*OPEN, *ENDED])
def test_a_task_that_rejects_joins_an_equal_input_but_between_turns(state: str) -> None:
    expected = Answer.TAKE if state == "suspended" else Answer.JOIN

    assert answer(run_after(STATES[state]), offer(input={"x": 1}, steering=None)) is expected


@pytest.mark.parametrize(("input", "expected"), [("input a", "join"), ({"x": 1}, "conflict")])
def test_a_task_that_rejects_takes_no_second_input_while_one_waits_for_its_turn(
    input: Any, expected: str
) -> None:
    run = given_to(run_after(STATES["suspended"]), ("a", "queue"))

    assert answer(run, offer(input=input, steering=None)) is Answer(expected)


def test_an_equal_input_joins_a_suspended_run_that_was_cancelled() -> None:
    run = run_after([*STATES["suspended"], Ended(Status.CANCELLED)])

    assert answer(run, offer(input={"x": 1}, steering=None)) is Answer.JOIN
    assert answer(run, offer(steering=None)) is Answer.CONFLICT


def test_so_many_inputs_wait_and_no_more() -> None:
    run = given_to(after(), ("a", "queue"))

    assert answer(run, offer(max_pending=2)) is Answer.TAKE
    assert answer(run, offer(max_pending=1)) is Answer.FULL


def test_the_input_of_a_run_that_has_not_begun_does_not_wait() -> None:
    assert turns.waiting(run_after(STATES["pending"])) == 0
    assert turns.waiting(given_to(run_after(STATES["pending"]), ("a", "queue"))) == 1


@pytest.mark.parametrize(("last", "expected"), [("a", Answer.TAKE), ("i-1", Answer.MISMATCH)])
def test_an_input_may_name_the_one_that_it_follows(last: str, expected: Answer) -> None:
    run = given_to(after(), ("a", "queue"))

    assert answer(run, offer(if_last_input_id=last)) is expected
    assert run.last_input_id == "a"


def test_an_offer_becomes_a_fact() -> None:
    assert turns.accepted(offer(steering="inject")) == InputGiven("new", "another", "inject")
    assert turns.accepted(offer(steering=None)).steering == "queue"


# The end of a turn, and the next


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], ["end completed"]),
        ([("a", "queue")], ["completed with 7", "steered 2: a"]),
        ([("a", "inject")], ["completed with 7", "steered 2: a"]),
        ([("a", "queue"), ("b", "queue")], ["completed with 7", "steered 2: a"]),
        ([("a", "interrupt")], ["superseded with 7", "steered 2: a"]),
        ([("a", "rollback")], ["take back 0 to 8", "superseded", "steered 2: a"]),
        (
            [("a", "interrupt"), ("b", "interrupt"), ("c", "interrupt")],
            ["superseded with 7", "steered 2: c past a, b"],
        ),
        ([("a", "rollback"), ("b", "interrupt")], ["superseded with 7", "steered 2: b past a"]),
        ([("a", "queue"), ("b", "interrupt")], ["superseded with 7", "steered 2: b past a"]),
    ],
)
def test_a_result_ends_the_turn_as_the_inputs_say(
    inputs: list[tuple[str, Steering]], expected: list[str]
) -> None:
    run = given_to(after(), *inputs)

    assert said(decisions.returned(run, 7, LATER)) == expected


@pytest.mark.parametrize("stop", [CancelRequested(), None], ids=["cancel", "timeout"])
def test_a_result_after_a_stop_counts_and_no_further_turn_begins(
    stop: CancelRequested | None,
) -> None:
    run = given_to(run_after([CREATED, TurnBegan(1, deadline=999.0)]), ("a", "interrupt"))
    if stop is not None:
        run.evolve(stop, 1.0)

    assert said(decisions.returned(run, 7, NOW)) == ["end completed"]


def test_the_next_turn_has_its_own_time_and_knows_where_the_stream_is() -> None:
    *_, began = decisions.returned(given_to(after(), ("a", "queue")), 7, LATER)

    assert began == TurnBegan(2, "a", "steered", streamed=7, deadline=1060.0)


def test_what_is_undone_is_taken_back_before_the_next_turn_begins() -> None:
    run = given_to(after(), ("a", "rollback"))

    back, ended, _, began = decisions.returned(run, 7, LATER)

    assert ended == TurnEnded("superseded")
    assert back == TakenBack(8, 0, 1)
    assert isinstance(began, TurnBegan)
    assert began.streamed == 8


def test_a_turn_that_emitted_nothing_has_nothing_to_take_back() -> None:
    run = given_to(run_after([CREATED, TurnBegan(1, streamed=7)]), ("a", "rollback"))

    assert said(decisions.returned(run, 7, LATER)) == ["superseded", "steered 2: a"]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], ["suspended with 7"]),
        ([("a", "queue")], ["suspended with 7", "resumed 2: a"]),
        ([("a", "interrupt")], ["superseded with 7", "steered 2: a"]),
    ],
)
def test_a_suspension_lasts_until_the_next_input(
    inputs: list[tuple[str, Steering]], expected: list[str]
) -> None:
    run = given_to(after(), *inputs)

    assert said(decisions.suspended(run, 7, "ask", NOW)) == expected


def test_a_suspended_run_says_why() -> None:
    run = written_to(after(), decisions.suspended(after(), 7, "ask", NOW))

    assert run.status is Status.SUSPENDED
    assert run.suspension == TurnEnded("suspended", 7, reason="ask")
    assert run.due is None


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], ["continued", "continued 2: i-1"]),
        ([("a", "queue")], ["continued", "continued 2: i-1"]),
        ([("a", "interrupt")], ["superseded", "steered 2: a"]),
    ],
)
def test_a_turn_that_continues_itself_comes_before_queued_inputs(
    inputs: list[tuple[str, Steering]], expected: list[str]
) -> None:
    run = given_to(after(), *inputs)

    written = decisions.continued(run, "go on", NOW)

    assert said(written) == expected
    if expected[0] == "continued":
        assert written_to(run, written).input == Input("i-1", value="go on")


@pytest.mark.parametrize("decide", ["suspended", "continued"])
def test_a_stop_is_stronger_than_what_the_handler_asks_for(decide: str) -> None:
    cancelled, late = after(CancelRequested()), run_after([CREATED, TurnBegan(1, deadline=1000.0)])
    for run, expected in ((cancelled, "end cancelled"), (late, "end timed_out")):
        written = (
            decisions.suspended(run, 7, None, NOW)
            if decide == "suspended"
            else decisions.continued(run, 7, NOW)
        )
        assert said(written) == [expected]


@pytest.mark.parametrize(
    ("inputs", "on_turn_error", "expected"),
    [
        ([], "fail", ["end failed"]),
        ([("a", "queue")], "fail", ["end failed"]),
        ([], "suspend", ["failed"]),
        ([("a", "queue")], "suspend", ["failed", "resumed 2: a"]),
        ([("a", "interrupt")], "fail", ["superseded", "steered 2: a"]),
    ],
)
def test_an_error_that_is_not_tried_again_ends_the_turn_or_the_run(
    inputs: list[tuple[str, Steering]], on_turn_error: Any, expected: list[str]
) -> None:
    run = given_to(after(), *inputs)

    written = decisions.raised(run, ERROR, None, Terms(9.0, on_turn_error=on_turn_error))

    assert said(written) == expected


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_an_error_after_the_turn_s_time_is_a_timeout(is_cancelled: bool) -> None:
    run = run_after([CREATED, TurnBegan(1, deadline=1000.0)])

    written = decisions.raised(run, ERROR, 9.0, NOW, is_cancelled=is_cancelled)

    assert said(written) == ["end timed_out"]


def test_a_cancelled_error_after_a_cancel_is_a_cancel() -> None:
    run = after(CancelRequested("why"))

    written = decisions.raised(run, ERROR, None, NOW, is_cancelled=True)

    assert written == (Ended(Status.CANCELLED, reason="why"),)


def test_a_back_off_ends_with_the_turn_s_time() -> None:
    run = run_after([CREATED, TurnBegan(1, deadline=1030.0)])

    assert decisions.raised(run, ERROR, 1090.0, NOW) == (AttemptFailed(ERROR, 1030.0),)
    assert decisions.raised(run, ERROR, 1020.0, NOW) == (AttemptFailed(ERROR, 1020.0),)


# Whoever claims a run


@pytest.mark.parametrize(
    ("events", "entrance", "expected"),
    [
        ([], Entrance.ENTER, ["superseded", "steered 2: a"]),
        ([AttemptFailed(ERROR, 9_000.0)], Entrance.ENTER, ["superseded", "steered 2: a"]),
        ([HandedBack(0.0)], Entrance.ENTER, ["superseded", "steered 2: a"]),
        ([Parked(9_000.0)], Entrance.ENTER, ["superseded", "steered 2: a"]),
        ([Parked(None, watches_cancel=True)], Entrance.ENTER, ["AttemptBegan"]),
    ],
    ids=["orphan", "back-off", "handed back", "parked", "parked with ctx.cancel"],
)
def test_a_turn_that_nobody_runs_is_not_entered_to_be_interrupted(
    events: list[Event], entrance: Entrance, expected: list[str]
) -> None:
    run = given_to(after(*events), ("a", "interrupt"))

    entering = decisions.enter(run, NOW)

    assert (entering.entrance, said(entering.events)) == (entrance, expected)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [AttemptFailed(ERROR, 9_000.0)],
        [HandedBack(0.0)],
        [Parked(9_000.0)],
    ],
    ids=["orphan", "back-off", "handed back", "parked"],
)
def test_a_turn_past_its_time_is_ended_by_whoever_claims_it(events: list[Event]) -> None:
    run = run_after([CREATED, TurnBegan(1, deadline=1000.0), *events])

    entering = decisions.enter(run, NOW)

    assert (entering.entrance, said(entering.events)) == (Entrance.END, ["end timed_out"])


def test_a_turn_past_its_time_is_entered_where_it_waits_for_that() -> None:
    parked = Parked(None, watches_cancel=True)
    run = run_after([CREATED, TurnBegan(1, deadline=1000.0), parked])

    assert decisions.enter(run, Terms(999.0)).entrance is Entrance.PUT_BACK
    assert decisions.enter(run, NOW).entrance is Entrance.ENTER


def test_an_interrupting_input_overtakes_one_that_has_not_begun() -> None:
    run = given_to(run_after(STATES["pending"]), ("a", "interrupt"))

    entering = decisions.enter(run, NOW)

    assert said(entering.events) == ["steered 1: a past i-1"]


def test_a_run_between_turns_is_entered_with_the_next_input() -> None:
    suspended = run_after(STATES["suspended"])

    assert decisions.enter(suspended, NOW).entrance is Entrance.PUT_BACK
    entering = decisions.enter(given_to(suspended, ("a", "queue")), NOW)

    assert said(entering.events) == ["resumed 2: a"]


def test_a_delayed_run_is_not_begun_by_a_second_input() -> None:
    run = given_to(run_after([CREATED._replace(due=9_000.0)]), ("a", "queue"))

    assert decisions.enter(run, NOW).entrance is Entrance.PUT_BACK


def test_what_is_parked_ends_with_the_turn_s_time() -> None:
    run = run_after([CREATED, TurnBegan(1, deadline=1030.0)])

    assert decisions.park(run, Parked(None), NOW) == (Parked(1030.0),)
    assert decisions.park(run, Parked(1090.0), NOW) == (Parked(1030.0),)
    assert decisions.park(run, Parked(1010.0), NOW) == (Parked(1010.0),)


def test_an_input_that_came_while_the_handler_unwound_is_taken_up() -> None:
    run = given_to(after(), ("a", "interrupt"))

    assert said(decisions.park(run, Parked(None), NOW)) == ["superseded", "steered 2: a"]
    watching = Parked(None, watches_cancel=True)
    assert decisions.park(run, watching, NOW) == (watching._replace(due=1000.0),)


# Taking an input back


def test_an_input_that_waits_can_be_taken_back() -> None:
    run = given_to(after(), ("a", "queue"))

    assert decisions.withdraw(run, "a", is_held=False) == Withdrawn("a")
    run.evolve(Withdrawn("a"), 1.0)
    assert decisions.withdraw(run, "a", is_held=False) is None
    assert said(decisions.returned(run, 7, NOW)) == ["end completed"]


def test_an_input_that_was_taken_up_cannot_be_taken_back() -> None:
    assert decisions.withdraw(after(), "i-1", is_held=False) is None


def test_a_run_whose_only_input_is_taken_back_is_cancelled() -> None:
    run = run_after(STATES["pending"])

    assert decisions.withdraw(run, "i-1", is_held=False) == Ended(
        Status.CANCELLED, reason="its only input was withdrawn"
    )


def test_a_run_whose_inputs_were_all_taken_back_at_once_is_cancelled() -> None:
    run = given_to(run_after(STATES["pending"]), ("a", "queue"))
    for id in ("i-1", "a"):
        run.evolve(Withdrawn(id), 1.0)

    assert said(decisions.enter(run, NOW).events) == ["end cancelled"]


def test_an_input_that_the_handler_takes_is_no_turn_of_its_own() -> None:
    run = given_to(after(), ("a", "inject"))
    run.evolve(InputTaken("a", 1, 1, 0), 1.0)

    assert run.taken == {1: Input("a", "inject", 0, "input a")}
    assert said(decisions.returned(run, 7, NOW)) == ["end completed"]
    with pytest.raises(NotAllowed, match="no input 'a'"):
        run.evolve(InputTaken("a", 1, 2, 0), 1.0)


# Opening a run again


@pytest.mark.parametrize(
    "end",
    [
        Ended(Status.FAILED, error=ERROR),
        Ended(Status.TIMED_OUT),
        Ended(Status.CANCELLED),
        Aborted(),
    ],
)
def test_a_run_that_did_not_complete_can_be_opened_again(end: Event) -> None:
    run = run_after(
        [
            CREATED,
            TurnBegan(1, deadline=10.0),
            Checkpointed("step", "a", 1, 0, 7),
            Checkpointed("step", "b", 1, 1, error=ERROR, always=False),
            AttemptFailed(ERROR, 1.0),
            AttemptBegan(died=False),
            CancelRequested(),
            end,
        ]
    )

    retried = decisions.retry(run, 50.0)
    assert retried == Retried(50.0)
    run.evolve(retried, 50.0)

    assert (run.status, run.due, run.attempt, run.cancel) == (Status.PENDING, 50.0, 0, None)
    assert list(run.checkpoints) == [Slot("step", "a")]
    entering = decisions.enter(run, LATER)
    assert entering.events == (AttemptBegan(died=False, deadline=1060.0),)
    written_to(run, entering.events)
    assert (run.is_recovered, run.recoveries, run.turn) == (False, 0, 1)


@pytest.mark.parametrize("state", [*OPEN, "completed"])
def test_a_run_that_works_or_has_a_result_is_not_opened_again(state: str) -> None:
    assert decisions.retry(run_after(STATES[state]), 50.0) is None


def test_a_suspended_run_that_was_cancelled_is_suspended_again() -> None:
    run = run_after([*STATES["suspended"], Ended(Status.CANCELLED), Retried(50.0)])

    assert run.status is Status.SUSPENDED
    assert decisions.enter(run, NOW).entrance is Entrance.PUT_BACK


def test_inputs_that_waited_when_the_run_ended_are_taken_up_again() -> None:
    run = given_to(after(), ("a", "queue"))
    written_to(run, [Ended(Status.FAILED, error=ERROR), Retried(50.0), AttemptBegan(died=False)])

    assert said(decisions.returned(run, 7, NOW)) == ["completed with 7", "steered 2: a"]


def test_an_outcome_that_nobody_knew_is_what_somebody_says() -> None:
    run = after(StepBegan("pay", 1, "d"), Aborted())

    run.evolve(Resolved("pay", 1, value="paid"), 50.0)

    assert run.checkpoints[Slot("step", "pay")].event.value == "paid"
    assert not run.unknown


def test_an_outcome_that_is_known_is_not_told_again() -> None:
    run = after(Checkpointed("step", "pay", 1, 0, "paid"), Aborted())

    with pytest.raises(NotAllowed, match="is known"):
        run.evolve(Resolved("pay", 1, value="not paid"), 50.0)


# Snapshots


def test_a_snapshot_keeps_what_no_turn_has_taken() -> None:
    run = given_to(after(Signalled("go", 1), Signalled("go", 2)), ("a", "queue"), ("b", "inject"))
    run.evolve(TurnEnded("completed"), 1.0)

    again = fold(entries_of([snapshot(run)]))

    assert again.signals == {"go": deque([1, 2])}
    assert [(input.id, input.steering) for input in again.inputs] == [
        ("a", "queue"),
        ("b", "inject"),
    ]
    assert (again.input and again.input.id, again.last_input_id, again.turn) == ("i-1", "b", 1)
    assert not any(input.is_loaded for input in again.inputs)


@st.composite
def completed_turns(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[Event]:
    """Give histories of runs that nobody stopped and that are between two turns."""
    run, history = Run(), list[Event]()
    for event in [*draw(histories()), TurnEnded("completed")]:
        with suppress(NotAllowed):
            if not isinstance(event, Ended | Aborted | CancelRequested):
                run.evolve(event, 50.0)
                history.append(event)
    return history


@given(completed_turns())
def test_from_the_newest_snapshot_on_a_run_is_as_from_its_beginning(history: list[Event]) -> None:
    whole = fold(entries_of(history))
    entries = entries_of([*history, snapshot(whole)])
    begun = turns.begin_next(given_to(run_after(history), ("late", "queue")), LATER)
    tail: list[Event] = [
        InputGiven("late", 1),
        *(event for event in begun if isinstance(event, TurnBegan)),
        Signalled("go", 3),
        Checkpointed("step", "a", 1, 0, 7),
    ]
    rest = [
        entry
        for number, entry in enumerate(entries_of([*history, snapshot(whole), *tail]))
        if number >= len(entries)
    ]

    full, short = fold([*entries, *rest]), fold([entries[-1], *rest])

    assert short.moving_card() == full.moving_card()
    assert without_values(short) == without_values(full)


def without_values(run: Run) -> dict[str, Any]:
    """Return what must be the same: all but the values of inputs, which are read where needed."""

    def named(input: Input | None) -> Any:
        return input and (input.id, input.steering, input.revision)

    state = {name: getattr(run, name) for name in Run.__slots__}
    return {
        **state,
        "due": None,  # of a run at work it says nothing
        "created": run.start._replace(input=None),
        "inputs": [named(input) for input in run.inputs],
        "input": named(run.input),
        "previous": named(run.previous),
    }
