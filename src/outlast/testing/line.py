"""The line from an app in a test to its store: it is seen what is under way, and it can be cut.

The one rule that must not be broken: what is said over a line that was cut never arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from outlast.errors import Unavailable
from outlast.store import Claimed, Clock, Hint, Listener, Store
from outlast.testing.wrapping import Verb, WrappedStore

T = TypeVar("T")

_LEAST = 1e-6
"""Seconds that the clock is moved at least: less may be lost where it is rounded."""


class Line(WrappedStore):
    """A store, as one app or one worker in a test sees it.

    Attributes:
        next_due: when there may be more to claim, in seconds since 1970, as far as is known.
    """

    next_due: float | None

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__(store)
        self.next_due = None
        self._clock = clock
        self._asked = 0  # requests that were not answered yet
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._listeners: dict[Listener, Callable[[], None]] = {}
        self._cut: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        await self._under_way(super().__aenter__())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._under_way(super().__aexit__(kind, error, trace))

    async def _ask(self, verb: Verb, about: Any, request: Callable[[Store], Awaitable[T]]) -> T:
        if self._cut is not None:
            await asyncio.shield(self._cut)
            raise Unavailable("the worker that asks was killed")
        answer = await self._under_way(super()._ask(verb, about, request))
        if isinstance(answer, Claimed):
            wait = answer.next_in
            self.next_due = self._clock.wall() + max(wait, _LEAST) if wait else None
        return answer

    async def _under_way(self, call: Awaitable[T]) -> T:
        self._asked += 1
        self._is_idle.clear()
        try:
            return await call
        finally:
            self._asked -= 1
            if not self._asked:
                self._is_idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked of the store just now."""
        return self._is_idle.is_set()

    async def wait_until_idle(self) -> None:
        """Wait until the store has answered everything."""
        await self._is_idle.wait()

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call back when a journal may have changed; see `Store`."""
        unwatch = self._listeners[listener] = super().watch(listener)
        return unwatch

    def hint(self) -> None:
        """Have everybody look again: any journal may have changed."""
        for listener in list(self._listeners):
            listener(Hint(None))

    def cut(self) -> None:
        """Let nothing more arrive on either side; what is asked from now on gets no answer."""
        self._cut = asyncio.get_running_loop().create_future()
        for unwatch in self._listeners.values():
            unwatch()

    def hang_up(self) -> None:
        """Tell whoever waits at a line that was cut that there will be no answer."""
        assert self._cut is not None
        self._cut.set_result(None)
