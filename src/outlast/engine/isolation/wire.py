"""What worker and child say to each other: frames of JSON, and a store's questions in them.

A frame is a JSON object after its length in four bytes. The one rule that must not be broken:
nothing but JSON crosses, and what comes is made into our own types here, by name and not by what
it says of itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from pydantic_core import from_json, to_json

from outlast.errors import Conflict, Corrupt, Fenced, Unavailable, UsageError
from outlast.journal import FORCE, Card, Change, Claim, Draft, Entry, Fence, Head, Lease
from outlast.store import Query, Reading, Scanned

log: Final = logging.getLogger("outlast")

Message = Mapping[str, Any]

_LENGTH: Final = 4
"""Bytes before a frame; they say how many follow."""

MAX_FRAME: Final = 2 ** (8 * _LENGTH) - 1
"""Bytes of one frame."""


class Wire(asyncio.Protocol):
    """One end of the socket between a worker and a child.

    Attributes:
        hear: called with each message that comes, in order.
        lost: called once, when the other end is closed, or has said what nobody understands.
        writable: called when the other end reads again, after `is_full`.
        is_full: whether it does not read what it is told; whatever can wait should.
    """

    hear: Callable[[Message], None]
    lost: Callable[[], None]
    writable: Callable[[], None]
    is_full: bool

    def __init__(self, hear: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self.hear, self.lost, self.writable = hear, lost, lambda: None
        self.is_full = False
        self._transport: asyncio.Transport | None = None
        self._come = bytearray()

    def send(self, message: Message) -> None:
        """Send the message; does nothing when the other end is gone.

        Raises:
            ValueError: it is not JSON, or too long for a frame; nothing was sent.
        """
        if self._transport is not None and not self._transport.is_closing():
            data = to_json(message, inf_nan_mode="constants", fallback=_plain)
            if len(data) > MAX_FRAME:
                raise ValueError(f"{len(data)} bytes are more than a frame has: {MAX_FRAME}")
            self._transport.write(len(data).to_bytes(_LENGTH, "big") + data)

    def listen(self, *, is_wanted: bool) -> None:
        """Let the other end wait with what it has to say, or no longer."""
        if self._transport is None or self._transport.is_closing():
            return
        if is_wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        """Hear and say nothing more."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        """Take note that the other end does not read."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Say that the other end reads again."""
        self.is_full = False
        self.writable()

    def data_received(self, data: bytes) -> None:
        """Take in what has come, and hand on each message that is whole."""
        self._come += data
        while len(self._come) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._come[:_LENGTH], "big")
            if len(self._come) < end:
                return
            try:
                message = from_json(bytes(self._come[_LENGTH:end]))
                del self._come[:end]
                self.hear(message)
            except (ValueError, LookupError, TypeError):
                # Somebody else writes to the socket, such as a copy that a handler has forked.
                log.exception("a worker and its child do not understand each other: they part")
                self.close()
                return

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it is gone, anyhow
        """Say that the other end is gone."""
        self.lost()


def _plain(value: object) -> object:
    """Return what is sent for a mapping that is no dictionary, such as one that is read only."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, object]", value))
    raise ValueError(f"{value!r} is not JSON")


def change_from(data: Message) -> Change:
    """Return the change that was sent."""
    fence, claim = data["fence"], data["claim"]
    fields: dict[str, Any] = {
        **data,
        "entries": tuple(Draft(type, text, tuple(blobs)) for type, text, blobs in data["entries"]),
        "fence": fence if fence in (None, FORCE) else Fence(*fence),
        "claim": claim and Claim(*claim),
    }
    return Change(**fields)


def head_from(data: Sequence[Any]) -> Head:
    """Return the head that was sent."""
    head = Head(*data)
    return head._replace(
        card=Card(*head.card), lease=_lease_from(*head.lease) if head.lease else None
    )


def _lease_from(key: str, owner: str, fence: tuple[int, str], until: float) -> Lease:
    return Lease(key, owner, Fence(*fence), until)


def _entry_from(  # noqa: PLR0917 - as it stands in a frame
    revision: int, type: str, data: str, at: float, change: str, blobs: Sequence[str]
) -> Entry:
    return Entry(revision, type, data, at, change, tuple(blobs))


def reading_from(data: Message) -> Reading:
    """Return the reading that was sent."""
    entries = [_entry_from(*entry) for entry in data["entries"]]
    return Reading(data["head"] and head_from(data["head"]), entries, data["floor"])


def scanned_from(data: Message) -> Scanned:
    """Return the page that was sent."""
    return Scanned([head_from(head) for head in data["heads"]], data["next"])


def query_from(data: Message) -> Query:
    """Return the query that was sent."""
    fields: dict[str, Any] = {**data, "statuses": frozenset[str](data["statuses"])}
    return Query(**fields)


def error_data(error: Exception) -> Message:
    """Return what is sent for an error that a store has raised."""
    match error:
        case Conflict():
            fields: list[Any] = [error.key, error.what, error.expected, error.actual]
            return {"type": "Conflict", "fields": fields, "done": error.done}
        case Fenced():
            return {"type": "Fenced", "fields": [error.key, error.fence, error.current]}
        case Unavailable():
            return {"type": "Unavailable", "fields": [str(error)], "is_final": error.is_final}
        case UsageError() | Corrupt():
            return {"type": type(error).__name__, "fields": [str(error)]}
        case _:
            return {"type": type(error).__name__, "fields": [f"{type(error).__name__}: {error}"]}


def error_from(data: Message) -> Exception:
    """Return the error that was sent; one that no store raises on purpose is a `RuntimeError`."""
    fields = data["fields"]
    match data["type"]:
        case "Conflict":
            conflict = Conflict(*fields)
            conflict.done = [head_from(head) for head in data["done"]]
            return conflict
        case "Fenced":
            key, fence, current = fields
            return Fenced(key, Fence(*fence), current and Fence(*current))
        case "Unavailable":
            return Unavailable(*fields, is_final=data["is_final"])
        case "UsageError":
            return UsageError(*fields)
        case "Corrupt":
            return Corrupt(*fields)
        case _:
            return RuntimeError(*fields)
