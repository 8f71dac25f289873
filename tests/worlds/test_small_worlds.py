"""The rules in every order of events of small worlds, with one fault anywhere; `make soak`: two.

The summary says how many states each world has. When one breaks, it says the shortest way there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import pytest

from tests.conftest import FIGURE
from tests.worlds.checker import explore
from tests.worlds.world import World
from tests.worlds.worlds import WORLDS

IS_SOAK: Final = bool(os.environ.get("OUTLAST_SOAK"))
FAULTS: Final = 2 if IS_SOAK else 1
MOST_STATES: Final = 5_000_000 if IS_SOAK else 150_000
"""The largest world has a hundred thousand; one that a defect makes endless ends here."""


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("name", WORLDS)
def test_a_small_world_holds(name: str, record_property: Callable[[str, object], None]) -> None:
    setting = WORLDS[name]
    world = World(setting, FAULTS)

    outcome = explore(world, MOST_STATES)
    record_property(FIGURE, f"small world, {name}: {outcome}")

    assert outcome.wrong is None, str(outcome)
    assert setting.sees <= world.seen, f"it never saw {sorted(setting.sees - world.seen)}"


@pytest.mark.parametrize("name", WORLDS)
def test_a_small_world_without_faults_holds(name: str) -> None:
    outcome = explore(World(WORLDS[name], 0), MOST_STATES)

    assert outcome.wrong is None, str(outcome)
