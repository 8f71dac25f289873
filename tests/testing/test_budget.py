"""How often a run may fail is counted from its entries, whatever the entries themselves say."""

from __future__ import annotations

from typing import Final

import pytest

from outlast.codec import Json
from outlast.journal import Entry
from outlast.model.events import (
    AttemptBegan,
    AttemptFailed,
    CancelRequested,
    Checkpointed,
    Created,
    Ended,
    Event,
    Status,
    StepTried,
    TurnBegan,
    encode,
)
from outlast.testing.simulation.account import RunAccount
from outlast.testing.simulation.budget import Budget

ERROR: Final[Json] = {"type": "ValueError", "message": "no", "traceback": ""}
DEATH: Final[Json] = {"type": "ProcessDied", "message": "it died", "traceback": ""}
BEGUN = (Created("task", None, "input", 0.0), TurnBegan(1))
FAILED = AttemptFailed(ERROR, 1.0)
AGAIN = AttemptBegan(died=False)
DIED = AttemptBegan(died=True)
RECORDED = Checkpointed("step", "a", 1, 0)


def failed(attempts: int, error: Json = ERROR) -> Ended:
    return Ended(Status.FAILED, error=error, attempts=attempts)


def problems(*events: Event) -> list[str]:
    """Return what is wrong with entries, for a run of two attempts and two deaths in a row."""
    account, found = RunAccount(), list[str | None]()
    for revision, event in enumerate((*BEGUN, *events), 1):
        draft = encode(event)
        entry = Entry(revision, draft.type, draft.data, at=0.0, change=f"c{revision}")
        found.append(account.take(entry))
        found.append(Budget(attempts=2, deaths=2).overdrawn(account))
    return [problem for problem in found if problem]


@pytest.mark.parametrize(
    "events",
    [
        (FAILED, AGAIN, failed(2)),
        (FAILED, AGAIN, DIED, failed(2)),
        (DIED, failed(1, DEATH)),
        (DIED, RECORDED, DIED, failed(1, DEATH)),
        (DIED, FAILED, AGAIN, DIED, failed(2, DEATH)),
        (CancelRequested(), failed(1)),
        (StepTried("a", 1, 1, ERROR, 1.0), DIED, StepTried("a", 1, 2, ERROR, 2.0)),
        (StepTried("a", 1, 1, ERROR, 1.0), FAILED, AGAIN, StepTried("a", 1, 1, ERROR, 2.0)),
    ],
)
def test_a_run_may_use_up_what_it_has(events: tuple[Event, ...]) -> None:
    assert problems(*events) == []


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ((failed(1),), "it failed at 1 of 2"),
        ((DIED, failed(2)), "it failed at attempt 1, and 2 is recorded"),
        ((FAILED, DIED, failed(1)), "it failed at attempt 2, and 1 is recorded"),
        ((FAILED, AGAIN, FAILED), "2 attempts have failed, and it goes on; it had 2"),
        ((failed(1, DEATH),), "it failed at 1 of 2"),
        ((DIED, RECORDED, failed(1, DEATH)), "it failed at 1 of 2"),
        ((DIED, DIED), "its process died 2 times, and it goes on; it had 2"),
        (
            (StepTried("a", 1, 1, ERROR, 1.0), DIED, StepTried("a", 1, 1, ERROR, 2.0)),
            "was tried 2 times, and 1 is recorded",
        ),
    ],
)
def test_what_is_counted_wrong_is_said(events: tuple[Event, ...], problem: str) -> None:
    assert problem in problems(*events)[0]
