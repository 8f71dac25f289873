"""What everybody outside has seen of the runs, and whether it fits together.

The oracle follows what clients saw accepted, what readers saw, and what steps did outside. It knows
neither the engine nor the model, only the entries that the store has written. The one rule that
must not be broken: it notes what somebody saw at the moment when they saw it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlast import Retracted, StreamItem
from outlast.journal import Entry
from outlast.testing.simulation.account import RunAccount
from outlast.testing.simulation.audit import Journal
from outlast.testing.simulation.budget import Budget


@dataclass(frozen=True, slots=True)
class Execution:
    """One call of the body of a step.

    Attributes:
        input_id: names the run, whose id may be used again.
        label: of the step; it has one in its run, whatever its name and number.
    """

    name: str
    input_id: str
    label: str


@dataclass(slots=True)
class Seen:
    """What was seen of one run.

    Attributes:
        recorded: by label: what its outcome is, and the token under which it was written.
        told: by label: what the handler was given.
        asked_at: by label: when the handler first asked for a sleep or a wait.
        sent: by value: the signals that a client has sent, and whether they were accepted.
        results: what observers saw of its end.
    """

    journal: Journal | None = None
    is_accepted: bool = False
    is_deleted: bool = False
    recorded: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    told: dict[str, str] = field(default_factory=dict[str, str])
    asked_at: dict[str, float] = field(default_factory=dict[str, float])
    began: Counter[str] = field(default_factory=Counter[str])
    sent: dict[str, bool] = field(default_factory=dict[str, bool])
    results: set[str] = field(default_factory=set[str])


class Oracle:
    """What must be true of all runs, whatever befalls their processes.

    Args:
        fail: called with what is wrong.
        now: the simulation's seconds.
        budgets: by name of a task: what its runs may use up.

    Attributes:
        slack: seconds by which the wall clock was set.
    """

    def __init__(
        self,
        fail: Callable[[str], None],
        now: Callable[[], float],
        budgets: Mapping[str, Budget],
    ) -> None:
        self.runs: dict[str, Seen] = defaultdict(Seen)
        self.slack: float = 0.0
        self._executions: dict[str, Execution] = {}
        self._fail, self._now, self._budgets = fail, now, budgets

    def _require(self, holds: object, input_id: str, what: str) -> None:
        if not holds:
            self._fail(f"run {input_id}: {what}")

    # What the store wrote

    def wrote(self, journal: Journal, entries: Sequence[Entry], token: int | None) -> None:
        """Take note of what a run's journal has now."""
        start = journal.run.start
        if start is None:
            return
        seen = self.runs[start["input_id"]]
        self._require(
            seen.journal in (None, journal), start["input_id"], "it was created a second time"
        )
        seen.journal = journal
        problem = self._budgets[start["name"]].overdrawn(journal.run)
        self._require(problem is None, start["input_id"], str(problem))
        for entry in entries:
            if entry.type != "checkpointed":
                continue
            outcome: dict[str, Any] = json.loads(entry.data)
            execution = self._executions.get(str(outcome.get("value")))
            if execution is None:
                continue
            self._require(
                execution.input_id == start["input_id"],
                start["input_id"],
                f"{execution} was recorded here",
            )
            old = seen.recorded.setdefault(execution.label, (execution.name, token or 0))
            self._require(
                old[0] == execution.name,
                start["input_id"],
                f"{execution.label} was recorded as {old[0]} and as {execution.name}",
            )

    def deleted(self, journal: Journal) -> None:
        """Take note that a run is there no more."""
        if start := journal.run.start:
            self.runs[start["input_id"]].is_deleted = True

    # What steps did outside

    def begin(self, input_id: str, label: str, token: int, *, once: bool) -> str:
        """Take note that the body of a step begins, and return the name of this execution."""
        seen = self.runs[input_id]
        name = f"{label}@{len(self._executions) + 1}"
        self._executions[name] = Execution(name, input_id, label)
        seen.began[label] += 1
        if once:
            self._require(seen.began[label] == 1, input_id, f"{label} ran twice, and may run once")
        recorded = seen.recorded.get(label)
        # An owner that was frozen may not know yet what its successor has recorded.
        self._require(
            recorded is None or recorded[1] > token,
            input_id,
            f"{label} runs again, and is recorded as {recorded}",
        )
        return name

    # What handlers were told

    def ask(self, input_id: str, label: str) -> None:
        """Take note that the handler asks for something that takes its time."""
        self.runs[input_id].asked_at.setdefault(label, self._now())

    def tell(self, input_id: str, label: str, outcome: str, *, after: float = 0.0) -> None:
        """Take note of what the handler was told: the same in every entry, and late enough.

        Args:
            input_id: of the run.
            label: of what it asked for.
            outcome: what it got.
            after: how many seconds that takes at least.
        """
        seen = self.runs[input_id]
        old = seen.told.setdefault(label, outcome)
        self._require(old == outcome, input_id, f"{label} gave {old}, and then {outcome}")
        if after:
            passed = self._now() - seen.asked_at[label]
            self._require(
                passed >= after - self.slack - 1e-3,
                input_id,
                f"{label} was over after {passed:.3f} s, not after {after:.3f} s",
            )
        if execution := self._executions.get(outcome):
            recorded = seen.recorded.get(execution.label)
            self._require(
                recorded is not None and recorded[0] == outcome,
                input_id,
                f"{label} gave {outcome}, and {recorded} is recorded",
            )

    # What clients saw

    def accepted(self, input_id: str) -> None:
        """Take note that `start` has returned."""
        seen = self.runs[input_id]
        seen.is_accepted = True
        self._require(seen.journal, input_id, "its start was accepted, and is not there")

    def sends(self, input_id: str, value: str) -> None:
        """Take note that a signal is about to be sent."""
        self.runs[input_id].sent.setdefault(value, False)

    def sent(self, input_id: str, value: str) -> None:
        """Take note that a signal was accepted."""
        self.runs[input_id].sent[value] = True
        self._require(
            value in self._signals(input_id), input_id, f"signal {value} was accepted, and is lost"
        )

    def refused(self, input_id: str) -> None:
        """Take note that a client was told, or told it, that the run has ended."""
        journal = self.runs[input_id].journal
        self._require(journal and journal.closed, input_id, "it was refused before its end")

    def cancelled(self, input_id: str) -> None:
        """Take note that `cancel` has returned: the run has ended, or knows of it."""
        journal = self.runs[input_id].journal
        is_told = journal and (journal.closed or journal.run.cancelled)
        self._require(is_told, input_id, "it was cancelled, and does not know")

    def reads(self, input_id: str, after: int, item: StreamItem | Retracted) -> None:
        """Take note of what a reader gets after an offset."""
        self._require(
            item.offset == after + 1, input_id, f"offset {item.offset} was read after {after}"
        )
        stream = self._run(input_id).stream
        there = stream[item.offset - 1] if item.offset <= len(stream) else None
        if isinstance(item, StreamItem):
            same = there is not None and there[0] == "emitted" and there[1]["value"] == item.value
        else:
            same = (
                there is not None and there[0] == "taken_back" and there[1]["after"] == item.after
            )
        self._require(same, input_id, f"{item} was read, and {there} is there")

    def has_read_all(self, input_id: str, last: int) -> None:
        """Take note that a reader was told that the stream has ended."""
        there = len(self._run(input_id).stream)
        self._require(last == there, input_id, f"a reader got {last} of {there} items")
        self.refused(input_id)

    def ended(self, input_id: str, result: str) -> None:
        """Take note of what somebody saw of a run's end: all must see the same."""
        seen = self.runs[input_id]
        seen.results.add(result)
        self._require(len(seen.results) == 1, input_id, f"its results are {seen.results}")
        self.refused(input_id)

    def gone(self, input_id: str) -> None:
        """Take note that somebody was told that the run is not there any more."""
        self._require(self.runs[input_id].is_deleted, input_id, "it is not found, and is there")

    # What is true in the end

    def check(self) -> None:
        """Hold all that was seen against what is there at last."""
        for input_id, seen in self.runs.items():
            journal = seen.journal
            if journal is None:
                self._require(not seen.is_accepted, input_id, "it was accepted, and is lost")
                continue
            self._require(journal.run.end, input_id, "it has not ended")
            self._check_signals(input_id, seen)
            self._check_stream(input_id, seen)
            self._check_result(input_id, seen)

    def _check_signals(self, input_id: str, seen: Seen) -> None:
        there = Counter(self._signals(input_id))
        for value, is_accepted in seen.sent.items():
            least = 1 if is_accepted else 0
            self._require(
                least <= there[value] <= 1,
                input_id,
                f"signal {value} (accepted: {is_accepted}) is there {there[value]} times",
            )
        foreign = there.keys() - seen.sent.keys()
        self._require(not foreign, input_id, f"nobody has sent {foreign}")

    def _signals(self, input_id: str) -> list[str]:
        journal = self.runs[input_id].journal
        entries = journal.entries if journal else []
        return [json.loads(entry.data)["value"] for entry in entries if entry.type == "signalled"]

    def _check_stream(self, input_id: str, seen: Seen) -> None:
        """What was not taken back of a step that is recorded is of the one that is recorded."""
        standing: list[dict[str, Any]] = []
        for type, data in self._run(input_id).stream:
            if type == "emitted":
                standing.append(data)
                continue
            step = data.get("step")
            standing = [
                item
                for item in standing
                if item.get("step") != step or item["offset"] <= data["after"]
            ]
        by_origin: dict[str, list[int]] = defaultdict(list)
        for item in standing:
            if item.get("step") is None:
                origin, _, number = item["value"].partition(":")
                by_origin[origin].append(int(number))
        for origin, numbers in by_origin.items():
            self._require(
                numbers == list(range(1, len(numbers) + 1)),
                input_id,
                f"{origin} emitted {numbers}",
            )
        by_label: dict[str, list[str]] = defaultdict(list)
        for item in standing:
            if item.get("step") is not None:
                by_label[item["value"].partition("@")[0]].append(item["value"])
        for label, (name, _) in seen.recorded.items():
            wrong = [value for value in by_label[label] if not value.startswith(f"{name}/")]
            self._require(not wrong, input_id, f"{wrong} stand in the stream beside {name}")

    def _check_result(self, input_id: str, seen: Seen) -> None:
        end = self._run(input_id).end
        if end is None or end[0] != "ended" or end[1]["status"] != "completed":
            return
        output: dict[str, Any] = end[1]["output"]
        for label, outcome in output["told"].items():
            self._require(
                seen.told.get(label) == outcome,
                input_id,
                f"{label} gave {seen.told.get(label)}, and is {outcome} in its result",
            )
        missing = set(output["emitted"]) - {
            data["value"] for type, data in self._run(input_id).stream if type == "emitted"
        }
        self._require(not missing, input_id, f"items are lost: {missing}")

    def _run(self, input_id: str) -> RunAccount:
        journal = self.runs[input_id].journal
        assert journal is not None
        return journal.run
