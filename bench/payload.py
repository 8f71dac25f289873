"""What steps give back in every measurement: as much as a short answer of a tool."""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final = (
    "A short answer, such as a tool gives: a title, a link and a line or two of text. " * 2
)


async def answer(number: int) -> dict[str, Any]:
    """Return some 250 bytes of JSON."""
    return {"number": number, "title": f"Result {number}", "text": _TEXT, "score": number / 7}
