"""What whoever decides on a run knows beside the run itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from outlast.model.events import Decision, TakenBack

Written = Decision | TakenBack
"""What a decision writes."""

MAX_RECOVERIES: Final = 20
"""At how many deaths in a row, without a new checkpoint, a run fails."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The time, the settings of the task, and where the run's stream is.

    Attributes:
        now: in seconds since 1970.
        timeout: seconds that a turn may take.
        streamed: the offset of the newest item that the run emitted.
        on_turn_error: what a turn that fails does to the run.
    """

    now: float
    timeout: float | None = None
    streamed: int = 0
    max_recoveries: int = MAX_RECOVERIES
    on_turn_error: Literal["fail", "suspend"] = "fail"

    @property
    def deadline(self) -> float | None:
        """When a turn that begins now times out."""
        return None if self.timeout is None else self.now + self.timeout
