"""Who wants to know that a journal may have changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager

from outlast.store import Hint, Listener, Store


class Hints:
    """Passes a store's hints on to those who wait for one journal, or for any."""

    close: Callable[[], None]

    def __init__(self, store: Store) -> None:
        self._by_key: dict[str, dict[object, Listener]] = defaultdict(dict)
        self._for_all: dict[object, Listener] = {}
        self.close = store.watch(self._pass_on)

    def _pass_on(self, hint: Hint) -> None:
        for listener in list(self._for_all.values()):
            listener(hint)
        if hint.key is not None and hint.key not in self._by_key:
            return
        for key in [hint.key] if hint.key is not None else list(self._by_key):
            for listener in list(self._by_key.get(key, {}).values()):
                listener(hint)

    def listen(self, key: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` when this journal may have changed; return what ends that."""
        mark = object()
        self._by_key[key][mark] = listener

        def stop() -> None:
            listeners = self._by_key[key]
            del listeners[mark]
            if not listeners:
                del self._by_key[key]

        return stop

    @contextmanager
    def listening(self, key: str, listener: Listener) -> Generator[None]:
        """Call `listener` when this journal may have changed."""
        stop = self.listen(key, listener)
        try:
            yield
        finally:
            stop()

    @contextmanager
    def changes(self, key: str) -> Generator[asyncio.Event]:
        """Give an event that is set when this journal may have changed; clear it, then look."""
        event = asyncio.Event()
        with self.listening(key, lambda _: event.set()):
            yield event

    def listen_to_all(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every hint; return what ends that."""
        mark = object()
        self._for_all[mark] = listener
        return lambda: self._for_all.pop(mark, None) and None
