"""What anyone may do with runs, from any process: start, look, tell, stop, listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from outlast.codec import Codec, Json
from outlast.engine import inputs
from outlast.engine.inputs import Conditions, Given
from outlast.engine.news import LOOKS_AGAIN, News
from outlast.engine.payloads import check_size
from outlast.engine.turn import MAX_NAME
from outlast.errors import (
    Conflict,
    Corrupt,
    TaskConflict,
    TaskNotFound,
    Unavailable,
    UsageError,
)
from outlast.journal import FORCE, Change, Claim, Entry, Head
from outlast.model import decisions
from outlast.model.events import (
    FOLDED_TYPES,
    STREAM_TYPES,
    TYPE_OF,
    Aborted,
    CancelRequested,
    Created,
    Emitted,
    Ended,
    Event,
    Resolved,
    Retried,
    Signalled,
    Slot,
    StreamEvent,
    TakenBack,
    TurnBegan,
    TurnEnded,
    Withdrawn,
    decode,
    encode,
)
from outlast.model.fold import fold
from outlast.model.run import Run
from outlast.model.story import STORY_TYPES, Outcome, Story
from outlast.model.terms import Terms
from outlast.store import Hint, Reading

if TYPE_CHECKING:
    from outlast.engine.attempt import Surroundings
    from outlast.engine.worker import Worker

T = TypeVar("T")

_PAUSES: Final = (0.05, 0.2, 1.0)
"""Seconds before a request that got no answer is said again; then the caller is told."""

_PAGE: Final = 500
"""Entries of a stream or a history that are read at a time."""

_GATHERS: Final = (0.001, 0.05)
"""Seconds for which whoever waits for a turn's end leaves a hint, because more will follow: at
first, and at most."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A run as it was read."""

    head: Head
    run: Run


class Client:
    """What an open app does with runs."""

    around: Surroundings
    worker: Worker | None

    def __init__(
        self, around: Surroundings, worker: Worker | None, check: Callable[[], object]
    ) -> None:
        """Belong to an app; `check` raises unless it may be used here and now."""
        self.around, self.worker = around, worker
        self._check = check
        self._floor: int | None = None

    # Starting

    async def start(
        self, created: Created, id: str, conditions: Conditions, *, is_delayed: bool
    ) -> Given:
        """Make the run, and take it up in the same write if it can be; or give it the input.

        Raises:
            TaskConflict: another task, or another input, is stored under the id.
            SteeringQueueFull, LastInputMismatch: the run that is there takes no input now.
        """
        claim = None
        if self.worker is not None and not is_delayed:
            claim = self.worker.reserve(key_of(id), created.queue, created.name)
        run = Run()
        now = self.around.system.wall()
        run.evolve(created, now)
        events: list[Event] = [created]
        if claim is not None:
            began = TurnBegan(1, created.input_id, deadline=Terms(now, conditions.timeout).deadline)
            run.evolve(began, now)
            events.append(began)
        asked_at = self.around.system.monotonic()
        is_begun = False
        try:
            seen = await self._create(key_of(id), events, run, claim)
            if claim is not None and _is_claimed(seen.head, claim):
                assert self.worker is not None
                self.worker.begin_new(seen.head, seen.run, asked_at)
                is_begun = True
        finally:
            if claim is not None and not is_begun:
                assert self.worker is not None
                self.worker.unreserve(key_of(id))
        if seen.run is not run:
            return await inputs.give(self, seen, created, conditions)
        story = Story(created.input_id, run.revision)
        for event in events:
            story.follow(event)
        return Given(seen.head, story)

    async def _create(
        self, key: str, events: Sequence[Event], run: Run, claim: Claim | None
    ) -> Seen:
        """Write the events that make `run`, and return it; or what is there already."""
        store, entries = self.around.store, tuple(encode(event) for event in events)
        # Whoever holds the lease numbers its changes under the same id, from 1.
        change_id = self.around.system.draw_name() if claim is None else f"{claim.id}.0"
        while True:
            if self._floor is None:
                self._floor = (await self.ask(lambda: store.read(key, limit=0))).floor
            said = 0
            create = Change(
                key=key,
                id=change_id,
                entries=entries,
                card=run.card(),
                revision=0,
                first=self._floor + 1,
                claim=claim,
            )

            async def say(create: Change = create) -> list[Head]:
                nonlocal said
                said += 1
                return await store.commit(create)

            try:
                [head] = await self.ask(say)
            except Conflict:
                if (seen := await self.look(key)) is not None:
                    return seen
                if said > 1:
                    raise Unavailable(
                        f"whether {key!r} was made is not known: the store did not answer at "
                        "first, and nothing is there now; start it again unless somebody deletes "
                        "runs"
                    ) from None
                continue  # a journal was deleted meanwhile, and numbers go on from there
            written = head.first + len(entries) - 1
            if head.revision == written and (claim is None or _is_claimed(head, claim)):
                run.revision = head.revision
                return Seen(head, run)
            # Said twice, and meanwhile others have written, or another worker was quicker.
            if (seen := await self.look(key)) is None:
                raise not_found(key)
            return seen

    # Looking

    async def look(self, key: str) -> Seen | None:
        """Return the run as it is now; None where there is none."""
        reading = await self.ask(lambda: self.around.store.read(key, None, types=FOLDED_TYPES))
        self._floor = reading.floor
        if reading.head is None:
            return None
        return Seen(reading.head, fold(reading.entries))

    async def see(self, key: str, first: int) -> Seen:
        """Return the run as it is now.

        Raises:
            TaskNotFound: there is none, or it is not the one with the first revision `first`.
        """
        seen = await self.look(key)
        if seen is None or seen.head.first != first:
            raise not_found(key)
        return seen

    async def head(self, key: str, first: int | None = None) -> Head:
        """Return the head of a run.

        Raises:
            TaskNotFound: there is none, or it is not the one with the first revision `first`.
        """
        reading = await self.ask(lambda: self.around.store.read(key, limit=0))
        return found(reading.head, key, first)

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Ask the store, and again for a while when it does not answer.

        Raises:
            Unavailable: it did not answer.
            UsageError: the app is not open, or belongs to another process or event loop.
        """
        self._check()  # whoever has a handle comes here without asking the app
        for pause in _PAUSES:
            try:
                return await request()
            except Unavailable as error:
                if error.is_final:
                    raise
                await self.around.system.sleep(pause)
        return await request()

    # Telling and stopping

    async def signal(self, key: str, first: int, name: str, data: Json, id: str | None) -> None:
        """Leave a signal for the run; one that is said again with the same id is left once.

        Raises:
            TaskConflict: the run has ended.
            TaskNotFound: it is not there.
        """
        fact = Signalled(name, data)
        change = Change(
            key=key,
            id=f"signal:{id or self.around.system.draw_name()}",
            entries=(encode(fact),),
            fact=True,
            first=first,
        )
        try:
            await self.ask(lambda: self.around.store.commit(change))
        except Conflict as refused:
            head = await self.head(key, first)
            raise TaskConflict(
                f"run {id_of(key)!r} has ended ({head.card.status}): it takes the signal {name!r} "
                "no more"
            ) from refused

    async def cancel(self, key: str, first: int, reason: str | None) -> None:
        """Ask the run to stop; does nothing where it has ended or was asked before."""
        change_id = f"cancel:{self.around.system.draw_name()}"
        while True:
            seen = await self.see(key, first)
            # A lease that has ended, and one that its owner may still renew, look alike from here:
            # the store tells them apart, and refuses a decision while one is held.
            is_held = seen.head.lease is not None
            event = decisions.cancel(seen.run, reason, is_held=is_held)
            if event is None:
                return
            if isinstance(event, CancelRequested):
                change = self._fact(seen, event, change_id)
            else:
                change = self._end(seen, event, change_id)
            if await self.is_written(change):
                return

    async def abort(self, key: str, first: int, reason: str | None) -> None:
        """End the run at once, whoever holds it; does nothing where it has ended."""
        change_id = f"abort:{self.around.system.draw_name()}"
        while True:
            seen = await self.see(key, first)
            event = decisions.abort(seen.run, reason)
            if event is None:
                return
            change = self._end(seen, event, change_id, force=True)
            if await self.is_written(change):
                return

    async def withdraw(self, key: str, first: int, story: Story) -> None:
        """Take the input back; does nothing where that was done before.

        Raises:
            TaskConflict: a turn has taken it up, or the run has ended.
        """
        change_id = f"withdraw:{self.around.system.draw_name()}"
        while True:
            seen = await self.see(key, first)
            is_held = seen.head.lease is not None
            event = decisions.withdraw(seen.run, story.input_id, is_held=is_held)
            if event is None:
                break
            if isinstance(event, Ended):
                if await self.is_written(self._end(seen, event, change_id)):
                    return
            elif await self.is_written(self._fact(seen, event, change_id)):
                break
        # Whether it was withdrawn or taken up first, the order in the journal says.
        await self.follow(key, first, story)
        if not story.is_withdrawn:
            where = (
                f"turn {story.turn} has taken it up"
                if story.turn
                else "another input has taken its place"
                if isinstance(story.outcome, TurnEnded)
                else "its run has ended"
            )
            raise TaskConflict(
                f"the input {story.input_id!r} of run {id_of(key)!r} cannot be withdrawn: {where}"
            )

    async def retry(self, key: str, first: int) -> None:
        """Open a run that has ended without a result, so that its turn begins anew.

        Raises:
            TaskConflict: it has not ended, or has completed.
        """
        change_id = f"retry:{self.around.system.draw_name()}"
        while True:
            seen = await self.see(key, first)
            event = decisions.retry(seen.run, self.around.system.wall())
            if event is None:
                raise TaskConflict(
                    f"run {id_of(key)!r} is {seen.run.status}: a run is retried that has failed, "
                    "timed out, or was cancelled or aborted"
                )
            card = seen.run.after([event]).moving_card()
            change = self._of_ended(seen, change_id, event, card=card, close=False)
            if await self.is_written(change):
                return

    async def resolve(self, key: str, first: int, slot: Slot, value: Json, error: Json) -> None:
        """Tell the outcome of a step of a run that has ended.

        Raises:
            TaskConflict: the run has not ended.
            UsageError: the outcome is known, or the step never began.
        """
        change_id = f"resolve:{self.around.system.draw_name()}"
        while True:
            seen = await self.see(key, first)
            if seen.run.outcome is None:
                raise TaskConflict(
                    f"run {id_of(key)!r} is {seen.run.status}: an outcome is told when it has ended"
                )
            event = decisions.resolve(seen.run, slot, value, error)
            if event is None:
                raise UsageError(
                    f"the outcome of the step {str(slot)!r} of run {id_of(key)!r} is known, or the "
                    "step never began"
                )
            if await self.is_written(self._of_ended(seen, change_id, event)):
                return

    def _fact(self, seen: Seen, event: CancelRequested | Withdrawn, id: str) -> Change:
        head = seen.head
        return Change(key=head.key, id=id, entries=(encode(event),), fact=True, first=head.first)

    def _of_ended(self, seen: Seen, id: str, event: Retried | Resolved, **more: Any) -> Change:
        head = seen.head
        return Change(
            key=head.key,
            id=id,
            entries=(encode(event),),
            first=head.first,
            revision=head.revision,
            closed=True,
            **more,
        )

    async def is_written(self, change: Change) -> bool:
        """Write the change; False where the journal has moved on since it was decided."""
        try:
            await self.ask(lambda: self.around.store.commit(change))
        except Conflict:
            return False
        return True

    def _end(self, seen: Seen, event: Ended | Aborted, id: str, *, force: bool = False) -> Change:
        return Change(
            key=seen.head.key,
            id=id,
            entries=(encode(event),),
            fence=FORCE if force else None,
            card=seen.run.after([event]).moving_card(),
            close=True,
            release=force,
            first=seen.head.first,
            revision=None if force else seen.head.revision,
        )

    # Listening

    async def current(self, key: str, first: int) -> Given:
        """Return the input that the run's newest turn works on, or will.

        Raises:
            TaskNotFound: it is not there, or was deleted.
        """
        for kind in (TurnBegan, Created):  # the second counts where no turn has begun
            for entry in await self._newest(key, TYPE_OF[kind]):
                if (id := _input_id(entry)) is not None:
                    story = Story(id, entry.revision - 1)
                    return Given(await self.follow(key, first, story), story)
        raise not_found(key)

    async def _newest(self, key: str, type: str) -> Sequence[Entry]:
        store = self.around.store
        return (await self.ask(lambda: store.read(key, types=(type,), last=1))).entries

    async def follow(self, key: str, first: int, story: Story) -> Head:
        """Take what was written since into the story, and return the head of its run.

        Raises:
            TaskNotFound: it is not there, or was deleted.
        """
        reading = await self.ask(
            lambda: self.around.store.read(key, story.revision, types=STORY_TYPES)
        )
        head = found(reading.head, key, first)
        # Whoever else follows it meanwhile may have come further.
        for entry in reading.entries:
            if entry.revision > story.revision:
                story.follow(decode(entry), entry.revision)
        story.revision = max(story.revision, head.revision)
        return head

    async def outcome(self, key: str, first: int, story: Story) -> Outcome:
        """Return how it went for an input, as soon as that is known.

        Raises:
            TaskNotFound: its run is not there, or is deleted meanwhile.
        """
        record = None if self.worker is None else self.worker.record_of(key)
        if record is not None and record.first == first:
            # Under a lease of ours its end is known here before it could be read.
            self._check()
            ended, run = await record.outcome_within(LOOKS_AGAIN), record.run
            is_its_own = run.input is not None and run.input.id == story.input_id
            if ended is not None and is_its_own and not run.is_between:
                return ended  # between two turns the last one has an outcome of its own
        system, changed = self.around.system, asyncio.Event()
        news, timer, pause = News(self.around.store, system), None, _GATHERS[0]

        def hear(hint: Hint) -> None:
            nonlocal timer
            if hint.closed or not hint.revision:
                changed.set()
            elif timer is None:  # it may be one more step of thousands
                timer = system.call_later(pause, changed.set)

        with self.around.hints.listening(key, hear):
            while True:
                changed.clear()
                timer = None
                await self.follow(key, first, story)
                if story.outcome is not None:
                    return story.outcome
                await news.wait(changed)
                pause = min(2 * pause, _GATHERS[1])

    async def stream(
        self, key: str, first: int, story: Story, after: int
    ) -> AsyncIterator[StreamEvent]:
        """Give the stream's items after the offset `after`, as they come.

        It ends with the turn that took up the input whose story this is.
        """
        store = self.around.store
        news = News(store, self.around.system)
        revision, last = await self._find_offset(key, first, after)
        with self.around.hints.changes(key) as changed:
            while True:
                changed.clear()
                await self.follow(key, first, story)
                ended_at = story.ended_at  # if it has ended, all of it is there to be read

                def read(start: int = revision, newest: int | None = last) -> Awaitable[Reading]:
                    return store.read(key, start, types=STREAM_TYPES, last=newest, limit=_PAGE)

                reading = await self.ask(read)
                found(reading.head, key, first)
                items = [_stream_event(entry) for entry in reading.entries]
                if last is not None and items and items[0].offset > after + 1:
                    last += items[0].offset - after - 1  # so many came while we looked
                    continue
                for entry, item in zip(reading.entries, items, strict=True):
                    if ended_at and entry.revision > ended_at:
                        return
                    revision, last = entry.revision, None
                    if item.offset > after:
                        yield item
                if len(items) == _PAGE:
                    continue
                if ended_at:
                    return
                await news.wait(changed)

    async def _find_offset(self, key: str, first: int, after: int) -> tuple[int, int | None]:
        """Return after which revision to read for the items after this offset, or how many newest.

        Offsets are consecutive, so their number tells where they begin: nothing before is read.
        """
        if after == 0:
            return 0, None
        reading = await self.ask(lambda: self.around.store.read(key, types=STREAM_TYPES, last=1))
        head = found(reading.head, key, first)
        newest = _stream_event(reading.entries[0]).offset if reading.entries else 0
        return (0, newest - after) if newest > after else (head.revision, None)

    async def history(self, key: str, first: int, after: int) -> AsyncIterator[Entry]:
        """Give the entries after the revision `after` that are there now, oldest first."""
        while True:
            reading = await self.ask(partial(self.around.store.read, key, after, limit=_PAGE))
            found(reading.head, key, first)
            for entry in reading.entries:
                after = entry.revision
                yield entry
            if len(reading.entries) < _PAGE:
                return

    # What is written

    def dump(self, codec: Codec[Any], value: Any, what: str, root: str) -> Json:
        """Return the value as JSON; errors begin the path to what they refuse with `root`.

        Raises:
            CodecError: it cannot be written, or is too large.
        """
        data = codec.dump(value, root=root)
        check_size(data, self.around.max_payload, what)
        return data


def key_of(id: str) -> str:
    """Return the key of the journal that holds the run."""
    return f"run/{id}"


def id_of(key: str) -> str:
    """Return the id of the run whose journal has this key."""
    return key.removeprefix("run/")


def check_id(id: object) -> None:
    """Refuse what is no id.

    Raises:
        UsageError: it is not a str of 1 to 200 characters.
    """
    if not isinstance(id, str) or not 0 < len(id) <= MAX_NAME:
        raise UsageError(f"an id is a str of 1 to {MAX_NAME} characters, not {id!r}")


def not_found(key: str) -> TaskNotFound:
    """Return the error for a run that is not there, or not any more."""
    return TaskNotFound(f"no run has the id {id_of(key)!r}, or it was deleted")


def found(head: Head | None, key: str, first: int | None) -> Head:
    """Return the head, if it is there and of the run with that first revision.

    Raises:
        TaskNotFound: it is not.
    """
    if head is None or first not in (None, head.first):
        raise not_found(key)
    return head


def _is_claimed(head: Head, claim: Claim) -> bool:
    return head.lease is not None and head.lease.fence.id == claim.id


def _input_id(entry: Entry) -> str | None:
    """Return the id of the input that the entry tells of; None where it is told elsewhere."""
    try:
        event = decode(entry)
    except Corrupt:
        return ""  # of such a run only its end can be told
    assert isinstance(event, TurnBegan | Created)
    return event.input_id or None


def _stream_event(entry: Entry) -> StreamEvent:
    event = decode(entry)
    assert isinstance(event, Emitted | TakenBack)  # only their types are read
    return event
