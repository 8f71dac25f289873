"""What callers hold of a run: its handle, its outcome, its stream and history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from outlast.codec import ErrorRecord, Json, codec_for, from_text
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
from outlast.model.events import Aborted, Emitted, Ended, Slot, Status, TurnEnded

if TYPE_CHECKING:
    from outlast.engine.client import Client
    from outlast.engine.definition import Definition
    from outlast.journal import Head
    from outlast.model.story import Outcome, Story

Out_co = TypeVar("Out_co", covariant=True)

_PLAIN = codec_for(Any, where="a value without an annotation")


@dataclass(frozen=True, slots=True)
class TaskResult(Generic[Out_co]):
    """What a turn has given to whoever gave its input.

    Attributes:
        output: None where the turn was superseded without one, or suspended without one.
        suspension_reason: as the handler gave it.
        is_superseded: another input took the turn's place.
    """

    output: Out_co
    status: Status
    suspension_reason: str | None = None
    is_superseded: bool = False

    @property
    def is_suspended(self) -> bool:
        """Whether the run waits for its next input."""
        return self.status is Status.SUSPENDED

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
    """One input of a run, and the run itself, from any process.

    A handle that `start` gave belongs to the input that was given; any other one to the input of
    the run's current turn.

    Attributes:
        id: names the run in its namespace, whatever its task.
        status: of the run, as it was when the handle was made or refreshed last.
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

    def __init__(
        self,
        client: Client,
        head: Head,
        definition: Definition | None,
        story: Story | None = None,
    ) -> None:
        self._client, self._definition, self._story = client, definition, story
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
        story = await self._find_story()
        self._take(await self._client.follow(self._key, self._first, story))
        return self

    async def _find_story(self) -> Story:
        """Return the story of the input, which is looked for where the run was listed."""
        if self._story is None:
            given = await self._client.current(self._key, self._first)
            self._story = given.story
        return self._story

    @property
    def input_id(self) -> str | None:
        """What names the input; None where the run was listed, and not refreshed since."""
        return None if self._story is None else self._story.input_id or None

    @property
    def turn(self) -> int:
        """The turn that took up the input, from 1; 0 where none had at the last look."""
        return 0 if self._story is None else self._story.turn

    @property
    def is_queued(self) -> bool:
        """Whether the input waited for a turn when the handle was made or refreshed last."""
        return self._story is not None and self._story.is_queued

    async def result(self, timeout: timedelta | None = None) -> TaskResult[Out_co]:
        """Wait for the end of the turn that takes up the input, and return what it gave.

        As often as you like, and long after.

        Raises:
            TaskFailed: the handler raised, and no retry was left; `error` says what.
            TaskCancelled, TaskAborted, TaskTimedOut: the run was stopped.
            TaskNotFound: it was deleted.
            TimeoutError: there was no end within `timeout`.
        """
        if timeout is not None:
            seconds_of("a timeout", timeout)
        ended = self._outcome()
        if timeout is None:
            event = await ended
        else:
            complaint = f"run {self.id!r} did not end within {timeout}"
            system = self._client.around.system
            event = await system.within(timeout.total_seconds(), ended, complaint)
        if isinstance(event, TurnEnded):
            return self._result(event)
        self.status = Status.ABORTED if isinstance(event, Aborted) else event.status
        return TaskResult(self._output(event), self.status)

    async def _outcome(self) -> Outcome:
        return await self._client.outcome(self._key, self._first, await self._find_story())

    def _result(self, event: TurnEnded) -> TaskResult[Any]:
        """Return what a turn gave whose run went on."""
        if event.how == "failed":
            raise self._failure(event)
        output = None if event.output is None else self._load(event.output)
        if event.how == "suspended":
            return TaskResult(output, Status.SUSPENDED, event.reason)
        if event.how == "superseded":
            return TaskResult(output, Status.RUNNING, is_superseded=True)
        return TaskResult(self._load(event.output), Status.COMPLETED)

    def _load(self, output: Json) -> Any:
        return (self._definition.output if self._definition else _PLAIN).load(output, root="output")

    def _failure(self, event: Ended | TurnEnded) -> TaskFailed:
        record = ErrorRecord.load(event.error)
        error = RunError(record.type, record.message, record.traceback, event.attempts)
        return TaskFailed(
            f"run {self.id!r} failed after {event.attempts} attempts: {record.type}: "
            f"{record.message}",
            error,
        )

    def _output(self, event: Ended | Aborted) -> Any:
        reason = f": {event.reason}" if event.reason else ""
        match event:
            case Aborted():
                raise TaskAborted(f"run {self.id!r} was aborted{reason}")
            case Ended(Status.COMPLETED, output):
                return self._load(output)
            case Ended(Status.CANCELLED):
                raise TaskCancelled(f"run {self.id!r} was cancelled{reason}")
            case Ended(Status.TIMED_OUT):
                raise TaskTimedOut(f"run {self.id!r} did not end in time{reason}")
            case _:
                raise self._failure(event)

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

    async def withdraw(self) -> None:
        """Take the input back, while it waits for a turn; `result` then raises `TaskCancelled`.

        If it is the only input of a run that has not begun, the run is cancelled.

        Raises:
            TaskConflict: a turn has taken it up, or the run has ended.
            TaskNotFound: it was deleted.
        """
        await self._client.withdraw(self._key, self._first, await self._find_story())

    async def retry(self) -> TaskRun[Out_co]:
        """Begin the turn anew that failed, timed out, or was cancelled or aborted.

        What is recorded of it stays recorded; its attempts are counted from 0, and it has all of
        its timeout again. Inputs that waited when the run ended are taken up after it. Returns the
        handle.

        Raises:
            TaskConflict: the run has not ended, or has completed; or somebody else was quicker.
            TaskNotFound: it was deleted.
        """
        await self._client.retry(self._key, self._first)
        return await self.refresh()

    async def resolve(
        self, step: str, *, output: Any = None, error: BaseException | None = None
    ) -> None:
        """Tell the outcome of a step, where nobody knows it; then `retry` the run.

        It is not known of a step that may run at most once and was interrupted (`StepUnknown`), and
        of one whose result could not be written (`CodecError`).

        Args:
            step: its name; `pay#2` is the second `pay` of its turn.
            output: what it gave.
            error: what it raised, instead.

        Raises:
            UsageError: its outcome is known, or it never began; or both are told.
            TaskConflict: the run has not ended.
            TaskNotFound: it was deleted.
            CodecError: the output cannot be written.
        """
        if output is not None and error is not None:
            raise UsageError("a step has an output or an error, not both")
        name, _, number = step.partition("#")
        if not name or (number and not number.isdecimal()):
            raise UsageError(f"{step!r} names no step: say 'name', or 'name#2' for the second one")
        data = self._client.dump(_codec_of(output), output, f"the outcome of {step!r}", "output")
        told = None if error is None else ErrorRecord.from_exception(error).dump()
        slot = Slot("step", name, int(number or 1))
        await self._client.resolve(self._key, self._first, slot, data, told)

    async def stream(self, after: int = 0) -> AsyncIterator[StreamItem | Retracted]:
        """Give what the run emitted after the offset `after`, until the input's turn ends.

        Any number of readers, in any process, at any time: each gets every item once, without a
        gap.

        Raises:
            TaskNotFound: the run was deleted.
        """
        if after < 0:
            raise UsageError(f"an offset is 0 or more, not {after!r}")
        story = await self._find_story()
        async for event in self._client.stream(self._key, self._first, story, after):
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
    """Return what writes a value that is read by an annotation which is not known here."""
    if value is None or isinstance(value, (bool, int, float, str, list, dict)):
        return _PLAIN
    return codec_for(type(value), where=f"the value {value!r:.100}")
