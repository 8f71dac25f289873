"""Tasks: functions whose runs outlast the process that runs them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    get_args,
    get_origin,
    overload,
)

from outlast import codec
from outlast.context import TaskContext
from outlast.engine.app import App, open_app
from outlast.engine.belongings import turn_of
from outlast.engine.client import Client, check_id
from outlast.engine.definition import (
    CANCEL_GRACE,
    TASKS,
    Definition,
    Labels,
    TagsOrFactory,
    TextOrFactory,
    TurnError,
)
from outlast.engine.handles import TaskResult, TaskRun
from outlast.engine.inputs import Conditions
from outlast.engine.isolation.places import check_isolation
from outlast.engine.retry import RetryPolicy, check_policy
from outlast.engine.runs import Page, Runs, get
from outlast.engine.settings import (
    MAX_DESCRIPTION,
    MAX_SOURCE,
    MAX_TITLE,
    check_name,
    seconds_of,
    tags_of,
    text_of,
)
from outlast.engine.turn import inside
from outlast.errors import UsageError
from outlast.model.events import Created, Status
from outlast.model.terms import MAX_RECOVERIES
from outlast.model.turns import MAX_PENDING

if TYPE_CHECKING:
    from outlast.sync import TaskContext as SyncTaskContext

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")
P = ParamSpec("P")

Isolation = Literal["inline", "thread", "process"]
SteeringMode = Literal["reject", "queue", "interrupt", "rollback", "inject"]


@dataclass(frozen=True, slots=True)
class _Overrides:
    queue: str | None = None
    priority: int | None = None
    timeout: timedelta | None = None
    retry: RetryPolicy | None = None
    cancel_grace: timedelta | None = None
    max_pending: int | None = None
    title: TextOrFactory = None
    description: TextOrFactory = None
    source: TextOrFactory = None
    tags: TagsOrFactory = None
    app: App | None = None

    def stored(self) -> dict[str, Any]:
        """Return what holds wherever the run is."""
        settings: dict[str, Any] = {
            "retry": self.retry and self.retry.to_json(),
            "timeout": self.timeout and self.timeout.total_seconds(),
            "cancel_grace": None
            if self.cancel_grace is None
            else self.cancel_grace.total_seconds(),
            "max_pending": self.max_pending,
        }
        return {name: value for name, value in settings.items() if value is not None}


class Task(Generic[In, Out]):
    """A function whose runs are durable; made by `@task`."""

    name: str

    def __init__(self, definition: Definition, overrides: _Overrides = _Overrides()) -> None:
        self._definition, self._overrides = definition, overrides
        self.name = definition.name
        self.__doc__ = definition.function.__doc__

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    async def start(
        self,
        input: In,
        *,
        id: str | None = None,
        input_id: str | None = None,
        if_last_input_id: str | None = None,
        session_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        delay: timedelta | None = None,
    ) -> TaskRun[Out]:
        """Accept an input, and return its handle; when this returns, it survives any crash.

        An id names one run, whatever its task. Where there is none, it is made. An input that is
        said again, by its `input_id` or, where `steering="reject"`, by its value, joins the run
        that is there, running or long ended. Another one begins the next turn of a run that is
        suspended; of one that is running, it does what the task's `steering` says.

        Args:
            input: for `ctx.input`.
            id: of 1 to 200 characters; None: a new UUIDv7.
            input_id: names the input; None: a new UUIDv7.
            if_last_input_id: what the newest input of the run must be for this one to be taken.
            session_id: for `ctx.session_id`, and to find the run by.
            tags: beside those of the task.
            delay: how long to wait at least before it begins.

        Raises:
            TaskConflict: another task is stored under the id, or another input under the
                `input_id`; or the run takes no other input: it has ended, or rejects them.
            SteeringQueueFull: `max_pending` inputs wait.
            LastInputMismatch: the newest input is another one; `actual` says which.
            CodecError: the input cannot be written; nothing is stored.
            UsageError: an argument is out of range; or, inside a handler and outside of its steps,
                the id is missing: a replay would start another run.
        """
        client = self._app().client
        if id is None:
            if turn_of.get() is not None and inside.get() is None:
                raise UsageError(
                    f"{self.name!r} was started inside a handler, outside of its steps, without an "
                    "id: a replay would start another run; give it an id, or start it in a step"
                )
            id = client.around.system.draw_id()
        check_id(id)
        for what, name in (
            ("an input_id", input_id),
            ("an if_last_input_id", if_last_input_id),
            ("a session_id", session_id),
        ):
            if name is not None:
                check_name(what, name)
        _check_delay(delay)
        created = self._created(
            client,
            input,
            id,
            input_id=input_id,
            session_id=session_id,
            tags=tags,
            delay=delay,
        )
        own, stored = self._definition, created.options
        conditions = Conditions(
            own.steering,
            stored.get("max_pending", own.max_pending),
            if_last_input_id,
            is_named=input_id is not None,
            timeout=stored.get("timeout", own.timeout),
        )
        given = await client.start(created, id, conditions, is_delayed=bool(delay))
        return TaskRun(client, given.head, self._definition, given.story)

    def _created(
        self,
        client: Client,
        input: In,
        id: str,
        *,
        input_id: str | None,
        session_id: str | None,
        tags: Mapping[str, str] | None,
        delay: timedelta | None,
    ) -> Created:
        own, over, system = self._definition, self._overrides, client.around.system
        labels = own.labels
        return Created(
            own.name,
            client.dump(own.input, input, f"the input of {self.name!r}", "input"),
            input_id or system.draw_id(),
            system.wall() + (delay.total_seconds() if delay else 0.0),
            over.queue or own.queue,
            own.priority if over.priority is None else over.priority,
            session_id or "",
            text_of("title", over.title or labels.title, MAX_TITLE, input, id),
            text_of(
                "description", over.description or labels.description, MAX_DESCRIPTION, input, id
            ),
            tags_of(over.tags or labels.tags, tags, input, id),
            text_of("source", over.source or labels.source, MAX_SOURCE, input, id),
            over.stored(),
        )

    async def run(
        self,
        input: In,
        *,
        id: str | None = None,
        input_id: str | None = None,
        if_last_input_id: str | None = None,
        session_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        delay: timedelta | None = None,
    ) -> TaskResult[Out]:
        """Start a run, as `start` does, and wait for its result, as `TaskRun.result` does."""
        run = await self.start(
            input,
            id=id,
            input_id=input_id,
            if_last_input_id=if_last_input_id,
            session_id=session_id,
            tags=tags,
            delay=delay,
        )
        return await run.result()

    async def get(self, id: str) -> TaskRun[Out]:
        """Return the run of this task with this id.

        Raises:
            TaskNotFound: there is none.
        """
        return await get(self._app().client, id, self._definition)

    async def list(
        self,
        *,
        status: Status | str | Sequence[Status | str] | None = None,
        session_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        source: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[TaskRun[Out]]:
        """Return runs of this task, newest first; see `Runs.list`."""
        runs: Runs = self._app().runs
        return await runs.list(
            status=status,
            task=self.name,
            session_id=session_id,
            tags=tags,
            source=source,
            started_after=started_after,
            started_before=started_before,
            limit=limit,
            after=after,
        )

    def options(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        timeout: timedelta | None = None,
        retry: RetryPolicy | None = None,
        cancel_grace: timedelta | None = None,
        max_pending: int | None = None,
        title: TextOrFactory = None,
        description: TextOrFactory = None,
        source: TextOrFactory = None,
        tags: TagsOrFactory = None,
        app: App | None = None,
    ) -> Task[In, Out]:
        """Return the task with other settings; None leaves one as it is.

        They are stored with the runs that it starts, and hold wherever those run.

        Args:
            queue: which workers take its runs.
            priority: larger ones go first.
            timeout: what a turn may take.
            retry: how often a run whose handler raises is tried; with numbers only, because it is
                stored.
            cancel_grace: what a turn may take to end when another input, or its timeout, asks it
                to.
            max_pending: how many inputs may wait for a turn.
            title: what its runs are called: a text, or a function of `(input, id)`.
            description: more about them: a text, or a function of `(input, id)`.
            source: where they come from: a text, or a function of `(input, id)`.
            tags: at most 32; a mapping, or a function of `(input, id)`.
            app: where to start and find runs, when several apps are open.

        Raises:
            UsageError: a setting is out of range, or cannot be stored.
        """
        _check_orders(
            "default" if queue is None else queue, 0 if priority is None else priority, retry
        )
        _check_turns(
            timeout,
            CANCEL_GRACE if cancel_grace is None else cancel_grace,
            MAX_PENDING if max_pending is None else max_pending,
        )
        if retry is not None:
            retry.to_json()
        given = {
            "queue": queue,
            "priority": priority,
            "timeout": timeout,
            "retry": retry,
            "cancel_grace": cancel_grace,
            "max_pending": max_pending,
            "title": title,
            "description": description,
            "source": source,
            "tags": tags,
            "app": app,
        }
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        return Task(self._definition, replace(self._overrides, **changes))

    def _app(self) -> App:
        return self._overrides.app or open_app()


class _Declare(Protocol):
    """What `@task(...)` gives: it makes the runs of a function durable."""

    @overload
    def __call__(
        self, function: Callable[[TaskContext[In]], Awaitable[Out]], /
    ) -> Task[In, Out]: ...

    @overload
    def __call__(self, function: Callable[[SyncTaskContext[In]], Out], /) -> Task[In, Out]: ...


@overload
def task(function: Callable[[TaskContext[In]], Awaitable[Out]], /) -> Task[In, Out]: ...


@overload
def task(function: Callable[[SyncTaskContext[In]], Out], /) -> Task[In, Out]: ...


@overload
def task(
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: timedelta | None = None,
    cancel_grace: timedelta = CANCEL_GRACE,
    steering: SteeringMode = "reject",
    max_pending: int = MAX_PENDING,
    on_turn_error: TurnError = "fail",
    errors: Sequence[type[BaseException]] = (),
    max_recoveries: int = MAX_RECOVERIES,
    isolation: Isolation | None = None,
    queue: str = "default",
    priority: int = 0,
    title: TextOrFactory = None,
    description: TextOrFactory = None,
    source: TextOrFactory = None,
    tags: TagsOrFactory = None,
) -> _Declare: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: timedelta | None = None,
    cancel_grace: timedelta = CANCEL_GRACE,
    steering: SteeringMode = "reject",
    max_pending: int = MAX_PENDING,
    on_turn_error: TurnError = "fail",
    errors: Sequence[type[BaseException]] = (),
    max_recoveries: int = MAX_RECOVERIES,
    isolation: Isolation | None = None,
    queue: str = "default",
    priority: int = 0,
    title: TextOrFactory = None,
    description: TextOrFactory = None,
    source: TextOrFactory = None,
    tags: TagsOrFactory = None,
) -> Any:
    """Make a function's runs durable: `@task`, or `@task(name=..., ...)`.

    The function takes a `TaskContext[In]`; `In` and its return annotation say how input and output
    are written. A plain `def` runs in a thread, and takes an `outlast.sync.TaskContext[In]`.

    Args:
        function: `async def` or `def`.
        name: the anchor of recovery; None: the function's `__qualname__`.
        retry: how often a run whose handler raises is tried; None: once.
        timeout: what a turn may take, from when a worker first takes it up, waits and crashes
            included; then it is stopped, and the run is `timed_out`. None: as long as it likes.
        cancel_grace: what a turn may take to end when another input, or its timeout, asks it to.
        steering: what a new input does while a turn is under way. `reject`: it is refused; `queue`:
            it begins the next turn; `interrupt`: it ends the turn, and begins the next; `rollback`:
            it undoes the turn as well; `inject`: the turn may take it with `ctx.next_input`, else
            it begins the next.
        max_pending: how many inputs may wait for a turn.
        on_turn_error: what a turn does to its run whose handler raised, with no retry left: the run
            fails, or is suspended until its next input.
        errors: exception classes that a replay may bring back as themselves.
        max_recoveries: at how many deaths in a row, without a new checkpoint, of the process that
            runs it a run fails.
        isolation: where handler and steps run. `"process"`: in a process of their own, which an
            abort kills with all that it has started; the function must stand at the top level of a
            module. Else an `async def` runs `"inline"`, in the worker's event loop, and a `def` in
            a `"thread"`.
        queue: which workers take its runs.
        priority: larger ones go first.
        title: what its runs are called: a text, or a function of `(input, id)`.
        description: more about them: a text, or a function of `(input, id)`.
        source: where they come from: a text, or a function of `(input, id)`.
        tags: at most 32; a mapping, or a function of `(input, id)`.

    Raises:
        UsageError: a setting is out of range; or a type in the annotations would not come back from
            JSON as it was, or a process of its own could not import the function: the message says
            which, and what to do.
    """
    _check_orders(queue, priority, retry)
    _check_errors(errors)
    if name is not None:
        check_name("a task's name", name)
    if max_recoveries < 1:
        raise UsageError(f"max_recoveries is at least 1, not {max_recoveries!r}")
    _check_turns(timeout, cancel_grace, max_pending)
    for what, value, values in (
        ("steering", steering, get_args(SteeringMode)),
        ("on_turn_error", on_turn_error, get_args(TurnError)),
    ):
        if value not in values:
            raise UsageError(f"{what} is one of {', '.join(values)}, not {value!r}")

    def declare(function: Callable[..., Any]) -> Task[Any, Any]:
        settings = _Settings(name, queue, priority, retry, tuple(errors), max_recoveries, isolation)
        definition = replace(
            _define(function, settings, Labels(title, description, source, tags)),
            timeout=None if timeout is None else timeout.total_seconds(),
            cancel_grace=cancel_grace.total_seconds(),
            steering=None if steering == "reject" else steering,
            max_pending=max_pending,
            on_turn_error=on_turn_error,
        )
        TASKS.add(definition)
        return Task(definition)

    return declare if function is None else declare(function)


def _check_delay(delay: object) -> None:
    if delay is not None and not (isinstance(delay, timedelta) and delay >= timedelta(0)):
        raise UsageError(f"a delay is a timedelta of 0 or more, not {delay!r}")


def _check_orders(queue: object, priority: object, retry: object) -> None:
    """Refuse what would be noticed only in a worker, or never: the caller is gone by then."""
    check_name("a queue", queue)
    if type(priority) is not int:
        raise UsageError(f"priority is an int, the larger goes first, not {priority!r}")
    check_policy("retry", retry)


def _check_turns(timeout: object, cancel_grace: object, max_pending: object) -> None:
    if timeout is not None:
        seconds_of("timeout", timeout, least=timedelta(milliseconds=1))
    seconds_of("cancel_grace", cancel_grace)
    if type(max_pending) is not int or max_pending < 1:
        raise UsageError(f"max_pending is an int of 1 or more, not {max_pending!r}")


def _check_errors(errors: object) -> None:
    if not isinstance(errors, Sequence) or not all(
        isinstance(one, type) and issubclass(one, BaseException)
        for one in cast("Sequence[object]", errors)
    ):
        raise UsageError(f"errors is a sequence of exception classes, not {errors!r}")


@dataclass(frozen=True, slots=True)
class _Settings:
    name: str | None
    queue: str
    priority: int
    retry: RetryPolicy | None
    errors: tuple[type[BaseException], ...]
    max_recoveries: int
    isolation: Isolation | None


def _define(function: Callable[..., Any], settings: _Settings, labels: Labels) -> Definition:
    name = settings.name or function.__qualname__
    check_name("a task's name", name)
    is_async = inspect.iscoroutinefunction(function)
    context_class = _context_class(is_async=is_async)
    annotation = codec.parameter_annotation(function, 0)
    if _is_context(annotation, _context_class(is_async=not is_async)):
        kind, needed = ("async def", "outlast") if is_async else ("def", "outlast.sync")
        raise UsageError(
            f"the task {name!r} is a {kind}: its first parameter is an {needed}.TaskContext, not "
            f"{annotation!r}"
        )
    check_isolation(name, function, settings.isolation, is_async=is_async)
    input_type = codec.type_argument(annotation, context_class)
    output_type = codec.result_annotation(function)
    return Definition(
        name=name,
        module=function.__module__,
        function=function,
        is_async=is_async,
        make_context=lambda calls: context_class(calls, open_app()),
        input=codec.codec_for(input_type, where=f"the input of task {name!r}"),
        output=codec.codec_for(output_type, where=f"the output of task {name!r}"),
        queue=settings.queue,
        priority=settings.priority,
        retry=settings.retry,
        errors=settings.errors,
        max_recoveries=settings.max_recoveries,
        is_isolated=settings.isolation == "process",
        labels=labels,
    )


def _is_context(annotation: Any, context_class: type) -> bool:
    return annotation is context_class or get_origin(annotation) is context_class


def _context_class(*, is_async: bool) -> Any:
    if is_async:
        return TaskContext
    from outlast import sync  # noqa: PLC0415 - it stands on this module

    return sync.TaskContext
