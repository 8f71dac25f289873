"""Who wants to hear of changes, and what they are told.

The one rule that must not be broken: a hint is told after the change is durable, never before.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from outlast.store import Hint, Listener
    from outlast.stores.sqlite.calls import Mail


class Hints:
    """The listeners of a process to one file, and what the process wrote to it by itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[object, tuple[int, asyncio.AbstractEventLoop, Listener]] = {}
        self.writing: threading.Lock = threading.Lock()
        """Held while something is written and noted here: who sees it knows whose it is."""
        self._own: list[tuple[int, int]] = []
        self.own_alarms: int = 0

    def listen(
        self, namespace: int, loop: asyncio.AbstractEventLoop, listener: Listener
    ) -> Callable[[], None]:
        """Call the listener in the loop with hints of the namespace; return what ends that."""
        mark = object()

        def tell(hint: Hint) -> None:
            if (
                mark in self._listeners
            ):  # it may have stopped listening while the hint was on its way
                listener(hint)

        def stop() -> None:
            with self._lock:
                self._listeners.pop(mark, None)

        with self._lock:
            self._listeners[mark] = namespace, loop, tell
        return stop

    def namespaces(self) -> set[int]:
        """Return those that somebody listens to."""
        with self._lock:
            return {namespace for namespace, _, _ in self._listeners.values()}

    def tell(self, hints: Iterable[tuple[int, Hint]], mail: Mail) -> None:
        """Put the hints, each with its namespace, into the mail to those who listen."""
        if not self._listeners:
            return
        with self._lock:
            listeners = list(self._listeners.values())
        for namespace, hint in hints:
            for wanted, loop, listener in listeners:
                if wanted == namespace:
                    mail.add(loop, partial(listener, hint))

    # What this process wrote is told at once, and not once more when the watcher finds it.

    def wrote(self, low: int, high: int, alarms: int) -> None:
        """Note that this process wrote what counts from `low` + 1 to `high`, and so many alarms."""
        with self._lock:
            if low < high:
                if self._own and self._own[-1][1] == low:
                    low = self._own.pop()[0]
                self._own.append((low, high))
            self.own_alarms += alarms

    def is_own(self, updated: int) -> bool:
        """Say whether this process wrote it."""
        return self.are_own(updated - 1, updated)

    def are_own(self, low: int, high: int) -> bool:
        """Say whether this process wrote all that counts from `low` + 1 to `high`."""
        with self._lock:
            return low == high or any(first <= low and high <= last for first, last in self._own)

    def forget(self, upto: int) -> None:
        """Forget what this process wrote up to that count."""
        with self._lock:
            self._own = [(low, high) for low, high in self._own if high > upto]
