"""Every store answers as the reference does, call by call, until every outcome was seen.

A failure names its seed and the calls up to the one that went wrong. To see it again alone, and to
make it smaller by leaving calls out, play that seed: `OUTLAST_SEED=17`.
"""

import os
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest

from outlast.store import Store
from outlast.stores.memory import MemoryStore
from outlast.testing import FakeClock
from outlast.testing.differential import OUTCOMES, play

SOAK = 10 if os.environ.get("OUTLAST_SOAK") else 1

SEEDS = 30 * SOAK
"""At least so many are played."""

ENOUGH = 2 * SOAK
"""So often each outcome must have been seen."""

MOST_SEEDS = 400 * SOAK
"""What was not seen by then is not drawn any more."""


@pytest.mark.slow
@pytest.mark.soak
async def test_every_store_answers_as_the_reference_does(
    new_store: Callable[[FakeClock], Store],
) -> None:
    seen: Counter[str] = Counter()
    alone = os.environ.get("OUTLAST_SEED")

    for seed in [int(alone)] if alone else count():
        clock = FakeClock()
        async with MemoryStore(clock) as reference, new_store(clock) as store:
            await play(seed, reference, store, clock, seen)
        rare = [outcome for outcome in OUTCOMES if seen[outcome] < ENOUGH]
        if seed + 1 >= SEEDS and not rare:
            break
        assert alone or seed + 1 < MOST_SEEDS, f"seen less than {ENOUGH} times: {rare}"

    assert seen.keys() <= set(OUTCOMES), "an outcome without a name is not waited for"
