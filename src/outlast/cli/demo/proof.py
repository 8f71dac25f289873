"""What the demo has to show, checked against what was written down by others.

Four witnesses: the journal of the run, the ledger that its steps wrote to, the stream as it was
read while the run went on, and an undisturbed run over the same files. The one rule that must not
be broken: nothing here believes the agent, or asks the clock in which order things happened.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from outlast.cli.demo.agent import FILE_STEPS, Step, steps_of
from outlast.cli.demo.chaos import MIN_KILLS, Kill
from outlast.cli.demo.ledger import Line

SIGKILLED: Final = -9

SHOWN: Final = 3
"""So many names at most stand behind a check that failed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to hold, and what was seen of it."""

    name: str
    passed: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry of the journal, as far as the proof cares."""

    revision: int
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the stream; `value` is None where it takes others back."""

    offset: int
    value: Any


@dataclass(frozen=True, slots=True)
class Account:
    """What was seen of one run.

    Attributes:
        ending: `completed`, or what went wrong.
        history: every entry of its journal.
        live: its stream, as it was read while it went on; `late`: as it was read afterwards.
        lines: the ledger.
        report: what it wrote.
    """

    files: Sequence[str]
    ending: str
    history: Sequence[Recorded]
    live: Sequence[Item]
    late: Sequence[Item]
    lines: Sequence[Line]
    report: bytes


def prove(disturbed: Account, undisturbed: Account, kills: Sequence[Kill]) -> list[Check]:
    """Return every check, whether it passed or not."""
    return [
        _killed(kills),
        _resumed(kills),
        _completed(disturbed),
        _every_file(disturbed),
        _no_step_again(disturbed),
        _stream(disturbed, undisturbed),
        _same_report(disturbed, undisturbed),
    ]


def steps_recorded(history: Sequence[Recorded]) -> dict[Step, Recorded]:
    """Return the entries that hold the outcomes of steps."""
    found = (entry for entry in history if entry.type == "checkpointed")
    return {
        (entry.data["name"], entry.data["number"]): entry
        for entry in found
        if entry.data["kind"] == "step"
    }


def _killed(kills: Sequence[Kill]) -> Check:
    inside = sum(kill.is_inside_step for kill in kills)
    passed = len(kills) >= MIN_KILLS and all(kill.status == SIGKILLED for kill in kills)
    return Check(
        f"at least {MIN_KILLS} workers were killed with SIGKILL",
        passed,
        f"{len(kills)} killed, {inside} of them in the middle of a step",
    )


def _resumed(kills: Sequence[Kill]) -> Check:
    times = sorted(kill.resumed_after for kill in kills if kill.resumed_after is not None)
    seen = f"{len(times)} of {len(kills)} resumed"
    if times:
        seen += f", after {times[len(times) // 2]:.2f} s (median) and {times[-1]:.2f} s at most"
    return Check("after each kill the run went on", len(times) == len(kills) > 0, seen)


def _completed(account: Account) -> Check:
    return Check("the run completed", account.ending == "completed", account.ending)


def _every_file(account: Account) -> Check:
    """Every step of every file ended, was recorded as a success, and was told to the stream."""
    recorded = steps_recorded(account.history)
    succeeded = {step for step, entry in recorded.items() if entry.data.get("error") is None}
    ended = {(line.step, line.number, line.file) for line in account.lines if line.mark == "ended"}
    told = Counter(item.value["file"] for item in account.live if "file" in (item.value or {}))
    missing = [
        file
        for number, file in enumerate(account.files, 1)
        if told[file] != 1
        or not all((step, number) in succeeded for step in FILE_STEPS)
        or not all((step, number, file) in ended for step in FILE_STEPS)
    ]
    handled = len(account.files) - len(missing)
    seen = f"{handled:,} of {len(account.files):,} files" + _first(missing)
    return Check("every file was handled", not missing and recorded.keys() == _all(account), seen)


def _no_step_again(account: Account) -> Check:
    """Each time a step began was in a later life, and the last in the one that recorded it.

    The ledger knows in which life a step began, the journal in which one it was recorded: a life
    ends where another process takes over from one that died.
    """
    recorded_in: dict[Step, int] = {}
    life = 0
    for entry in account.history:
        if entry.type == "attempt_began" and entry.data.get("died"):
            life += 1
        elif entry.type == "checkpointed" and entry.data["kind"] == "step":
            recorded_in[entry.data["name"], entry.data["number"]] = life
    begun: dict[Step, list[int]] = defaultdict(list)
    for line in account.lines:
        if line.mark == "began":
            begun[line.step, line.number].append(line.recovery)
    again = [
        f"{name}#{number}"
        for (name, number), last in recorded_in.items()
        if begun[name, number][-1:] != [last] or not _is_rising(begun[name, number])
    ]
    repeated = sum(len(lives) - 1 for lives in begun.values() if lives)
    seen = f"{len(recorded_in):,} recorded, {len(again)} of them ran again{_first(again)}; "
    seen += f"{repeated} ran once more because a kill came before their record"
    return Check("no recorded step ran again after its record", not again and life > 0, seen)


def _is_rising(numbers: Sequence[int]) -> bool:
    return all(one < next_one for one, next_one in pairwise(numbers))


def _stream(disturbed: Account, undisturbed: Account) -> Check:
    offsets = [item.offset for item in disturbed.live]
    gapless = offsets == list(range(1, len(offsets) + 1))
    same = [item.value for item in disturbed.late] == [item.value for item in undisturbed.late]
    reread = list(disturbed.live) == list(disturbed.late)
    seen = f"{len(offsets):,} items, {'no gap' if gapless else 'with a gap'}"
    seen += "" if reread else "; a late reader gets another one"
    seen += "" if same else "; the undisturbed run has another one"
    return Check("the stream is complete", gapless and reread and same and bool(offsets), seen)


def _same_report(disturbed: Account, undisturbed: Account) -> Check:
    same = disturbed.report == undisturbed.report and disturbed.report != b""
    seen = f"{len(disturbed.report):,} bytes, {'the same' if same else 'not the same'}"
    return Check("the report is that of an undisturbed run, byte for byte", same, seen)


def _all(account: Account) -> set[Step]:
    return set(steps_of(len(account.files)))


def _first(names: Sequence[str]) -> str:
    return f" ({', '.join([*names[:SHOWN], *(['...'] if names[SHOWN:] else [])])})" if names else ""
