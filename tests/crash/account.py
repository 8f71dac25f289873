"""What must be true of a journey, whatever its processes have gone through.

The journal, the stream and the result are asked, and compared with the ledger, which knows nothing
of them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from outlast import Retracted, StreamItem, TaskRun
from outlast.journal import Entry
from outlast.model.events import (
    FOLDED_TYPES,
    TYPE_OF,
    AttemptBegan,
    Checkpointed,
    Created,
    Emitted,
    Signalled,
    decode,
)
from outlast.model.fold import fold
from tests.crash import tasks
from tests.crash.ledger import Line
from tests.crash.stage import Stage


@dataclass
class Account:
    """All that is known of one journey."""

    id: str
    output: Sequence[str]
    entries: Sequence[Entry]
    stream: Sequence[StreamItem | Retracted]
    lines: Sequence[Line]
    seen: Sequence[StreamItem | Retracted] = field(default_factory=tuple)

    @property
    def deaths(self) -> int:
        """How often its handler was entered because the process before had died."""
        began = [decode(entry) for entry in self.entries if entry.type == TYPE_OF[AttemptBegan]]
        return sum(isinstance(event, AttemptBegan) and event.died for event in began)

    def check(self) -> None:
        """Hold the account to every promise."""
        self._check_output()
        self._check_what_was_accepted()
        self._check_steps()
        self._check_stream()
        self._check_owners()

    def _check_output(self) -> None:
        known = [tasks.UNKNOWN if label == "pay" else label for label in tasks.RESULT]
        assert list(self.output) in (tasks.RESULT, known)
        if tasks.UNKNOWN in self.output:
            assert self.deaths, "its outcome is known where no process has died"

    def _check_what_was_accepted(self) -> None:
        types = Counter(entry.type for entry in self.entries)
        assert types[TYPE_OF[Created]] == 1
        assert types[TYPE_OF[Signalled]] == 1
        accepted = {line.name for line in self.lines if line.what == "accepted"}
        assert accepted == {"start", "go"}

    def _check_steps(self) -> None:
        """No step has begun after it was recorded, and one that may run at most once ran so."""
        recorded: dict[object, float] = {}
        for entry in self.entries:
            event = decode(entry) if entry.type == TYPE_OF[Checkpointed] else None
            if isinstance(event, Checkpointed) and event.kind == "step" and event.error is None:
                assert event.value not in recorded, f"{event.value} is recorded twice"
                recorded[event.value] = entry.at
        assert recorded.keys() >= set(self.output) - {tasks.UNKNOWN, tasks.ANSWER}
        did = [line for line in self.lines if line.what in ("did", "failed")]
        for line in did:
            again = line.at > recorded.get(line.name, float("inf"))
            assert not again, f"{line.name} was recorded, and has run again"
        assert {line.name for line in did} >= recorded.keys()
        assert sum(line.name == "pay" for line in did) <= 1

    def _check_stream(self) -> None:
        offsets = [item.offset for item in self.stream]
        assert offsets == list(range(1, len(offsets) + 1))
        assert list(self.seen) == list(self.stream), "a reader has seen what is not there"
        standing: list[StreamItem] = []
        for item in self.stream:
            if isinstance(item, Retracted):
                standing = [
                    old
                    for old in standing
                    if not (old.step == item.step and old.offset > item.after)
                ]
            else:
                standing.append(item)
        assert [(item.value, item.step) for item in standing] == tasks.STREAM
        outside = [item for item in self.stream if isinstance(item, StreamItem) and not item.step]
        assert len(outside) == 3, "an item outside of steps was emitted twice"

    def _check_owners(self) -> None:
        """Revisions are consecutive, and each owner's are one stretch, begun as the rules say."""
        revisions = [entry.revision for entry in self.entries]
        assert revisions == list(range(revisions[0], revisions[0] + len(revisions)))
        owners = [entry.change.partition(".")[0] for entry in self.entries if "." in entry.change]
        stretches = [old for old, new in pairwise([*owners, ""]) if old != new]
        assert len(stretches) == len(set(stretches)), f"an owner came back: {owners}"
        entered = [line for line in self.lines if line.what == "entered"]
        assert entered[-1].name == str(self.deaths)


def is_entered(entries: Sequence[Entry]) -> bool:
    """Say whether, as far as these entries go, a process is at work on the run."""
    return fold(entry for entry in entries if entry.type in FOLDED_TYPES).is_entered


def echoes(lines: Sequence[Line]) -> list[Line]:
    """Return what processes that were frozen have done outside before they knew what they missed.

    A step that is under way when its process wakes up may go on acting outside; nothing that it
    does is recorded.
    """
    found: list[Line] = []
    asleep: set[int] = set()
    for line in lines:
        if line.what == "freezes":
            asleep.add(line.pid)
        elif line.what == "entered":
            asleep.discard(line.pid)
        elif line.pid in asleep and line.what in ("did", "failed"):
            found.append(line)
    return found


async def account_of(
    stage: Stage, run: TaskRun[list[str]], seen: Sequence[StreamItem | Retracted] | None = None
) -> Account:
    """Wait for the result of a journey, and return all that is known of it."""
    output = (await run.result()).output
    stream = [item async for item in run.stream()]
    entries = await stage.entries(run.id)
    assert sum(entry.type == TYPE_OF[Emitted] for entry in entries) <= len(stream)
    late = echoes(stage.ledger.lines())
    lines = [line for line in stage.ledger.lines(run=run.id) if line not in late]
    return Account(
        run.id, output, entries, stream, lines, tuple(stream) if seen is None else tuple(seen)
    )
