"""How large a payload may be."""

from __future__ import annotations

from typing import Final

from outlast.codec import Json
from outlast.codec.plain import to_bytes
from outlast.errors import InputTooLarge

MAX_PAYLOAD: Final = 64 * 1024 * 1024
"""Bytes of one payload, as JSON."""


def check_size(data: Json, limit: int, what: str) -> None:
    """Refuse what is larger than the app takes.

    Raises:
        InputTooLarge: it has more than `limit` bytes as JSON.
    """
    size = len(to_bytes(data))
    if size > limit:
        raise InputTooLarge(
            f"{what} has {size} bytes, and max_payload is {limit}; keep it elsewhere and pass "
            "where it is"
        )
