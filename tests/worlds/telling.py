"""What happens in a small world, told in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from outlast.journal import FORCE, Change, Head
from outlast.store import Claimed, Reading
from tests.worlds.asking import Answer, Request


class Move(NamedTuple):
    """What happens: to whom, and what it asked and was told."""

    who: str
    what: str
    request: int | None = None
    answer: int | None = None


def tell(move: Move, request: Request | None, answer: Answer | None) -> str:
    """Return the move, and what was asked and answered, as a line for a reader."""
    line = f"{move.who} {move.what}"
    if request is not None:
        line += f": {_told(request)}"
    if answer is not None:
        line += f" -> {_answered(answer)}"
    return line


def _told(request: Request) -> str:
    """Return the request as a reader takes it in."""
    match request.verb, request.args:
        case "commit", (Change() as change,):
            entries = ", ".join(f"{draft.type} {draft.data}" for draft in change.entries)
            words = [f"commit {change.id} to {change.key}: {entries or 'no entries'}"]
            if change.fence is not None:
                words.append("by force" if change.fence == FORCE else f"with fence {change.fence}")
            words += [
                f"expects {name} {expected}"
                for name in ("first", "revision", "facts")
                if (expected := getattr(change, name)) is not None
            ]
            if change.claim is not None:
                words.append("claims")
            if change.release:
                words.append("releases")
            if "due" in change.card:
                words.append(f"due {change.card['due']}")
            return "; ".join(words)
        case "read", (key, after, _):
            return f"read {key} after {after}"
        case "claim", _:
            return "claim"
        case "renew", (leases, _):
            return "renew " + ", ".join(f"{lease.key} {lease.fence}" for lease in leases)
        case verb, args:
            return f"{verb} {args}"


def _answered(answer: Answer) -> str:
    """Return the answer as a reader takes it in."""
    value = answer.value
    if isinstance(value, Claimed):
        value = value.heads
    if isinstance(value, Reading):
        value = [value.head] if value.head else "nothing is there"
    if isinstance(value, Sequence) and all(isinstance(head, Head) for head in value):
        return ", ".join(map(_head, value))
    return str(value)


def _head(head: Head) -> str:
    closed = ", closed" if head.closed else ""
    due = "never" if head.card.due is None else f"{head.card.due:g}"
    fence = f", fence {head.fence}" if head.fence else ""
    return f"{head.key} at {head.revision}, {head.card.status}, due {due}{fence}{closed}"
