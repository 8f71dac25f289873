"""Waiting for what others write, in a store that may be past writing.

A file that is damaged may still be read, and then looks as if nothing happened. The one rule that
must not be broken: nobody waits for ever for what cannot come.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from outlast.errors import Unavailable

if TYPE_CHECKING:
    from outlast.engine.clock import System
    from outlast.store import Store

LOOKS_AGAIN: Final = 1.0
"""Seconds after which whoever waits for a run looks at it without a hint."""

MAKES_SURE: Final = 5.0
"""Seconds after which whoever waits makes sure that there can still be news."""


class News:
    """What somebody waits for, from one look to the next."""

    def __init__(self, store: Store, system: System) -> None:
        self._store, self._system = store, system
        self._makes_sure_at = system.monotonic() + MAKES_SURE

    async def wait(self, hint: asyncio.Event) -> None:
        """Return when it is time for a look: there was a hint, or none for long enough.

        Raises:
            Unavailable: nothing is written to the store any more.
        """
        await self._system.wait(hint, LOOKS_AGAIN * self._system.looks_rarer_by)
        now = self._system.monotonic()
        if now < self._makes_sure_at:
            return
        self._makes_sure_at = now + MAKES_SURE
        try:
            await self._store.renew([], 0.0)  # a write of nothing
        except Unavailable as error:
            if error.is_final:  # any other goes by
                raise
