"""What a handler does about turns: it takes an input that came meanwhile, or leaves its turn.

The one rule that must not be broken: what a replay is given is what was recorded, so an input is
taken only when the handler has been given all that is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from outlast.model import decisions

if TYPE_CHECKING:
    from outlast.codec import Json
    from outlast.engine.record import Written
    from outlast.engine.turn import Turn
    from outlast.model.run import Input, Run
    from outlast.model.terms import Terms

Leaving = Callable[["Run", "Terms"], "Sequence[Written]"]
"""What a handler decides that leaves its turn before it returns."""


class Steering:
    """The turns of one entry into a handler: the one that it is in, and the next.

    Attributes:
        asked: how often it has asked for an input.
    """

    asked: int

    def __init__(self, turn: Turn, leave: Callable[[Leaving], None]) -> None:
        """Belong to the turn; `leave` throws something into it that ends it."""
        self._turn, self._throw = turn, leave
        self.asked = 0

    async def next_input(self) -> Input | None:
        """Take the oldest input that was given while the turn runs; None where there is none."""
        turn = self._turn
        await turn.check("next_input")
        self.asked += 1
        number, run = self.asked, turn.run
        if (taken := run.taken.get(number)) is not None:
            return taken
        # Asked before something that is recorded, it gave None then.
        is_replayed = number <= max(run.asks, *run.taken, 0)
        if is_replayed or turn.order.handed < len(run.checkpoints):
            return None
        after = turn.order.asked()

        def take(run: Run) -> Sequence[Written]:
            event = decisions.injected(run, number, after)
            return () if event is None else (event,)

        if take(turn.run):
            await turn.decide(take)
        return turn.run.taken.get(number)

    async def suspend(self, output: Json, reason: str | None) -> NoReturn:
        """End the turn, and let the run rest until its next input."""
        await self._leave(
            "suspend", lambda run, terms: decisions.suspended(run, output, reason, terms)
        )

    async def continue_with(self, input: Json) -> NoReturn:
        """End the turn, and begin the next one with this input."""
        await self._leave(
            "continue_with", lambda run, terms: decisions.continued(run, input, terms)
        )

    async def exit_for_recovery(self) -> NoReturn:
        """Give the run back, for any worker to enter it again."""
        await self._leave("exit_for_recovery", decisions.left)

    async def _leave(self, call: str, leaving: Leaving) -> NoReturn:
        await self._turn.check(call)
        self._throw(leaving)
        while True:
            await self._turn.check_thrown()
