"""How often a run may fail, and its processes may die, before it is over.

The one rule that must not be broken: what was used up is counted from what is written, and never
taken from those who count for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from outlast.testing.simulation.account import RunAccount


@dataclass(frozen=True, slots=True)
class Budget:
    """What a task was declared with.

    Attributes:
        attempts: how often a run of it is tried in all.
        deaths: at how many in a row, without an outcome between them, it fails.
    """

    attempts: int = 1
    deaths: int = 20

    def overdrawn(self, run: RunAccount) -> str | None:
        """Say why a run should have ended before, or should not have failed yet."""
        if run.failures >= self.attempts:
            return f"{run.failures} attempts have failed, and it goes on; it had {self.attempts}"
        if run.deaths >= self.deaths:
            return f"its process died {run.deaths} times, and it goes on; it had {self.deaths}"
        # What raises after a cancel is not tried again.
        if run.end is None or run.end[1].get("status") != "failed" or run.cancelled:
            return None
        if run.end[1]["error"]["type"] == "ProcessDied":
            used, budget = run.deaths + 1, self.deaths
        else:
            used, budget = run.failures + 1, self.attempts
        return None if used == budget else f"it failed at {used} of {budget}: {run.end[1]}"
