"""From entries to a run, and from a run to the one entry that stands for all before it.

The one rule that must not be broken: whoever reads from the newest snapshot on knows what it would
know, had it read everything, as far as the turns to come need it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from outlast.errors import Corrupt
from outlast.journal import Entry
from outlast.model.events import (
    Created,
    Emitted,
    InputGiven,
    Snapshot,
    Steering,
    TakenBack,
    TurnBegan,
    decode,
)
from outlast.model.run import Input, Run

_OF_CREATED: Final = Created._field_defaults


def fold(entries: Iterable[Entry], run: Run | None = None) -> Run:
    """Return what the entries amount to, on top of `run`, which is changed in place."""
    run = Run() if run is None else run
    for entry in entries:
        event = decode(entry)
        assert not isinstance(event, Emitted | TakenBack)  # only folded types are read
        if isinstance(event, Snapshot) and run.created is None:
            restore(run, event)
        run.evolve(event, entry.at, entry.revision)
        run.revision = entry.revision
    return run


def snapshot(run: Run) -> Snapshot:
    """Return what a run between two turns amounts to: all that its next turns need.

    Inputs are named by the entry that holds them, so that a large one is not written again.
    """
    assert run.is_between
    start = run.start
    return Snapshot(
        {
            "created": {
                name: value
                for name, value in start._asdict().items()
                if name != "input" and (name not in _OF_CREATED or value != _OF_CREATED[name])
            },
            "created_at": run.created_at,
            "inputs": [[input.id, input.steering, input.revision] for input in run.inputs],
            "input": run.input and [run.input.id, run.input.steering, run.input.revision],
            "last_input_id": run.last_input_id,
            "turn": run.turn,
            "entries": run.entries,
            "recoveries": run.recoveries,
            "signals": {name: list(values) for name, values in run.signals.items()},
        }
    )


def restore(run: Run, event: Snapshot) -> None:
    """Make a new run what the snapshot says."""
    state: Any = event.state
    run.created = Created(input=None, **state["created"])
    run.created_at = state["created_at"]
    run.inputs = tuple(_not_loaded(*input) for input in state["inputs"])
    run.input = _not_loaded(*state["input"]) if state["input"] else None
    run.last_input_id = state["last_input_id"]
    run.turn, run.entries, run.recoveries = state["turn"], state["entries"], state["recoveries"]
    run.signals = {name: deque(values) for name, values in state["signals"].items()}


def loaded(input: Input, entries: Sequence[Entry]) -> Input:
    """Return the input with its value, which the first of these entries holds.

    Raises:
        Corrupt: it holds none.
    """
    event = decode(entries[0]) if entries else None
    if not isinstance(event, Created | InputGiven | TurnBegan):
        raise Corrupt(f"input {input.id!r} is not in the entry {input.revision}: {event!r:.100}")
    return input._replace(value=event.input, is_loaded=True)


def _not_loaded(id: str, steering: Steering, revision: int) -> Input:
    return Input(id, steering, revision, is_loaded=False)
