"""Simulated worlds of every kind, many seeds of each: all promises hold, and everything happened.

A failure names its seed and the command that plays it again. `SEEDS` of each world in `make test`;
in `make soak` so many more that they are 10,000 together. A campaign is cut in parts for xdist, and
each part asks for what its seeds must have seen.
"""

import os

import pytest

from outlast.testing.simulation.campaign import Campaign, command, run_campaign
from outlast.testing.simulation.trace import SimulationFailed
from outlast.testing.simulation.worlds import WORLDS

PART = 50
"""Seeds of one test."""

SEEDS = 1_450 if os.environ.get("OUTLAST_SOAK") else 50

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
@pytest.mark.parametrize("world", WORLDS)
def test_a_world_keeps_every_promise(world: str, first: int) -> None:
    campaign = run_campaign(world, range(first, first + PART))

    print(campaign.to_json())  # noqa: T201 - how often what happened
    assert not campaign.failures, explained(campaign)
    assert not campaign.missing, f"never happened in {PART} seeds: {campaign.missing}"


def explained(campaign: Campaign) -> str:
    seeds = [failure.seed for failure in campaign.failures]
    first = campaign.failures[0]
    return (
        f"seeds {seeds} of {campaign.seeds} failed; {command(campaign.world, first.seed)}\n{first}"
    )


def test_what_never_happened_fails_a_campaign() -> None:
    campaign = Campaign("steps")
    assert "kills" in campaign.missing
    assert "jumps" in Campaign("waits").missing

    campaign.totals.update(dict.fromkeys(campaign.missing, 1))
    assert campaign.missing == []
    del campaign.totals["retractions"]

    assert campaign.missing == ["retractions"]


def test_a_failure_says_how_to_see_it_again() -> None:
    campaign = Campaign("steps", failures=[SimulationFailed("a step ran twice", 7, [])])

    again = "python -m outlast.testing.simulation --world steps --seeds 7:8"
    assert again in explained(campaign)
    assert again in str(campaign.to_json())
