"""What became of an input, as its run's entries tell it."""

from __future__ import annotations

import pytest

from outlast.model.events import (
    Aborted,
    Ended,
    Event,
    InputTaken,
    Retried,
    Status,
    TurnBegan,
    TurnEnded,
    Withdrawn,
)
from outlast.model.story import Outcome, Story
from tests.model.test_run import ERROR

COMPLETED = Ended(Status.COMPLETED, 7)
FAILED = Ended(Status.FAILED, error=ERROR)
SUPERSEDED = TurnEnded("superseded", 5)
WITHDRAWN = Ended(Status.CANCELLED, reason="the input was withdrawn")
TOO_LATE = Ended(Status.CANCELLED, reason="the run completed before this input could be taken up")


def story_of(*events: Event) -> Story:
    story = Story("me")
    for event in events:
        story.follow(event)
    return story


@pytest.mark.parametrize(
    ("events", "turn", "outcome"),
    [
        ([], 0, None),
        ([TurnBegan(1, "me")], 1, None),
        ([TurnBegan(1, "me"), COMPLETED], 1, COMPLETED),
        ([TurnBegan(1, "me"), SUPERSEDED, TurnBegan(2, "other")], 1, SUPERSEDED),
        ([TurnBegan(1, "me"), TurnEnded("suspended", 3)], 1, TurnEnded("suspended", 3)),
        ([TurnBegan(1, "me"), TurnEnded("failed"), TurnBegan(2, "o")], 1, TurnEnded("failed")),
        ([TurnBegan(1, "other"), TurnEnded("completed")], 0, None),
        ([TurnBegan(1, "other"), SUPERSEDED, TurnBegan(2, "me"), COMPLETED], 2, COMPLETED),
        (
            [
                InputTaken("me", 1, 1, 0),
                TurnEnded("continued"),
                TurnBegan(2, "other", "continued"),
                TurnEnded("suspended", 3),
                TurnBegan(3, "third"),
                COMPLETED,
            ],
            2,
            TurnEnded("suspended", 3),
        ),
        ([TurnEnded("continued"), TurnBegan(2, "other", "continued"), SUPERSEDED], 0, None),
        ([TurnBegan(2, "other", overtook=("me",))], 0, TurnEnded("superseded")),
        ([TurnBegan(2, "other", overtook=("a",))], 0, None),
        ([Withdrawn("other")], 0, None),
        ([Withdrawn("me"), COMPLETED], 0, WITHDRAWN),
        ([TurnBegan(1, "me"), Withdrawn("me"), COMPLETED], 1, COMPLETED),
        ([TurnBegan(1, "other"), COMPLETED], 0, TOO_LATE),
        ([TurnBegan(1, "other"), FAILED], 0, FAILED),
        ([TurnBegan(1, "other"), Aborted("why")], 0, Aborted("why")),
        ([TurnBegan(1, "other"), InputTaken("me", 1, 1), COMPLETED], 1, COMPLETED),
        (
            [TurnBegan(1, "other"), InputTaken("me", 1, 1), TurnEnded("suspended")],
            1,
            TurnEnded("suspended"),
        ),
        (
            [
                TurnBegan(1, "me"),
                TurnEnded("continued"),
                TurnBegan(2, "me", "continued"),
                COMPLETED,
            ],
            2,
            COMPLETED,
        ),
        ([TurnBegan(1, "me"), FAILED, Retried(0.0)], 1, None),
        ([TurnBegan(1, "me"), FAILED, Retried(0.0), COMPLETED], 1, COMPLETED),
        ([TurnBegan(1, "me"), SUPERSEDED, TurnBegan(2, "o"), FAILED, Retried(0.0)], 1, SUPERSEDED),
        ([Withdrawn("me"), FAILED, Retried(0.0)], 0, WITHDRAWN),
    ],
)
def test_an_input_has_one_outcome(events: list[Event], turn: int, outcome: Outcome | None) -> None:
    story = story_of(*events)

    assert (story.turn, story.outcome) == (turn, outcome)
    assert story.is_queued is (not turn and outcome is None)
