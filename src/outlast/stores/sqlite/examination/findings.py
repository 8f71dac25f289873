"""What a check says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

Severity: TypeAlias = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        check: its name.
        what: is the case.
        remedy: what to do, where something is wrong.
        values: the same for machines.
    """

    check: str
    severity: Severity
    what: str
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])


def moment(seconds: float) -> str:
    """Return the time, in seconds since 1970, for people."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")
