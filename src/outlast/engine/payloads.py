"""How large a payload may be."""

from __future__ import annotations

from typing import Final

from outlast.codec import Json, to_text
from outlast.errors import InputTooLarge

MAX_PAYLOAD: Final = 64 * 1024 * 1024
"""Bytes of one payload, as JSON."""


def check_size(data: Json, limit: int, what: str) -> None:
    """Refuse what is larger than the app takes.

    Raises:
        InputTooLarge: it has more than `limit` bytes as JSON.
    """
    size = len(to_text(data).encode())
    if size > limit:
        raise InputTooLarge(
            f"{what} has {size} bytes, and max_payload is {limit}; keep it elsewhere and pass "
            "where it is"
        )
