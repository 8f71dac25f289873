"""What must never be written, whoever asks, and what a good rest is.

These are the promises, said again without the rules that keep them: a check looks at the entries
before and after a request, and at what whoever asked had seen. Only what a run amounts to is taken
from the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from outlast.journal import FORCE, Change, Entry, Fence, Lease
from outlast.model.events import (
    END_TYPES,
    STREAM_TYPES,
    TYPE_OF,
    AttemptBegan,
    AttemptFailed,
    CancelRequested,
    Checkpointed,
    Created,
    Emitted,
    Ended,
    HandedBack,
    Parked,
    Signalled,
    Status,
    StepBegan,
    TakenBack,
    TurnBegan,
    decode,
)
from outlast.model.fold import fold
from outlast.model.run import NotAllowed, Run
from tests.worlds.asking import Answer, Raised, Request
from tests.worlds.ledger import Books, Journal
from tests.worlds.workers import Handler, Op

FACTS: Final = {TYPE_OF[event] for event in (Signalled, CancelRequested)}
EDGES: Final = {
    TYPE_OF[event] for event in (TurnBegan, AttemptBegan, AttemptFailed, Parked, HandedBack, Ended)
}
MANY: Final = 12
"""More claims than a good world can see, however its faults fall."""

ENTRANCES: Final = {TYPE_OF[event] for event in (TurnBegan, AttemptBegan)}


def what_is_wrong(before: Books, request: Request, after: Books, answer: Answer) -> str | None:
    """Return what the request has done that must never be done."""
    if isinstance(answer.value, Raised):
        return None if _same(before, after) else "what was refused has changed something"
    check = _CHECKS.get(request.verb)
    return next(check(before, request, after, answer), None) if check else None


def _same(before: Books, after: Books) -> bool:
    return before._replace(claims=after.claims) == after


def _commit(before: Books, request: Request, after: Books, answer: Answer) -> Iterator[str]:
    change: Change = request.args[0]
    old, new = before.of(change.key), after.of(change.key)
    if new is None:
        yield "a journal was written, and is not there"
        return
    entries = old.entries if old else ()
    if new.entries[: len(entries)] != entries:
        yield "a journal was not appended to"
    written = new.entries[len(entries) :]
    if old is not None and not written and change.entries:
        if new != old:
            yield "a change that was said again has changed something"
        return
    yield from _numbers(before, change.key, entries, written)
    yield from _lease(old, change, new)
    yield from _order(entries, written)
    yield from _entrance(old, written, before.wall)
    yield from _sight(request.seen, change, entries, written)
    yield from _head(new, after.wall)


def _numbers(
    before: Books, key: str, entries: Sequence[Entry], written: Sequence[Entry]
) -> Iterator[str]:
    gone = [entry for buried in before.buried if buried.key == key for entry in buried.entries]
    first = written[0].revision if written else 0
    if written and entries and first != entries[-1].revision + 1:
        yield "revisions are not consecutive"
    if written and any(entry.revision >= first for entry in gone):
        yield "a revision was used twice"
    if {entry.change for entry in written} & {entry.change for entry in (*entries, *gone)}:
        yield "a change was written twice"


def _lease(old: Journal | None, change: Change, new: Journal) -> Iterator[str]:
    held = old.head.lease if old else None
    if isinstance(change.fence, Fence) and (held is None or change.fence != held.fence):
        yield "somebody has written with a lease that is not theirs"
    if change.fence is None and not change.fact and old and old.is_held:
        yield "a decision was written while somebody else holds the lease"
    if change.claim and new.head.token <= (old.head.token if old else 0):
        yield "a token was used twice"
    if change.fact and new.head.lease != held:
        yield "a fact has changed somebody's lease"
    rests = {draft.type for draft in change.entries} & {TYPE_OF[Parked], TYPE_OF[HandedBack]}
    if rests and new.head.lease is not None:
        yield "a run that rests holds a lease"
    is_decision = not change.fact and not isinstance(change.fence, Fence)
    if new.head.lease is not None and not change.claim and (change.release or is_decision):
        yield "a lease is left that was given back, taken away, or void"


def _order(entries: Sequence[Entry], written: Sequence[Entry]) -> Iterator[str]:
    if written and any(entry.type in END_TYPES for entry in entries):
        yield "something was recorded after the end"
    slots = [_slot(entry) for entry in (*entries, *written) if entry.type == TYPE_OF[Checkpointed]]
    if len(slots) > len(set(slots)):
        yield "an outcome was recorded twice"
    yield from _signals([decode(entry) for entry in (*entries, *written)])
    began = [entry.data for entry in (*entries, *written) if entry.type == TYPE_OF[StepBegan]]
    if len(began) > len(set(began)):
        yield "a step that may run at most once began twice"


def _signals(events: Sequence[object]) -> Iterator[str]:
    """Hold waits to take each signal once, oldest first."""
    sent: dict[str, list[object]] = defaultdict(list)
    for event in events:
        match event:
            case Signalled(name, value):
                sent[name].append(value)
            case Checkpointed(kind="wait", name=name, value=value, timed_out=False):
                if not sent[name]:
                    yield "a signal was taken that nobody has sent, or twice"
                elif sent[name].pop(0) != value:
                    yield "a signal was taken before an older one"


def _entrance(old: Journal | None, written: Sequence[Entry], wall: float) -> Iterator[str]:
    """Hold a handler to be entered only when there is something for it to do."""
    types = {entry.type for entry in written}
    if old is None or not types & {*ENTRANCES, TYPE_OF[AttemptFailed]}:
        return
    run = run_of(old)
    if run.cancel is not None:
        yield "a handler is entered, or is to be, of a run that was asked to stop"
    if not types & ENTRANCES:
        return
    edges = [decode(entry) for entry in old.entries if entry.type in {*EDGES, TYPE_OF[Created]}]
    match edges[-1]:
        case Parked(due, waits):
            has_come = any(wait.name in run.signals for wait in waits)
        case Created(due=due) | AttemptFailed(retry_at=due) | HandedBack(due=due):
            has_come = False
        case _:  # it died at work
            return
    if not has_come and (due is None or due > wall):
        yield "a handler was entered before its time"


def _slot(entry: Entry) -> object:
    event = decode(entry)
    assert isinstance(event, Checkpointed)
    return event.kind, event.name, event.number


def _sight(
    seen: int, change: Change, entries: Sequence[Entry], written: Sequence[Entry]
) -> Iterator[str]:
    """Hold decisions to what their writer knew."""
    if change.fact or change.fence == FORCE:
        stops = {draft.type for draft in change.entries} & {TYPE_OF[CancelRequested], *END_TYPES}
        if stops and entries and seen < entries[0].revision:
            yield "somebody has stopped a run that they have not seen"
        return
    unseen = [entry for entry in entries if entry.revision > seen]
    if written and any(entry.type not in FACTS for entry in unseen):
        yield "somebody has decided who had not seen an earlier decision"
    if unseen and (change.release or change.close or any(map(_is_edge, written))):
        yield "a fact that was there was not seen by what was decided"


def _is_edge(entry: Entry) -> bool:
    if entry.type in EDGES:
        return True
    event = decode(entry) if entry.type == TYPE_OF[Checkpointed] else None
    return isinstance(event, Checkpointed) and event.timed_out


def _head(journal: Journal, wall: float) -> Iterator[str]:
    """Hold the head to be the sum of the entries."""
    head, entries = journal.head, journal.entries
    try:
        run = run_of(journal)
    except NotAllowed as error:
        yield f"entries do not follow from each other: {error}"
        return
    if (head.first, head.revision) != (entries[0].revision, entries[-1].revision):
        yield "the head has other revisions than its entries"
    if head.facts != sum(entry.type in FACTS for entry in entries):
        yield "the head counts other facts than its entries"
    if run.attempt != sum(entry.type == TYPE_OF[AttemptFailed] for entry in entries):
        yield "the run counts other failed attempts than its entries"
    if head.closed is not (run.outcome is not None):
        yield "a journal is closed before its run has ended, or open afterwards"
    if head.card.status != run.status:
        yield f"the card says {head.card.status}, and the run is {run.status}"
    yield from _due(journal, run, wall)


def _due(journal: Journal, run: Run, wall: float) -> Iterator[str]:
    """Hold a run to be due when it needs a worker, or before."""
    head = journal.head
    if head.closed and head.card.due is not None:
        yield "a run that has ended is due"
    if run.is_entered and (head.card.due is None or head.card.due > wall):
        yield "a run at work is not due, and a crash would leave it to nobody"
    if run.outcome is None and not run.is_entered:
        own = run.due if run.due is not None else float("inf")
        if own < (head.card.due if head.card.due is not None else float("inf")):
            yield "a run is due later than it has to be"


def _claim(before: Books, request: Request, after: Books, answer: Answer) -> Iterator[str]:
    if after.claims > MANY:
        yield "runs are claimed again and again, and nothing comes of it"
    for head in answer.value.heads:
        old = before.of(head.key)
        assert old is not None
        if old.is_held:
            yield "a lease was taken from its holder before its end"
        if old.head.card.due is None or old.head.card.due > before.wall:
            yield "a run was claimed that is not due"
        if head.token <= old.head.token:
            yield "a token was used twice"


def _renew(before: Books, request: Request, after: Books, answer: Answer) -> Iterator[str]:
    asked: Sequence[Lease] = request.args[0]
    for lease in asked:
        old, new = before.of(lease.key), after.of(lease.key)
        if old != new and (old is None or old.head.fence != lease.fence):
            yield "a lease was renewed by somebody who does not hold it"
        if old and old.head.fence == lease.fence and not (new and new.is_held):
            yield "a lease was not renewed though nobody had taken it"


def _delete(before: Books, request: Request, after: Books, answer: Answer) -> Iterator[str]:
    key, _ = request.args
    old = before.of(key)
    if old is None:
        return
    if old.is_held:
        yield "a journal was deleted while somebody held its lease"
    if old.head.revision != request.seen:
        yield "something was deleted that nobody had read"
    if after.floor < old.head.revision:
        yield "the floor is below what was deleted"


_CHECKS: Final[dict[str, Callable[[Books, Request, Books, Answer], Iterator[str]]]] = {
    "commit": _commit,
    "claim": _claim,
    "renew": _renew,
    "delete": _delete,
}


def run_of(journal: Journal) -> Run:
    """Return what the journal amounts to."""
    return fold(entry for entry in journal.entries if entry.type not in STREAM_TYPES)


# A good rest


def unsettled(journal: Journal, effects: Collection[str], handler: Handler) -> str | None:
    """Return what is wrong with a run of which nothing will happen any more."""
    run = run_of(journal)
    if journal.is_held:
        return "a lease is held for ever"
    if run.outcome is None:
        return _unfinished(run)
    if run.status is Status.COMPLETED:
        return next(_incomplete(journal, run, effects, handler.ops), None)
    if run.status is Status.FAILED and run.cancel is None:
        deaths = _deaths(journal) + 1
        return None if deaths == handler.max_recoveries else f"{deaths} deaths made it fail"
    return None


def _deaths(journal: Journal) -> int:
    """Return how often it was taken over since its last outcome."""
    deaths = 0
    for entry in journal.entries:
        event = decode(entry)
        match event:
            case Checkpointed():
                deaths = 0
            case AttemptBegan(died):
                deaths += died
    return deaths


def _unfinished(run: Run) -> str | None:
    if run.cancel is not None:
        return "nobody will ever see the cancel"
    if run.parked is None or run.is_entered:
        return "nobody will ever go on with it"
    if any(wait.name in run.signals for wait in run.parked.waits):
        return "nobody will ever take the signal"
    return None if run.parked.waits else "it waits for nothing, for ever"


def _incomplete(
    journal: Journal, run: Run, effects: Collection[str], ops: Sequence[Op]
) -> Iterator[str]:
    names = [name for op in ops for name in op.names]
    if sorted(slot.name for slot in run.checkpoints) != sorted(names):
        yield f"it has completed with {[slot.name for slot in run.checkpoints]}, not {names}"
    for slot, checkpoint in run.checkpoints.items():
        is_once = any(op.kind == "once" and slot.name in op.names for op in ops)
        if is_once and checkpoint.event.error is None and slot.name not in effects:
            yield f"{slot.name} is said to have run, and has not"
    emitting = [name for op in ops if op.kind == "emitting" for name in op.names]
    if (items := stream_of(journal)) != ["first", "second"] * len(emitting):
        yield f"a reader of the stream gets {items}"


def stream_of(journal: Journal) -> Sequence[object]:
    """Return what a reader of the stream is left with."""
    items: dict[int, object] = {}
    for entry in journal.entries:
        if entry.type not in STREAM_TYPES:
            continue
        event = decode(entry)
        match event:
            case Emitted(offset, _, value):
                items[offset] = value
            case TakenBack(offset, after, _, step):
                assert step is not None
                items = {number: item for number, item in items.items() if number <= after}
            case _:
                raise AssertionError(event)
    return list(items.values())
