"""The worlds that outlast itself is held against: a few lines each, and a seed.

Each has at least three workers, three clients and eight runs, with steps, retries, items, signals
and waits; a world says of what there is more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from outlast import Task
from outlast.testing.simulation.simulation import NEARBY
from outlast.testing.simulation.trouble import BLOWS, NETWORK, Trouble
from outlast.testing.simulation.workload import (
    Story,
    crowd,
    falter,
    linger,
    nap,
    obey,
    pay,
    talk,
    tell,
    work,
)

NEEDED: Final = (
    "kills",
    "freezes",
    "blocks",
    "shutdowns",
    "lost requests",
    "lost replies",
    "late requests",
    "pauses",
    "lost hints",
    "late hints",
    "repeated hints",
    "runs",
    "checkpoints",
    "retries",
    "items",
    "signals",
    "takeovers",
    "parks",
    "retractions",
    "conflicts",
    "fenced",
    "repetitions",
)
"""What must have happened in a campaign of a world in which there is trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A kind of world.

    Attributes:
        about: what there is much of.
        mix: how likely a run is of each task; two of each world work, and two talk, anyway.
        stopped: the share of the runs that somebody stops.
        deleted: the share of the runs that are deleted, and most of whose ids are used again.
        trouble: what befalls its processes.
        needs: what must have happened in a campaign.
        forbids: what must not happen in any of its worlds.
    """

    about: str
    mix: Mapping[Task[int, Story], float]
    stopped: float = 0.0
    deleted: float = 0.0
    trouble: Trouble = field(default_factory=Trouble)
    needs: Sequence[str] = NEEDED
    forbids: Sequence[str] = ()


WORLDS: Final[Mapping[str, World]] = {
    "steps": World(
        about="steps, retries, and steps that may run once",
        mix={work: 1, pay: 2, falter: 2},
        needs=(*NEEDED, "at-most-once steps", "failures"),
    ),
    "waits": World(
        about="signals, timeouts and sleeps, while people set the clock",
        mix={talk: 2, nap: 3},
        trouble=Trouble(blows={**BLOWS, "jump": 3}),
        needs=(*NEEDED, "jumps"),
    ),
    "streams": World(about="items in and outside of steps", mix={tell: 1}),
    "groups": World(about="task groups, and who is first", mix={crowd: 1}),
    "stops": World(
        about="cancels and aborts",
        mix={obey: 4, linger: 1, crowd: 1, work: 1, tell: 1, nap: 1},
        stopped=0.8,
        needs=(*NEEDED, "cancels", "aborts"),
    ),
    "deletions": World(
        about="runs that are deleted, and made again under their ids",
        mix={work: 1, talk: 1, pay: 1},
        stopped=0.3,
        deleted=0.7,
        # What was said to a run may arrive when another one has its id.
        trouble=Trouble(odds=replace(NETWORK, late_request=0.08, late_by=(3.5, 30.0))),
        needs=(*NEEDED, "deletions"),
    ),
    "calm": World(
        about="a good network, and processes that are only blocked, or asked to end",
        mix={work: 1, nap: 1, tell: 1, crowd: 1, pay: 1},
        trouble=Trouble(odds=NEARBY, blows={"block": 2, "shutdown": 1}),
        needs=("blocks", "shutdowns", "runs", "checkpoints", "items", "signals", "parks"),
        forbids=("takeovers", "fenced"),
    ),
}
