"""Everything outlast raises on purpose.

    OutlastError
    ├── StoreError
    │   ├── Conflict      the journal moved on           → read the tail, decide again
    │   ├── Fenced        someone else holds the lease   → stop
    │   └── Unavailable   no answer from the store       → say it again, with the same id
    ├── TaskError
    │   ├── TaskFailed  TaskCancelled  TaskAborted  TaskTimedOut  TaskConflict  TaskNotFound
    │   ├── SteeringQueueFull  LastInputMismatch
    │   └── StepFailed  StepMismatch  StepUnknown
    ├── UsageError        the caller's mistake: also a ValueError
    └── CodecError        a payload cannot be written or read
        ├── InputTooLarge
        └── Corrupt       stored data is not what was written

`Unwound` is the exception to the tree: it is no `Exception`, and never reaches a caller.

A message says what happened, to which key, with which values, and what to do; the same values are
fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlast.journal import Fence, Head


class OutlastError(Exception):
    """The root of every error of this library."""


class StoreError(OutlastError):
    """What a store says instead of an answer.

    Attributes:
        done: the heads of those changes of the same call that were written before the one refused.
    """

    done: Sequence[Head] = ()


class Conflict(StoreError):
    """The journal is not as the change expects: read its tail, and decide again.

    Attributes:
        key: the journal.
        what: the expectation that failed: `first`, `revision`, `facts`, `closed`, `lease` or
            `blobs`.
        expected: what the change expects.
        actual: what the journal says.
    """

    key: str
    what: str
    expected: object
    actual: object

    def __init__(self, key: str, what: str, expected: object, actual: object) -> None:
        super().__init__(f"journal {key!r}: {what} is {actual!r}, not {expected!r}; read it again")
        self.key, self.what, self.expected, self.actual = key, what, expected, actual


class Fenced(StoreError):
    """The fence is not that of the journal's lease: who holds it stops, and writes nothing more.

    Attributes:
        key: the journal.
        fence: what the change showed.
        current: the fence of the lease as it is now, or None where there is none.
    """

    key: str
    fence: Fence
    current: Fence | None

    def __init__(self, key: str, fence: Fence, current: Fence | None) -> None:
        now = f"now {current} holds it" if current else "nobody holds it now"
        super().__init__(f"the lease {fence} of journal {key!r} is over; {now}")
        self.key, self.fence, self.current = key, fence, current


class Unavailable(StoreError):
    """The store did not answer: it may or may not have written. Say it again, with the same id.

    Attributes:
        is_final: it will not answer before somebody has done what the message says.
    """

    is_final: bool = False

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class TaskError(OutlastError):
    """What became of a run, or what could not be done with it."""


class TaskFailed(TaskError):
    """The run's handler raised, and no retry was left.

    Attributes:
        error: what it raised last.
    """

    error: RunError

    def __init__(self, message: str, error: RunError) -> None:
        super().__init__(message)
        self.error = error


class RunError:
    """What a handler raised at last.

    Attributes:
        type: the name of the error's class.
        message: its message.
        traceback: its traceback as text.
        attempts: how many attempts had been made.
    """

    type: str
    message: str
    traceback: str
    attempts: int

    __slots__ = ("attempts", "message", "traceback", "type")

    def __init__(self, type: str, message: str, traceback: str, attempts: int) -> None:
        self.type, self.message, self.traceback, self.attempts = type, message, traceback, attempts

    def __repr__(self) -> str:
        return f"RunError({self.type}: {self.message}, attempts={self.attempts})"


class TaskCancelled(TaskError):
    """The run was cancelled before it had a result."""


class TaskAborted(TaskError):
    """The run was aborted."""


class TaskTimedOut(TaskError):
    """The run's turn did not end within its timeout and grace."""


class TaskConflict(TaskError):
    """What was asked does not fit the run: another input, another task, or an ended run."""


class SteeringQueueFull(TaskError):
    """A run was given one input too many: so many wait already."""


class LastInputMismatch(TaskError):
    """The newest input of a run is another one than its giver took for granted.

    Attributes:
        actual: the id of that input.
    """

    actual: str

    def __init__(self, message: str, actual: str) -> None:
        super().__init__(message)
        self.actual = actual


class TaskNotFound(TaskError, KeyError):
    """No run has this id, or it was deleted."""

    def __str__(self) -> str:
        # A `KeyError` would show the message in quotes.
        return Exception.__str__(self)


class StepFailed(TaskError):
    """A recorded step's error whose class is no builtin, not ours, and not in the task's `errors`.

    Attributes:
        type: the name of the error's class.
        message: its message.
        traceback: its traceback as text.
    """

    type: str
    message: str
    traceback: str

    def __init__(self, type: str, message: str, traceback: str = "") -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type, self.message, self.traceback = type, message, traceback


class StepMismatch(TaskError):
    """A replayed handler asks for other steps than those that were recorded."""


class StepUnknown(TaskError):
    """An at-most-once step was interrupted: nobody knows its effect, and it is not run again."""


class UsageError(OutlastError, ValueError):
    """The caller's mistake; the message says what to do instead."""


class CodecError(OutlastError):
    """A payload cannot be written as JSON and read back as what it was.

    Attributes:
        path: where in the value, such as `result['items'][3].when`.
    """

    path: str

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class InputTooLarge(CodecError):
    """A payload is longer than the app's `max_payload`."""


class Corrupt(CodecError):
    """Stored data is not what was written."""


class Unwound(BaseException):
    """Thrown into a turn that is stopped; neither an `Exception` nor a `CancelledError`.

    Handlers compensate on those two, and a turn that is stopped must not begin to compensate.
    """
