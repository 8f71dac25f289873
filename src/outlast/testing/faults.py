"""A store on a bad network: what is asked of it may be lost, late, or never answered.

`FaultyStore` wraps any store. An object that you give says what becomes of each request: faults
drawn from a seed (`DrawnFaults`), or those of a case that you have in mind (`ScriptedFaults`). The
one rule that must not be broken: nothing happens to a request that a store may not do to it. So a
request is written late, or not at all, only if its caller was told `Unavailable`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from outlast.engine.clock import System
from outlast.errors import OutlastError, StoreError, Unavailable
from outlast.store import Hint, Listener, Store
from outlast.testing.wrapping import Verb, WrappedStore

T = TypeVar("T")

Fault = Literal[
    "lost request",
    "lost reply",
    "late request",
    "delay",
    "pause",
    "lost hint",
    "late hint",
    "repeated hint",
]
"""What a `FaultyStore` counts.

What is late comes after the store's `patience` is over: the caller of a `late request` was told
`Unavailable`. What comes in time is only a `delay`.
"""

PATIENCE: Final = 5.0
"""Seconds for which the caller of a `FaultyStore` waits for an answer."""


class Fate(NamedTuple):
    """What becomes of one request.

    Attributes:
        there: seconds until it arrives; None: it never does.
        back: seconds until its answer arrives; None: it never does.
        pause: from its arrival on, the server answers nobody for so many seconds, this request
            included.
    """

    there: float | None = 0.0
    back: float | None = 0.0
    pause: float = 0.0


WELL: Final = Fate()
"""The fate of a request to which nothing happens."""


class Faults(Protocol):
    """What decides which faults there are."""

    def of_request(self, verb: Verb) -> Fate:
        """Return what becomes of the next request."""
        ...

    def of_hint(self, hint: Hint) -> Sequence[float]:
        """Return in how many seconds each copy of a hint arrives; none: it is lost."""
        ...


class ScriptedFaults:
    """The faults of one case; whatever it does not name goes well.

    Args:
        requests: the fate of the n-th request of a verb, from 1: `{("commit", 2): Fate(back=None)}`
            loses the answer to the second write.
        hints: when the copies of the n-th hint arrive, from 1; `{3: ()}` loses the third.
    """

    def __init__(
        self,
        requests: Mapping[tuple[Verb, int], Fate] | None = None,
        hints: Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        self._requests, self._hints = requests or {}, hints or {}
        self._asked: Counter[Verb] = Counter()
        self._hinted = 0

    def of_request(self, verb: Verb) -> Fate:
        """Return what the script says of this request."""
        self._asked[verb] += 1
        return self._requests.get((verb, self._asked[verb]), WELL)

    def of_hint(self, hint: Hint) -> Sequence[float]:  # noqa: ARG002 - the script goes by number
        """Return what the script says of this hint."""
        self._hinted += 1
        return self._hints.get(self._hinted, (0.0,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """How likely each fault is, from 0 to 1 for each request or hint; and how long things take.

    Attributes:
        latency: seconds, at least and at most, that every request and every answer takes.
        late_by: the same of a request that is late.
        pauses_for: the same of a pause of the server.
    """

    lost_request: float = 0.0
    lost_reply: float = 0.0
    late_request: float = 0.0
    pause: float = 0.0
    lost_hint: float = 0.0
    late_hint: float = 0.0
    repeated_hint: float = 0.0
    latency: tuple[float, float] = (0.0, 0.0)
    late_by: tuple[float, float] = (1.0, 30.0)
    pauses_for: tuple[float, float] = (0.5, 8.0)


class DrawnFaults:
    """Faults drawn by chance; the same seed draws the same ones.

    Args:
        seed: a number, or a generator that you share with others.
        odds: how likely each fault is; set the attribute `odds` to change that at any time.
    """

    odds: Odds

    def __init__(self, seed: int | random.Random, odds: Odds) -> None:
        self.odds = odds
        self._random = seed if isinstance(seed, random.Random) else random.Random(seed)

    def of_request(self, verb: Verb) -> Fate:  # noqa: ARG002 - all verbs are alike
        """Draw what becomes of this request."""
        odds, drawn = self.odds, self._random.random()
        there, back = self._within(odds.latency), self._within(odds.latency)
        for likely, what in (
            (odds.lost_request, "lost request"),
            (odds.lost_reply, "lost reply"),
            (odds.late_request, "late request"),
            (odds.pause, "pause"),
        ):
            if drawn < likely:
                return self._fate(what, there, back)
            drawn -= likely
        return Fate(there, back)

    def of_hint(self, hint: Hint) -> Sequence[float]:  # noqa: ARG002 - all hints are alike
        """Draw when this hint arrives."""
        odds, drawn = self.odds, self._random.random()
        if drawn < odds.lost_hint:
            return ()
        drawn -= odds.lost_hint
        if drawn < odds.late_hint:
            return (self._within(odds.late_by),)
        drawn -= odds.late_hint
        if drawn < odds.repeated_hint:
            return (0.0, self._within(odds.late_by))
        return (0.0,)

    def _fate(self, what: str, there: float, back: float) -> Fate:
        match what:
            case "lost request":
                return Fate(None, back)
            case "lost reply":
                return Fate(there, None)
            case "late request":
                return Fate(self._within(self.odds.late_by), back)
            case _:
                return Fate(there, back, self._within(self.odds.pauses_for))

    def _within(self, bounds: tuple[float, float]) -> float:
        low, high = bounds
        return low + (high - low) * self._random.random()


class FaultyStore(WrappedStore):
    """Any store, on a bad network; it is a store itself, and passes the same contract.

    Whoever asks waits at most `patience` seconds for the request to arrive; then it is told
    `Unavailable`, and the request is still on its way: by the time it arrives, it may have been
    said again. Time is that of the running event loop.

    Args:
        store: the one that answers; it is entered and left with this one.
        faults: what happens to requests and hints; None: nothing.
        patience: seconds.

    Attributes:
        faults: as given; another one may take its place at any time.
        counts: how often each fault has happened.
    """

    faults: Faults
    counts: Counter[Fault]

    def __init__(
        self, store: Store, faults: Faults | None = None, *, patience: float = PATIENCE
    ) -> None:
        super().__init__(store)
        self.faults = faults or ScriptedFaults()
        self.counts = Counter()
        self._patience, self._system = patience, System()
        self._paused_until = 0.0
        self._late: set[asyncio.Task[None]] = set()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Lose what has not arrived yet, and leave the store."""
        late = list(self._late)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await super().__aexit__(kind, error, trace)

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call back when a journal may have changed; see `Store`."""
        is_over = False

        def hear(hint: Hint) -> None:
            if not is_over:
                listener(hint)

        def pass_on(hint: Hint) -> None:
            copies = self.faults.of_hint(hint)
            self.counts["lost hint"] += not copies
            self.counts["repeated hint"] += len(copies) > 1
            self.counts["late hint"] += any(delay > self._patience for delay in copies)
            for delay in copies:
                if delay > 0:
                    self._system.call_later(delay, lambda: hear(hint))
                else:
                    hear(hint)

        unwatch = super().watch(pass_on)

        def end() -> None:
            nonlocal is_over
            is_over = True
            unwatch()

        return end

    async def _ask(self, verb: Verb, about: Any, request: Callable[[Store], Awaitable[T]]) -> T:  # noqa: ARG002
        fate = self.faults.of_request(verb)
        there = self._arrives_in(fate)
        if there is None:
            self.counts["lost request"] += 1
            raise Unavailable(f"the request ({verb}) was lost")
        if there > self._patience:
            self._send_late(request, there)
            await self._system.sleep(self._patience)
            raise Unavailable(f"no answer to {verb} within {self._patience:g} s")
        await self._wait(there)
        try:
            answer = await request(self._store)
        except OutlastError:
            await self._answer(verb, fate)
            raise
        await self._answer(verb, fate)
        return answer

    def _arrives_in(self, fate: Fate) -> float | None:
        """Return in how many seconds a request arrives; while the server pauses, none does."""
        if fate.there is None:
            return None
        now = asyncio.get_running_loop().time()
        if fate.pause:
            self.counts["pause"] += 1
            self._paused_until = max(self._paused_until, now + fate.there + fate.pause)
        return max(fate.there, self._paused_until - now)

    async def _answer(self, verb: Verb, fate: Fate) -> None:
        """Return when the answer arrives, unless it is lost."""
        if fate.back is None:
            self.counts["lost reply"] += 1
            # Whatever the answer was, nobody knows it.
            raise Unavailable(f"the answer to {verb} was lost") from None
        await self._wait(fate.back)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self.counts["delay"] += 1
            await self._system.sleep(seconds)

    def _send_late(self, request: Callable[[Store], Awaitable[Any]], there: float) -> None:
        async def arrive() -> None:
            await self._system.sleep(there)
            self.counts["late request"] += 1
            with suppress(StoreError):  # nobody hears of it
                await request(self._store)

        task = self._system.spawn(arrive(), "late request")
        self._late.add(task)
        task.add_done_callback(self._late.discard)
