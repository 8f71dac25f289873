"""What a handler is given: `ctx`, with all that it knows of its run, and may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Literal, NoReturn, ParamSpec, TypeVar, cast, overload

from outlast import codec
from outlast.engine.app import App
from outlast.engine.attempt import Calls
from outlast.engine.client import id_of
from outlast.engine.retry import RetryPolicy
from outlast.engine.steps import StepOptions
from outlast.engine.turn import StopReason
from outlast.model.run import Input

In = TypeVar("In")
T = TypeVar("T")
P = ParamSpec("P")

EntryMode = Literal["fresh", "resumed", "steered", "recovered"]

_ANY: Final = codec.codec_for(Any, where="an item of a stream")


class Step:
    """`ctx.step`: runs a function once, and gives what is recorded of it ever after."""

    def __init__(self, calls: Calls, options: StepOptions) -> None:
        self._calls, self._options = calls, options

    @overload
    async def __call__(
        self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    async def __call__(
        self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def __call__(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call the function with these arguments, record what comes of it, and return it.

        Entered again, after a crash or for a retry, the handler gets what is recorded, and the
        function is not called. A plain function runs in a thread. A name that is used again is told
        apart by order (`search`, `search#2`); calls of one name that overlap in time by their
        arguments, or their `key`.

        Args:
            name: of 1 to 200 characters, without `#`.
            function: its return annotation says how the result is written; without one it is plain
                JSON.
            *args: for the function.
            **kwargs: for the function.

        Raises:
            Exception: what the function raised; on replay as its own class where that is a builtin,
                one of ours, or in the task's `errors`, else as `StepFailed`.
            CodecError: the result cannot be written; the function ran, and is not called again.
            StepUnknown: an at-most-once step was interrupted.
            StepMismatch: steps of this name overlapped, and none recorded has these arguments.
            UsageError: the name is not one, or the call stands inside a step.
        """
        return await self._calls.steps.run(name, self._options, function, args, kwargs)

    def options(
        self,
        *,
        retry: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        key: str | None = None,
        at_most_once: bool = False,
    ) -> Step:
        """Return a `step` with these settings.

        Args:
            retry: how often it is tried; the count is durable.
            timeout: of each try; it raises `TimeoutError`.
            key: tells overlapping steps of one name apart, instead of their arguments.
            at_most_once: never run it again: after a crash in its middle its outcome is unknown
                (`StepUnknown`). Costs two writes, and takes no `retry`.

        Raises:
            UsageError: the settings contradict each other.
        """
        return Step(self._calls, StepOptions(retry, timeout, key, at_most_once))


class TaskContext(Generic[In]):
    """What a handler knows of its run, and may ask for.

    Attributes:
        step: runs a function once, and gives what is recorded of it ever after; see `Step`.
        cancel: set when the handler should come to its end; `stop_reason` says why.
        shutdown: set when its worker wants to stop.
    """

    cancel: asyncio.Event
    shutdown: asyncio.Event
    step: Step

    def __init__(self, calls: Calls, app: App) -> None:
        self._calls, self._turn, self._app = calls, calls.turn, app
        self.cancel, self.shutdown = calls.turn.cancel, calls.turn.shutdown
        self.step = Step(calls, StepOptions())
        input = calls.turn.run.input
        assert input is not None  # a turn has taken it up
        self._input_id, self._input = input.id, self._load(input)

    def _load(self, input: Input) -> In:
        return cast("In", self._turn.definition.input.load(input.value, root="input"))

    @property
    def id(self) -> str:
        """The run's id."""
        return id_of(self._turn.record.key)

    @property
    def input_id(self) -> str:
        """The id of the input."""
        return self._input_id

    @property
    def name(self) -> str:
        """The task's name."""
        return self._turn.definition.name

    @property
    def input(self) -> In:
        """What the turn has taken up: what the run was started with, or given since."""
        return self._input

    @property
    def turn(self) -> int:
        """The number of the turn, from 1."""
        return self._turn.run.turn

    @property
    def entry_mode(self) -> EntryMode:
        """How the handler was entered this time.

        `recovered` after a crash or a hand-back; else as the turn began: `fresh` with its run,
        `resumed` after a suspension or by `continue_with`, `steered` by an input that was given
        while the run was at work.
        """
        run = self._turn.run
        if run.is_recovered:
            return "recovered"
        return "resumed" if run.mode == "continued" else run.mode

    @property
    def was_steered(self) -> bool:
        """Whether the turn began with an input that was given while the run was at work."""
        return self._turn.run.mode == "steered"

    @property
    def previous_input(self) -> In | None:
        """The input of the turn before; None in the first."""
        previous = self._turn.run.previous
        return None if previous is None else self._load(previous)

    @property
    def pending_inputs(self) -> tuple[In, ...]:
        """The inputs that wait, oldest first, as far as they are known here."""
        return tuple(map(self._load, self._turn.run.inputs))

    @property
    def deadline(self) -> datetime | None:
        """When the turn times out; None: never."""
        deadline = self._turn.run.deadline
        return None if deadline is None else datetime.fromtimestamp(deadline, UTC)

    @property
    def attempt(self) -> int:
        """How many attempts of this turn have failed."""
        return self._turn.run.attempt

    @property
    def recovery_count(self) -> int:
        """How often the run was taken over from a process that died or handed it back."""
        return self._turn.run.recoveries

    @property
    def token(self) -> int:
        """The fencing token of this attempt, larger than that of every earlier one."""
        return self._turn.record.fence.token

    @property
    def session_id(self) -> str | None:
        """The session that the run was started for."""
        return self._turn.run.start.session or None

    @property
    def tags(self) -> Mapping[str, str]:
        """The run's tags."""
        return self._turn.run.start.tags

    @property
    def resources(self) -> Any:
        """What `outlast.open(resources=...)` was given."""
        return self._app.resources

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the handler should come to its end; None while it should not."""
        return self._turn.stop_reason

    async def sleep(self, name: str, duration: timedelta) -> None:
        """Return when `duration` has passed since this call was first made, crashes included."""
        await self._calls.waits.sleep(name, duration)

    @overload
    async def wait(self, signal: str, *, timeout: timedelta | None = None) -> Any: ...

    @overload
    async def wait(self, signal: str, type: type[T], *, timeout: timedelta | None = None) -> T: ...

    async def wait(self, signal: str, type: Any = Any, *, timeout: timedelta | None = None) -> Any:
        """Return the value of the next signal of this name; first in, first out.

        Raises:
            TimeoutError: none came within `timeout` of this call's first time. A signal that is
                there when this is decided counts, even after its timeout.
            CodecError: the signal's value is not of this type.
        """
        reader = codec.codec_for(type, where=f"ctx.wait({signal!r})")
        return await self._calls.waits.wait(signal, reader, timeout)

    async def emit(self, value: Any) -> None:
        """Add an item, plain JSON, to the run's stream, which any process may read, live or later.

        It is accepted within 50 ms, and before anything that the run records after it. A replay
        emits nothing twice: outside of steps it leaves out as many items as were accepted; what an
        unfinished step has emitted is taken back when the step runs again (`Retracted`). Tasks of
        the handler that emit beside it are told apart by the values.

        Raises:
            CodecError: the value cannot be written.
        """
        await self._turn.check_thrown()
        data = self._app.client.dump(_ANY, value, f"an item of run {self.id!r}", "item")
        await self._calls.emission.emit(data)

    async def next_input(self) -> In | None:
        """Take the oldest input that was given while the turn runs; None where there is none.

        It never waits. With `steering="inject"` only; the turn answers whoever gave the input, too.
        """
        input = await self._calls.steering.next_input()
        return None if input is None else self._load(input)

    async def suspend(self, reason: str | None = None, output: Any = None) -> NoReturn:
        """End the turn, and let the run rest until its next input, which begins the next turn.

        Whoever gave the turn's input gets `output`, and `reason` as `suspension_reason`. This call
        does not return: it unwinds the handler.

        Raises:
            CodecError: the output cannot be written; the turn goes on.
        """
        data = None
        if output is not None:
            codec = self._turn.definition.output
            data = self._app.client.dump(codec, output, f"the output of run {self.id!r}", "output")
        await self._calls.steering.suspend(data, reason)

    async def continue_with(self, input: In) -> NoReturn:
        """End the turn, and begin the next one with this input, before any that waits.

        Whoever gave the turn's input waits on. The next turn has checkpoints, attempts and a
        timeout of its own. This call does not return: it unwinds the handler.

        Raises:
            CodecError: the input cannot be written; the turn goes on.
        """
        codec = self._turn.definition.input
        data = self._app.client.dump(codec, input, f"the input of run {self.id!r}", "input")
        await self._calls.steering.continue_with(data)

    async def exit_for_recovery(self) -> NoReturn:
        """Give the run back as a worker does that shuts down; any worker enters it as `recovered`.

        This call does not return: it unwinds the handler.
        """
        await self._calls.steering.exit_for_recovery()
