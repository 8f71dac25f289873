"""What a start does with a run that is there already: it joins it, or gives it another input.

The one rule that must not be broken: whoever gives an input decides on the run as it is when the
fact is written, and decides again when others wrote first.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from outlast.errors import LastInputMismatch, SteeringQueueFull, TaskConflict
from outlast.journal import Change, Head
from outlast.model import turns
from outlast.model.events import TYPE_OF, Created, InputGiven, Steering, decode, encode
from outlast.model.fold import loaded
from outlast.model.run import Input
from outlast.model.story import Story
from outlast.model.turns import MAX_PENDING, Answer, Offer

if TYPE_CHECKING:
    from outlast.engine.client import Client, Seen
    from outlast.store import Reading

_INPUT_TYPES: Final = (TYPE_OF[Created], TYPE_OF[InputGiven])
_FEW: Final = 16
"""Entries that are read at first, from the newest on, to find an input that is said again."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """On what conditions an input is given.

    Attributes:
        steering: what it does to a turn under way; None: it is refused then.
        max_pending: how many may wait, where the run was not started with a number of its own.
        if_last_input_id: the input that it follows; None: any.
        is_named: its giver named it, and may have given it before.
        timeout: seconds that a turn may take that begins with it at once.
    """

    steering: Steering | None = None
    max_pending: int = MAX_PENDING
    if_last_input_id: str | None = None
    is_named: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """An input of a run, as far as its story is known."""

    head: Head
    story: Story


async def give(client: Client, seen: Seen, created: Created, conditions: Conditions) -> Given:
    """Give the run what a start of it would have begun with, or join what was said before.

    Raises:
        TaskConflict: the run takes no other input, or has another one under this id.
        SteeringQueueFull: too many inputs wait.
        LastInputMismatch: the newest input is another one than expected.
        TaskNotFound: the run was deleted meanwhile.
    """
    key, first = seen.head.key, seen.head.first
    offer = Offer(
        created.name,
        created.input_id,
        created.input,
        conditions.steering,
        seen.run.start.options.get("max_pending", conditions.max_pending),
        conditions.if_last_input_id,
    )
    while True:
        await _load(client, seen, offer)
        answer = turns.answer(seen.run, offer)
        is_first = offer.input_id == seen.run.start.input_id
        if conditions.is_named and offer.known is None and (is_first or answer is not Answer.TAKE):
            # What is said again is found, however long ago it was said.
            offer = replace(offer, known=await _find(client, seen, offer.input_id))
            answer = turns.answer(seen.run, offer)
        if answer is Answer.JOIN:
            joined = offer.known or turns.newest(seen.run)
            assert joined is not None
            story = Story(joined.id, max(joined.revision, first) - 1)
            return Given(await client.follow(key, first, story), story)
        if answer is not Answer.TAKE:
            raise _refusal(seen, offer, answer)
        change = Change(
            key=key,
            id=f"input:{offer.input_id}",
            entries=(encode(turns.accepted(offer)),),
            fact=True,
            first=first,
            facts=seen.head.facts,
        )
        if not await client.is_written(change):
            seen = await client.see(key, first)
        elif conditions.is_named:
            # It may have been given before: then nothing was written, and it is told from there.
            seen = await client.see(key, first)
            offer = replace(offer, known=await _find(client, seen, offer.input_id))
        else:
            return Given(seen.head, Story(offer.input_id, seen.head.revision))


async def _load(client: Client, seen: Seen, offer: Offer) -> None:
    """Read the input that the run's newest turn is for, if it is known by its entry only."""
    input, head = seen.run.input, seen.head
    if input is None:
        return
    if offer.steering is None and seen.run.mode == "continued":
        # Whoever says it again says what was given, not what the turn went on with.
        seen.run.input = await _find(client, seen, input.id)
    elif not input.is_loaded:
        after, store = max(input.revision, head.first) - 1, client.around.store
        reading = await client.ask(lambda: store.read(head.key, after, limit=1))
        seen.run.input = loaded(input, reading.entries)


async def _find(client: Client, seen: Seen, id: str) -> Input | None:
    """Find an input among all that the run was given: the first one, or from the newest on."""
    key, store, count = seen.head.key, client.around.store, _FEW
    first = seen.head.first - 1 if id == seen.run.start.input_id else None

    def read(count: int) -> Awaitable[Reading]:
        if first is not None:
            return store.read(key, first, types=_INPUT_TYPES, limit=1)
        return store.read(key, types=_INPUT_TYPES, last=count)

    while True:
        entries = (await client.ask(partial(read, count))).entries
        for entry in reversed(entries):
            event = decode(entry)
            if isinstance(event, Created | InputGiven) and event.input_id == id:
                return Input(id, revision=entry.revision, value=event.input)
        if len(entries) < count:
            return None
        count *= 4


def _refusal(seen: Seen, offer: Offer, answer: Answer) -> Exception:
    run, id = seen.run, seen.head.key.removeprefix("run/")
    if answer is Answer.FULL:
        return SteeringQueueFull(
            f"run {id!r} has as many inputs that wait as it may, {turns.waiting(run)}; wait for "
            "one of them, or start runs with a larger max_pending"
        )
    if answer is Answer.MISMATCH:
        return LastInputMismatch(
            f"the newest input of run {id!r} is {run.last_input_id!r}, not "
            f"{offer.if_last_input_id!r}",
            run.last_input_id,
        )
    if run.start.name != offer.name:
        return TaskConflict(
            f"run {id!r} is of the task {run.start.name!r}, not of {offer.name!r}; an id names one "
            "run"
        )
    if offer.known is not None:
        return TaskConflict(
            f"run {id!r} was given another input under the id {offer.input_id!r}; give this one "
            "an id of its own"
        )
    return TaskConflict(
        f"run {id!r} is {run.status} with another input; start another run under another id, or "
        "say with steering= what a new input does"
    )
