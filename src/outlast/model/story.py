"""What became of one input, told by the few entries of its run that matter for that.

The one rule that must not be broken: whoever reads the same entries, early or late and in whatever
process, learns of the same outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from outlast.model.events import (
    TYPE_OF,
    Aborted,
    Ended,
    Event,
    InputTaken,
    Retried,
    Status,
    StreamEvent,
    TurnBegan,
    TurnEnded,
    Withdrawn,
)

Outcome = TurnEnded | Ended | Aborted
"""How it went for whoever gave an input: what its turn, or its run, ended with."""

STORY_TYPES: Final = tuple(
    TYPE_OF[event]
    for event in (TurnBegan, TurnEnded, InputTaken, Withdrawn, Ended, Aborted, Retried)
)
"""The entries that tell what became of inputs."""

_OVERTAKEN: Final = TurnEnded("superseded")
_WITHDRAWN: Final = Ended(Status.CANCELLED, reason="the input was withdrawn")
_TOO_LATE: Final = Ended(
    Status.CANCELLED, reason="the run completed before this input could be taken up"
)


@dataclass(slots=True)
class Story:
    """The story of one input, from the entry that gave it on.

    Attributes:
        revision: up to which the story was followed.
        turn: the one that took it up; 0 while none has.
        newest: the turn that began last.
        outcome: None while it has none; it was written at the revision `ended_at`.
    """

    input_id: str
    revision: int = 0
    turn: int = 0
    newest: int = 0
    outcome: Outcome | None = None
    ended_at: int = 0

    @property
    def is_withdrawn(self) -> bool:
        """Whether it was taken back before a turn took it up."""
        return self.outcome is _WITHDRAWN

    @property
    def is_queued(self) -> bool:
        """Whether it waits for a turn."""
        return self.turn == 0 and self.outcome is None

    def follow(self, event: Event | StreamEvent, revision: int = 0) -> None:
        """Take into account what was written next, at that revision."""
        before = self.outcome
        self._take(event)
        if self.outcome is not before:
            self.ended_at = 0 if self.outcome is None else revision

    def _take(self, event: Event | StreamEvent) -> None:  # noqa: C901, PLR0912 - one rule a case
        match event:
            case Retried():
                if isinstance(self.outcome, Ended | Aborted) and self.outcome is not _WITHDRAWN:
                    self.outcome = None
            case _ if self.outcome is not None:
                pass  # what comes later concerns others
            case TurnBegan(turn, id, mode, overtook):
                self.newest = turn
                # What a turn goes on with is for all whom it answers: it may have taken more inputs
                # than its own. And the run's first turn is its first input's.
                goes_on = mode == "continued" and self.turn == turn - 1
                if goes_on or id in (self.input_id, ""):
                    self.turn = turn
                elif self.input_id in overtook:
                    self.outcome = _OVERTAKEN
            case InputTaken(id, turn) if id == self.input_id:
                self.turn = self.newest = turn  # it may be the first that is known of it
            case Withdrawn(id) if id == self.input_id and not self.turn:
                self.outcome = _WITHDRAWN
            case TurnEnded(how):
                if self.turn == self.newest and self.turn and how != "continued":
                    self.outcome = event
            case Ended(Status.COMPLETED) if not self.turn:
                self.outcome = _TOO_LATE
            case Ended() | Aborted():
                self.outcome = event
            case _:
                pass
