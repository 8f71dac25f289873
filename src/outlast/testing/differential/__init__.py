"""A store against the reference: the same random calls, and the same answer to each.

`play` makes the calls of a seed; after each it compares what both say, and then all that both hold.
So the last call of a failure is the one that went wrong; the same seed makes the same calls again.

Seeds are played until every outcome of `OUTCOMES` was seen often enough: a call that never meets an
outcome does not test it.
"""

from outlast.testing.differential.outcomes import OUTCOMES
from outlast.testing.differential.playing import play

__all__ = ["OUTCOMES", "play"]
