"""The limits of what a run may be called, and what is stored with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from outlast.engine.definition import TagsOrFactory
from outlast.engine.turn import MAX_NAME
from outlast.errors import UsageError

MAX_TITLE: Final = 200
MAX_DESCRIPTION: Final = 4_096
MAX_SOURCE: Final = 256
MAX_TAGS: Final = 32
MAX_TAG_KEY: Final = 64
MAX_TAG_VALUE: Final = 256
MAX_TAGS_BYTES: Final = 2_048
RESERVED_PREFIX: Final = "outlast."


def check_name(what: str, name: object) -> None:
    """Refuse what is no name.

    Raises:
        UsageError: it is not a str of 1 to 200 characters.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise UsageError(f"{what} is a str of 1 to {MAX_NAME} characters, not {name!r}")


def seconds_of(what: str, duration: object, *, least: timedelta = timedelta(0)) -> float:
    """Return the seconds of a duration.

    Raises:
        UsageError: it is no timedelta, or less than `least`.
    """
    if not isinstance(duration, timedelta) or duration < least:
        bound = f"{least.total_seconds():g} s" if least else "0"
        raise UsageError(f"{what} is a timedelta of {bound} or more, not {duration!r}")
    return duration.total_seconds()


def text_of(what: str, label: str | Callable[..., object] | None, limit: int, *of: Any) -> str:
    """Return a title, description or source; a factory is asked, and its error reaches the caller.

    Raises:
        UsageError: it is not a str, or longer than `limit` characters.
    """
    text: object = label(*of) if callable(label) else label
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > limit:
        raise UsageError(
            f"the {what} of a run is a str of at most {limit} characters, not {text!r:.300}"
        )
    return text


def tags_of(tags: TagsOrFactory, more: Mapping[str, str] | None, *of: Any) -> Mapping[str, str]:
    """Return the tags of a run, those of its start included.

    Raises:
        UsageError: there are too many, one is too long, or has the reserved prefix.
    """
    own = tags(*of) if callable(tags) else tags
    both = {**(own or {}), **(more or {})}
    check_tags(both)
    return both


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse tags that are out of their limits.

    Raises:
        UsageError: there are too many, one is too long, or has the reserved prefix.
    """
    if len(tags) > MAX_TAGS:
        raise UsageError(f"a run has at most {MAX_TAGS} tags, not {len(tags)}")
    pairs: list[tuple[object, object]] = list(tags.items())
    for key, value in pairs:
        if not isinstance(key, str) or not 0 < len(key) <= MAX_TAG_KEY:
            raise UsageError(
                f"the key of a tag is a str of 1 to {MAX_TAG_KEY} characters, not {key!r}"
            )
        if not isinstance(value, str) or len(value) > MAX_TAG_VALUE:
            raise UsageError(
                f"the value of the tag {key!r} is a str of at most {MAX_TAG_VALUE} characters, "
                f"not {value!r:.300}"
            )
        if key.startswith(RESERVED_PREFIX):
            raise UsageError(f"tags that begin with {RESERVED_PREFIX!r} are outlast's own: {key!r}")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in tags.items())
    if size > MAX_TAGS_BYTES:
        raise UsageError(
            f"the tags of a run have at most {MAX_TAGS_BYTES} bytes together, not {size}"
        )
