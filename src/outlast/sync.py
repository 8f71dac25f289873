"""The same face without `await`, for handlers that are plain functions.

A thin shell: every call is made in the event loop of the app, and the handler's thread waits for
it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, ParamSpec, TypeVar, overload

from outlast.context import Step as AsyncStep
from outlast.context import TaskContext as AsyncTaskContext
from outlast.engine.belongings import turn_of
from outlast.errors import Unwound

if TYPE_CHECKING:
    from outlast.context import EntryMode
    from outlast.engine.app import App
    from outlast.engine.attempt import Calls
    from outlast.engine.retry import RetryPolicy
    from outlast.engine.turn import StopReason

In = TypeVar("In")
T = TypeVar("T")
P = ParamSpec("P")

_LOOKS_AGAIN: Final = 1.0
"""Seconds between two looks whether the event loop that a thread waits for is still there."""


class _Bridge:
    """Makes calls in the event loop for a thread."""

    def __init__(self, calls: Calls) -> None:
        self._turn = calls.turn

    def ask(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for the coroutine that `call` gives, and return or raise what it does."""
        loop, answer = self._turn.loop, concurrent.futures.Future[T]()
        context = copy_context()
        # A thread that the handler has made knows nothing.
        context.run(turn_of.set, self._turn.scope.mark)

        def begin() -> None:
            task = loop.create_task(call())
            task.add_done_callback(lambda _: _tell(task, answer))

        with self._turn.asking():
            try:
                loop.call_soon_threadsafe(begin, context=context)
                # A loop that is closed, or was stopped before it came to the call, answers nothing.
                while not concurrent.futures.wait([answer], _LOOKS_AGAIN).done:
                    if loop.is_closed():
                        break
            except RuntimeError as error:  # it is closed already
                raise self._turn.thrown or Unwound("the app was left") from error
        if not answer.done():
            raise self._turn.thrown or Unwound("the app was left")
        return answer.result()

    def leave(self, call: Callable[[], Coroutine[Any, Any, NoReturn]]) -> NoReturn:
        """Make a call that unwinds whoever waits for it."""
        raise AssertionError(self.ask(call))


def _tell(task: asyncio.Task[T], answer: concurrent.futures.Future[T]) -> None:
    if task.cancelled():
        # A `CancelledError` of futures is an `Exception`: a handler would take it for the call's.
        answer.set_exception(Unwound("the call was cancelled"))
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())


class Step:
    """`ctx.step`: see `outlast.Step`."""

    def __init__(self, bridge: _Bridge, step: AsyncStep) -> None:
        self._bridge, self._step = bridge, step

    @overload
    def __call__(
        self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    def __call__(
        self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    def __call__(
        self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call the function once, record what comes of it, and return that ever after."""
        return self._bridge.ask(lambda: self._step(name, function, *args, **kwargs))

    def options(
        self,
        *,
        retry: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        key: str | None = None,
        at_most_once: bool = False,
    ) -> Step:
        """Return a `step` with these settings."""
        step = self._step.options(retry=retry, timeout=timeout, key=key, at_most_once=at_most_once)
        return Step(self._bridge, step)


class Flag:
    """An event that the engine sets, seen from a thread."""

    def __init__(self, bridge: _Bridge, event: asyncio.Event) -> None:
        self._bridge, self._event = bridge, event

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._event.is_set()

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait until it is set, at most `timeout`; return whether it is."""
        return self._bridge.ask(lambda: self._wait(timeout))

    async def _wait(self, timeout: timedelta | None) -> bool:
        try:
            async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
                return await self._event.wait()
        except TimeoutError:
            return False


class TaskContext(Generic[In]):
    """What a plain handler knows and may ask for: `outlast.TaskContext` without `await`."""

    step: Step
    cancel: Flag
    shutdown: Flag

    def __init__(self, calls: Calls, app: App) -> None:
        self._context: AsyncTaskContext[In] = AsyncTaskContext(calls, app)
        self._bridge = _Bridge(calls)
        self.step = Step(self._bridge, self._context.step)
        self.cancel = Flag(self._bridge, self._context.cancel)
        self.shutdown = Flag(self._bridge, self._context.shutdown)

    @property
    def id(self) -> str:
        """The run's id."""
        return self._context.id

    @property
    def input_id(self) -> str:
        """The id of the input."""
        return self._context.input_id

    @property
    def name(self) -> str:
        """The task's name."""
        return self._context.name

    @property
    def input(self) -> In:
        """What the turn has taken up: what the run was started with, or given since."""
        return self._context.input

    @property
    def turn(self) -> int:
        """The number of the turn, from 1."""
        return self._context.turn

    @property
    def entry_mode(self) -> EntryMode:
        """How the handler was entered this time."""
        return self._context.entry_mode

    @property
    def was_steered(self) -> bool:
        """Whether the turn began with an input that was given while the run was at work."""
        return self._context.was_steered

    @property
    def previous_input(self) -> In | None:
        """The input of the turn before; None in the first."""
        return self._context.previous_input

    @property
    def pending_inputs(self) -> tuple[In, ...]:
        """The inputs that wait, oldest first, as far as they are known here."""
        return self._context.pending_inputs

    @property
    def deadline(self) -> datetime | None:
        """When the turn times out; None: never."""
        return self._context.deadline

    @property
    def attempt(self) -> int:
        """How many attempts of this turn have failed."""
        return self._context.attempt

    @property
    def recovery_count(self) -> int:
        """How often the run was taken over from a process that died or handed it back."""
        return self._context.recovery_count

    @property
    def token(self) -> int:
        """The fencing token of this attempt."""
        return self._context.token

    @property
    def session_id(self) -> str | None:
        """The session that the run was started for."""
        return self._context.session_id

    @property
    def tags(self) -> Mapping[str, str]:
        """The run's tags."""
        return self._context.tags

    @property
    def resources(self) -> Any:
        """What `outlast.open(resources=...)` was given."""
        return self._context.resources

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the handler should come to its end; None while it should not."""
        return self._context.stop_reason

    def sleep(self, name: str, duration: timedelta) -> None:
        """Return when `duration` has passed since this call was first made, crashes included."""
        self._bridge.ask(lambda: self._context.sleep(name, duration))

    @overload
    def wait(self, signal: str, *, timeout: timedelta | None = None) -> Any: ...

    @overload
    def wait(self, signal: str, type: type[T], *, timeout: timedelta | None = None) -> T: ...

    def wait(self, signal: str, type: Any = Any, *, timeout: timedelta | None = None) -> Any:
        """Return the value of the next signal of this name; see `outlast.TaskContext.wait`."""
        return self._bridge.ask(lambda: self._context.wait(signal, type, timeout=timeout))

    def emit(self, value: Any) -> None:
        """Add an item, plain JSON, to the run's stream; see `outlast.TaskContext.emit`."""
        self._bridge.ask(lambda: self._context.emit(value))

    def next_input(self) -> In | None:
        """Take the oldest input that was given meanwhile; see `outlast.TaskContext.next_input`."""
        return self._bridge.ask(self._context.next_input)

    def suspend(self, reason: str | None = None, output: Any = None) -> NoReturn:
        """End the turn, and let the run rest; see `outlast.TaskContext.suspend`."""
        self._bridge.leave(lambda: self._context.suspend(reason, output))

    def continue_with(self, input: In) -> NoReturn:
        """End the turn, and begin the next one; see `outlast.TaskContext.continue_with`."""
        self._bridge.leave(lambda: self._context.continue_with(input))

    def exit_for_recovery(self) -> NoReturn:
        """Give the run back; see `outlast.TaskContext.exit_for_recovery`."""
        self._bridge.leave(self._context.exit_for_recovery)


__all__ = ["Flag", "Step", "TaskContext"]
