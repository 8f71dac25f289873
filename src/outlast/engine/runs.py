"""The runs of a store: found by their id, or listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from outlast.engine.client import Client, check_id, key_of
from outlast.engine.definition import TASKS
from outlast.engine.handles import TaskRun
from outlast.errors import TaskNotFound, UsageError
from outlast.model.events import Status
from outlast.model.run import RUN
from outlast.store import Query

if TYPE_CHECKING:
    from outlast.engine.definition import Definition
    from outlast.journal import Head
    from outlast.model.story import Story

T = TypeVar("T")

MAX_LISTED: Final = 1_000
"""Runs of one page."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of what was asked for.

    Attributes:
        items: of this page.
        next: goes on after it (`after=page.next`); None at the end.
    """

    items: Sequence[T]
    next: str | None


class Runs:
    """The runs of an app's store, whatever their task."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, id: str) -> TaskRun[Any]:
        """Return the run with this id.

        Its output is read by its task's annotations, if the task is known in this process.

        Raises:
            TaskNotFound: there is none.
        """
        return await get(self._client, id)

    async def list(
        self,
        *,
        status: Status | str | Sequence[Status | str] | None = None,
        task: str | None = None,
        session_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        source: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[TaskRun[Any]]:
        """Return runs that match everything that is given, newest first.

        Args:
            status: one, or several of which any will do.
            task: the task's name.
            session_id: as given at the start.
            tags: all of these.
            source: as given at the start.
            started_after: an aware datetime, inclusive.
            started_before: an aware datetime, exclusive.
            limit: at most so many; a page may be shorter, even empty, and not be the last.
            after: the page before's `next`.

        Raises:
            UsageError: a filter is not one.
        """
        if not 1 <= limit <= MAX_LISTED:
            raise UsageError(f"limit is 1 to {MAX_LISTED}, not {limit!r}")
        query = Query(
            kind=RUN,
            statuses=frozenset(Status(one).value for one in _several(status)),
            tags=tags or {},
            session=session_id,
            name=task,
            source=source,
            created_after=_seconds("started_after", started_after),
            created_before=_seconds("started_before", started_before),
            order="created",
            descending=True,
        )
        scanned = await self._client.ask(
            lambda: self._client.around.store.scan(query, limit=limit, after=after)
        )
        return Page([_handle(self._client, head) for head in scanned.heads], scanned.next)


async def get(client: Client, id: str, definition: Definition | None = None) -> TaskRun[Any]:
    """Return a handle of the run; of this task only, where one is given.

    Raises:
        TaskNotFound: there is none.
    """
    check_id(id)
    head = await client.head(key_of(id))
    if definition is not None and head.card.name != definition.name:
        raise TaskNotFound(
            f"run {id!r} is of the task {head.card.name!r}, not of {definition.name!r}"
        )
    given = await client.current(head.key, head.first)
    return _handle(client, given.head, definition, given.story)


def _handle(
    client: Client,
    head: Head,
    definition: Definition | None = None,
    story: Story | None = None,
) -> TaskRun[Any]:
    return TaskRun(client, head, definition or TASKS.find(head.card.name), story)


def _several(status: Status | str | Sequence[Status | str] | None) -> Sequence[Status | str]:
    if status is None:
        return ()
    several = [status] if isinstance(status, str) else list(status)
    for one in several:
        if one not in set(Status):
            known = ", ".join(Status)
            raise UsageError(f"{one!r} is not a status; it is one of {known}")
    return several


def _seconds(what: str, moment: datetime | None) -> float | None:
    if moment is not None and moment.tzinfo is None:
        raise UsageError(f"{what} is an aware datetime, not {moment!r}; say datetime.now(UTC)")
    return None if moment is None else moment.timestamp()
