"""Who acts in a small world, and where they stand; who stands alike has one number."""

from __future__ import annotations

from typing import NamedTuple

from outlast.journal import Lease
from tests.worlds.asking import Actor, Broken, Done, Next, Request, Table, play
from tests.worlds.programs import FORGETFUL, PROGRAMS
from tests.worlds.workers import Handler, Holding


class Standing(NamedTuple):
    """Where an actor stands: what it asks, or what came of it, and the lease that it holds."""

    actor: Actor
    request: int
    asked: Request | Broken | None
    said: str | None
    lease: Lease | None


class Cast:
    """All who have acted so far.

    Attributes:
        standing: where they stand, by number.
        idle: the number of a worker that has nothing to do.
    """

    def __init__(self, table: Table, handler: Handler) -> None:
        self.standing: dict[int, Standing] = {}
        self._table = table
        self._settled: dict[Actor, int] = {}
        self._told: dict[tuple[int, int], int] = {}
        self.idle = self.settle(Actor("worker", "worker", 0.0, (handler,)))

    def settle(self, actor: Actor) -> int:
        """Go on until the actor asks for something, or is done; return its number."""
        found = self._settled.get(actor)
        if found is not None:
            return found
        at, answers = actor, [self._table[number] for number in actor.answers]
        while True:
            asked, wall = play(at, PROGRAMS[at.program], answers)
            if isinstance(asked, Next):
                at, answers = Actor(asked.program, at.name, wall, asked.args), []
            elif (
                at.program in FORGETFUL
                and isinstance(asked, Request)
                and asked.verb == "read"
                and answers
            ):
                at, answers = at._replace(answers=(), wall=wall), []
            else:
                break
        number = self._table.number(at)
        if number not in self.standing:
            lease = next((arg.lease for arg in at.args if isinstance(arg, Holding)), None)
            if isinstance(asked, Done):
                self.standing[number] = Standing(at, -1, None, asked.said, None)
            else:
                self.standing[number] = Standing(at, self._table.number(asked), asked, None, lease)
        self._settled[actor] = number
        return number

    def told_by(self, actor: int, answer: int) -> int:
        """Return the number of the actor once it has this answer."""
        found = self._told.get((actor, answer))
        if found is None:
            at = self.standing[actor].actor
            found = self.settle(at._replace(answers=(*at.answers, answer)))
            self._told[actor, answer] = found
        return found

    def dead(self, standing: Standing) -> int:
        """Return what is left of a process that died: another worker, or what it has said."""
        if standing.actor.name == "worker":
            return self.idle
        holdings = (arg for arg in standing.actor.args if isinstance(arg, Holding))
        said = next((holding.said for holding in holdings), None)
        return self.over(standing, said or "crashed")

    def over(self, standing: Standing, said: str) -> int:
        """Return the number of one who has said this last."""
        at = Actor("over", standing.actor.name, 0.0, (said,))
        number = self._table.number(at)
        self.standing.setdefault(number, Standing(at, -1, None, said, None))
        return number


def may_hold(standing: Standing, lease: Lease) -> bool:
    """Say whether a living process has this lease, or has asked for it and may have got it."""
    if standing.said is not None:
        return False
    if standing.lease is not None:
        return standing.lease.fence == lease.fence
    return standing.actor.program == "starter" and lease.fence.id.startswith(standing.actor.name)
