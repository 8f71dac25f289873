"""Whose call it is, for those who answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from outlast.store import Clock


class Scope(Protocol):
    """A store as the threads see it that work for it."""

    @property
    def namespace(self) -> int:
        """Return the number of the namespace that it sees."""
        ...

    @property
    def clock(self) -> Clock:
        """Return the clock that it goes by."""
        ...

    def announce(self, owner: str) -> None:
        """Have a sign that the owner lives, before its first lease is written."""
        ...
