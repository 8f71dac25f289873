"""What the entries of a run must add up to, entry by entry, as the format describes them.

This is an account of its own, and none of the model: it knows what may never be written, not what
is to be decided. The one rule that must not be broken: it reads what is written, and nothing else.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from outlast.journal import Entry, Head

_COUNTED: Final = {
    "parked": "parks",
    "taken_back": "retractions",
    "handed_back": "hand-backs",
    "attempt_failed": "retries",
    "step_tried": "retries",
    "signalled": "signals",
    "emitted": "items",
    "checkpointed": "checkpoints",
    "step_began": "at-most-once steps",
    "cancel_requested": "cancels",
    "aborted": "aborts",
    "created": "runs",
}

_AT_WORK: Final = frozenset({"turn_began", "attempt_began"})
_AT_REST: Final = frozenset({"created", "attempt_failed", "parked", "handed_back"})


class Place(NamedTuple):
    """Where an outcome stands."""

    kind: str
    name: str
    number: int


@dataclass(slots=True)
class RunAccount:
    """A run, as its entries describe it.

    Attributes:
        start: what it was created with.
        outcomes: by place: what came out, as data of its entry.
        signals: those that no wait has taken, by name.
        stream: the items and retractions, by offset from 1.
        end: the type and data of the entry that ended it.
        edge: the type and data of the entry that last began or ended an attempt.
        failures: how many attempts have failed.
        deaths: how often in a row it was taken over from the dead, and got nowhere.
    """

    start: dict[str, Any] | None = None
    outcomes: dict[Place, dict[str, Any]] = field(default_factory=dict[Place, dict[str, Any]])
    signals: dict[str, deque[Any]] = field(default_factory=dict[str, deque[Any]])
    stream: list[tuple[str, dict[str, Any]]] = field(
        default_factory=list[tuple[str, dict[str, Any]]]
    )
    end: tuple[str, dict[str, Any]] | None = None
    edge: tuple[str, dict[str, Any]] = ("", {})
    cancelled: bool = False
    failures: int = 0
    deaths: int = 0
    _begun: set[Place] = field(default_factory=set[Place])
    _tries: Counter[Place] = field(default_factory=Counter[Place])

    def take(  # noqa: PLR0911 - each return is one rule
        self, entry: Entry
    ) -> str | None:
        """Take an entry into account; return what is wrong with it, if anything."""
        type, data = entry.type, json.loads(entry.data)
        if self.end is not None:
            return f"{type} was written after {self.end[0]}"
        if (self.start is None) is not (type == "created"):
            return f"{type} is out of place"
        if type in _AT_WORK or type in _AT_REST:
            self.edge = type, data
        match type:
            case "checkpointed":
                return self._take_outcome(data)
            case "step_began":
                return self._take_beginning(data)
            case "emitted" | "taken_back":
                return self._take_item(type, data)
            case "step_tried":
                return self._take_try(data)
            case _:
                return self._take_change(type, data)

    def _take_change(self, type: str, data: dict[str, Any]) -> str | None:
        match type:
            case "created":
                self.start = data
            case "ended" | "aborted":
                self.end = type, data
                return self._miscounted(data)
            case "attempt_began":
                self.deaths += data["died"]
            case "attempt_failed":
                self.failures += 1
                self.deaths = 0
                self._tries.clear()
                outcomes = self.outcomes.items()
                self.outcomes = {place: it for place, it in outcomes if it.get("always", True)}
            case "signalled":
                self.signals.setdefault(data["name"], deque()).append(data.get("value"))
            case "cancel_requested":
                self.cancelled = True
            case _:
                pass
        return None

    def _take_item(self, type: str, data: dict[str, Any]) -> str | None:
        self.stream.append((type, data))
        if data["offset"] == len(self.stream):
            return None
        return f"offset {data['offset']} follows {len(self.stream) - 1}"

    def _take_outcome(self, data: dict[str, Any]) -> str | None:
        place = Place(data["kind"], data["name"], data["number"])
        if place in self.outcomes:
            return f"{place} was recorded twice"
        self.outcomes[place] = data
        self.deaths = 0
        del self._tries[place]
        if place.kind == "wait":
            waiting = self.signals.get(place.name)
            if data.get("timed_out"):
                return f"{place} timed out, and a signal was there" if waiting else None
            if not waiting or waiting.popleft() != data.get("value"):
                return f"{place} took {data.get('value')!r}, which was not the oldest signal"
        return None

    def _take_beginning(self, data: dict[str, Any]) -> str | None:
        place = Place("step", data["name"], data["number"])
        if place in self._begun:
            return f"{place} began twice, and may once"
        self._begun.add(place)
        return None

    def _take_try(self, data: dict[str, Any]) -> str | None:
        place = Place("step", data["name"], data["number"])
        self._tries[place] += 1
        if data["tries"] == self._tries[place]:
            return None
        return f"{place} was tried {self._tries[place]} times, and {data['tries']} is recorded"

    def _miscounted(self, end: dict[str, Any]) -> str | None:
        if end.get("status") != "failed" or end.get("attempts", 1) == self.failures + 1:
            return None
        return f"it failed at attempt {self.failures + 1}, and {end.get('attempts', 1)} is recorded"

    @property
    def is_at_rest(self) -> bool:
        """Whether nobody was at work on it when it was last begun, ended or put aside."""
        return self.edge[0] in _AT_REST

    def stranded(self, head: Head, now: float) -> str | None:
        """Say why nobody would take the run up any more, although somebody should."""
        due = head.card.due
        if self.end is not None:
            is_over = due is None and head.closed
            return None if is_over else f"it has ended: due at {due}, closed: {head.closed}"
        if head.closed:
            return "it is closed, and has not ended"
        latest = self._wanted_at(now)
        if latest is not None and (due is None or due > latest):
            return f"it is due at {due}, and wanted at {latest} ({self.edge[0]})"
        return None

    def _wanted_at(self, now: float) -> float | None:
        """Return until when somebody must look at it, if not before the next signal."""
        type, data = self.edge
        if type in _AT_WORK or self.cancelled:
            return now
        if type == "parked":
            if any(self.signals.get(name) for name, *_ in data.get("waits", ())):
                return now
            due: float | None = data.get("due")
            return due
        return float(data["retry_at" if type == "attempt_failed" else "due"])

    def counted(self, entries: Sequence[Entry]) -> Counter[str]:
        """Return how often what happened in these entries."""
        counts = Counter(_COUNTED[e.type] for e in entries if e.type in _COUNTED)
        deaths = [e for e in entries if e.type == "attempt_began" and json.loads(e.data)["died"]]
        counts["takeovers"] = len(deaths)
        ends = [json.loads(e.data)["status"] for e in entries if e.type == "ended"]
        counts["failures"] = ends.count("failed")
        return counts
