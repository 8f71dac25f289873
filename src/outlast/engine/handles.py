"""What callers hold of a run: its handle, its outcome, its stream and history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from outlast.codec import ErrorRecord, codec_for, from_text
from outlast.engine.client import check_id, id_of
from outlast.engine.settings import check_name, seconds_of
from outlast.errors import (
    RunError,
    TaskAborted,
    TaskCancelled,
    TaskFailed,
    TaskTimedOut,
    UsageError,
)
from outlast.model.events import Aborted, Emitted, Ended, Status

if TYPE_CHECKING:
    from outlast.engine.client import Client
    from outlast.engine.definition import Definition
    from outlast.journal import Head

Out_co = TypeVar("Out_co", covariant=True)

_PLAIN = codec_for(Any, where="a value without an annotation")


@dataclass(frozen=True, slots=True)
class TaskResult(Generic[Out_co]):
    """What a run has given."""

    output: Out_co
    status: Status

    @property
    def is_completed(self) -> bool:
        """Whether the handler returned the output."""
        return self.status is Status.COMPLETED


@dataclass(frozen=True, slots=True)
class StreamItem:
    """What a handler emitted.

    Attributes:
        offset: 1, 2, 3 ... in the order in which the items of the run were accepted.
        value: plain JSON.
        turn: the turn that emitted it, from 1.
        step: the name of the step; None outside of steps.
    """

    offset: int
    value: Any
    turn: int
    step: str | None


@dataclass(frozen=True, slots=True)
class Retracted:
    """What `step` (None: the turn) emitted after `after` does not count: it is run again.

    Attributes:
        offset: of this message, among the offsets of the items.
        after: the last offset that still counts.
        turn: the turn that emitted it, from 1.
        step: the name of the step; None: all of the turn.
    """

    offset: int
    after: int
    turn: int
    step: str | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of a run's journal."""

    revision: int
    type: str
    at: datetime
    data: Any


class TaskRun(Generic[Out_co]):
    """A run, from any process.

    Attributes:
        id: names the run in its namespace, whatever its task.
        status: as it was when the handle was made or refreshed last.
        title, tags, source, session_id: as given at the start.
        task: the name of its task.
        started_at: when the run was accepted.
    """

    id: str
    status: Status
    task: str
    title: str
    tags: Mapping[str, str]
    source: str
    session_id: str | None
    started_at: datetime

    def __init__(self, client: Client, head: Head, definition: Definition | None) -> None:
        self._client, self._definition = client, definition
        self._key, self._first = head.key, head.first
        self.id = id_of(head.key)
        self._take(head)

    def _take(self, head: Head) -> None:
        card = head.card
        self.status = Status(card.status)
        self.task, self.title, self.source = card.name, card.title, card.source
        self.tags = dict(card.tags)
        self.session_id = card.session or None
        self.started_at = datetime.fromtimestamp(head.created_at, UTC)

    def __repr__(self) -> str:
        return f"<TaskRun {self.id!r} of {self.task!r}: {self.status}>"

    async def refresh(self) -> TaskRun[Out_co]:
        """Read the status anew, and return the handle itself.

        Raises:
            TaskNotFound: the run was deleted.
        """
        self._take(await self._client.head(self._key, self._first))
        return self

    async def result(self, timeout: timedelta | None = None) -> TaskResult[Out_co]:
        """Wait until the run has ended, and return what it gave; as often as you like, long after.

        Raises:
            TaskFailed: the handler raised, and no retry was left; `error` says what.
            TaskCancelled, TaskAborted, TaskTimedOut: it was stopped.
            TaskNotFound: it was deleted.
            TimeoutError: it did not end within `timeout`.
        """
        if timeout is not None:
            seconds_of("a timeout", timeout)
        ended = self._client.wait_until_ended(self._key, self._first)
        if timeout is None:
            event = await ended
        else:
            complaint = f"run {self.id!r} did not end within {timeout}"
            system = self._client.around.system
            event = await system.within(timeout.total_seconds(), ended, complaint)
        self.status = Status.ABORTED if isinstance(event, Aborted) else event.status
        return TaskResult(self._output(event), self.status)

    def _output(self, event: Ended | Aborted) -> Any:
        reason = f": {event.reason}" if event.reason else ""
        match event:
            case Aborted():
                raise TaskAborted(f"run {self.id!r} was aborted{reason}")
            case Ended(Status.COMPLETED, output):
                return (self._definition.output if self._definition else _PLAIN).load(
                    output, root="output"
                )
            case Ended(Status.CANCELLED):
                raise TaskCancelled(f"run {self.id!r} was cancelled{reason}")
            case Ended(Status.TIMED_OUT):
                raise TaskTimedOut(f"run {self.id!r} did not end in time{reason}")
            case _:
                record = ErrorRecord.load(event.error)
                error = RunError(record.type, record.message, record.traceback, event.attempts)
                raise TaskFailed(
                    f"run {self.id!r} failed after {event.attempts} attempts: {record.type}: "
                    f"{record.message}",
                    error,
                )

    async def signal(self, name: str, value: Any = None, *, id: str | None = None) -> None:
        """Send a signal, which the next `ctx.wait(name)` takes; when this returns, it is durable.

        Args:
            name: what the handler waits for; a signal that nobody waits for yet is kept.
            value: plain JSON, or what the codec of its own type makes of it.
            id: a signal that is sent again with the same id is sent once.

        Raises:
            TaskConflict: the run has ended.
            TaskNotFound: it was deleted.
            CodecError: the value cannot be written.
        """
        check_name("a signal's name", name)
        if "#" in name:
            raise UsageError(f"a signal's name is without '#', not {name!r}")
        if id is not None:
            check_id(id)
        data = self._client.dump(_codec_of(value), value, f"the signal {name!r}", "signal")
        await self._client.signal(self._key, self._first, name, data, id)

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the run to stop: its handler sees `ctx.cancel`; one that rests is not entered again.

        Does nothing when the run has ended, or was asked before.

        Raises:
            TaskNotFound: it was deleted.
        """
        await self._client.cancel(self._key, self._first, reason)

    async def abort(self, reason: str | None = None) -> None:
        """End the run now: when this returns, nothing more of it is recorded, whoever runs it.

        Its coroutine is cancelled at once; a thread may go on acting outside until it returns.
        Does nothing when the run has ended.

        Raises:
            TaskNotFound: it was deleted.
        """
        await self._client.abort(self._key, self._first, reason)

    async def stream(self, after: int = 0) -> AsyncIterator[StreamItem | Retracted]:
        """Give what the run emitted after the offset `after`, and what it emits, until it ends.

        Any number of readers, in any process, at any time: each gets every item once, without a
        gap.

        Raises:
            TaskNotFound: the run was deleted.
        """
        if after < 0:
            raise UsageError(f"an offset is 0 or more, not {after!r}")
        async for event in self._client.stream(self._key, self._first, after):
            if isinstance(event, Emitted):
                yield StreamItem(event.offset, event.value, event.turn, event.step)
            else:
                yield Retracted(event.offset, event.after, event.turn, event.step)

    async def history(self, after: int = 0) -> AsyncIterator[HistoryEntry]:
        """Give the entries of the run's journal after the revision `after`, oldest first.

        Raises:
            TaskNotFound: the run was deleted.
        """
        async for entry in self._client.history(self._key, self._first, after):
            at = datetime.fromtimestamp(entry.at, UTC)
            yield HistoryEntry(entry.revision, entry.type, at, from_text(entry.data))


def _codec_of(value: Any) -> Any:
    """Return what writes a signal's value: it is read by the annotation of whoever waits for it."""
    if value is None or isinstance(value, (bool, int, float, str, list, dict)):
        return _PLAIN
    return codec_for(type(value), where="the value of a signal")
