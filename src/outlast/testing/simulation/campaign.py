"""Many seeds of one kind of world, and what they came to together.

The one rule that must not be broken: a campaign in which something never happened has not shown
that it does no harm, and fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from outlast.testing.simulation.playing import play
from outlast.testing.simulation.trace import SimulationFailed
from outlast.testing.simulation.worlds import WORLDS


@dataclass(slots=True)
class Campaign:
    """What some seeds of a kind of world came to.

    Attributes:
        world: its name.
        seeds: how many were played.
        totals: how often what happened.
        failures: of the seeds in which something went wrong.
    """

    world: str
    seeds: int = 0
    totals: Counter[str] = field(default_factory=Counter[str])
    failures: list[SimulationFailed] = field(default_factory=list[SimulationFailed])

    @property
    def missing(self) -> list[str]:
        """What should have happened, and never did."""
        return [what for what in WORLDS[self.world].needs if not self.totals[what]]

    def to_json(self) -> dict[str, object]:
        """Return it as plain JSON."""
        return {
            "world": self.world,
            "seeds": self.seeds,
            "totals": dict(sorted(self.totals.items())),
            "missing": self.missing,
            "failures": [
                {
                    "seed": failure.seed,
                    "what": failure.what,
                    "again": command(self.world, failure.seed),
                }
                for failure in self.failures
            ],
        }


def run_campaign(world: str, seeds: Iterable[int], *, enough: int = 3) -> Campaign:
    """Play these seeds of a world, until something has gone wrong in `enough` of them."""
    campaign = Campaign(world)
    for seed in seeds:
        if len(campaign.failures) >= enough:
            break
        campaign.seeds += 1
        try:
            played = play(WORLDS[world], seed)
        except SimulationFailed as failure:
            campaign.failures.append(failure)
        else:
            campaign.totals.update(played.totals)
    return campaign


def command(world: str, seed: int) -> str:
    """Return what plays this seed again."""
    return f"python -m outlast.testing.simulation --world {world} --seeds {seed}:{seed + 1}"
