"""Which programs there are in a small world, and what of them is real.

Clients are the engine's own: `engine.client.Client`, whose coroutines are driven here one request
at a time. Of a worker, `engine.record.Record` is the engine's own, which writes all that a holder
writes, and so is everything in `model`. What stands between them in `engine.worker`, `attempt`,
`steps` and `waits` lives in an event loop, and is said here again in short: which request follows
which, and that `Fenced` means to stop. So a world proves the rules, `Record` and `Client`; that the
engine asks in this order, under real tasks and timers, is for the simulations to prove.
"""

from __future__ import annotations

from typing import Final

from tests.worlds.asking import Program
from tests.worlds.clients import aborter, canceller, deleter, signaller, starter
from tests.worlds.workers import attempt, turn, worker

PROGRAMS: Final[dict[str, Program]] = {
    program.__name__: program
    for program in (
        *(worker, attempt, turn),
        *(starter, signaller, canceller, aborter, deleter),
    )
}

INTERRUPTIBLE: Final = ("attempt", "turn", "starter", "deleter")
"""Those that write more than once, so that a crash between two writes tells."""

FORGETFUL: Final = ("canceller", "aborter")
"""Those that begin anew each time they read: what they were told before that decides nothing."""
