"""An open app: a store, what watches it, and perhaps a worker.

It belongs to the process and the event loop that opened it. The one rule that must not be broken: a
call from anywhere else is refused at once, before it has touched anything.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import ContextVar, copy_context
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from outlast.engine.attempt import Surroundings
from outlast.engine.client import Client
from outlast.engine.clock import System
from outlast.engine.definition import TASKS
from outlast.engine.hints import Hints
from outlast.engine.isolation.places import is_factory, opening_of
from outlast.engine.payloads import MAX_PAYLOAD
from outlast.engine.runs import Runs
from outlast.engine.settings import seconds_of
from outlast.engine.turn import MAX_NAME
from outlast.engine.worker import Worker
from outlast.errors import UsageError
from outlast.store import Store, open_store

DEFAULT_URL: Final = "sqlite:///outlast.db"

current: ContextVar[App | None] = ContextVar("app", default=None)
"""The app of the handler that we are in."""

_open: list[App] = []


class App:
    """Durable tasks on one store: `async with outlast.open(...) as app`.

    Entering it opens the store and starts the worker; leaving it is the shutdown. It can be entered
    once.
    """

    url: str
    resources: Any
    max_payload: int

    def __init__(
        self,
        url: str,
        *,
        worker: bool,
        concurrency: int,
        queues: Sequence[str],
        lease: timedelta,
        grace: timedelta,
        namespace: str,
        resources: Any,
        max_payload: int,
        system: System | None = None,
        store: Store | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"concurrency is at least 1, not {concurrency!r}")
        seconds_of("lease", lease, least=timedelta(seconds=1))
        seconds_of("grace", grace)
        if not queues or isinstance(queues, str):
            raise UsageError(f"queues is a sequence of one name or more, not {queues!r}")
        for what, name in (("namespace", namespace), *(("queue", queue) for queue in queues)):
            if not 0 < len(name) <= MAX_NAME:
                raise UsageError(
                    f"a {what} has 1 to {MAX_NAME} characters, not {len(name)}: {name[:60]!r}"
                )
        self.url, self.max_payload = url, max_payload
        self.resources = self._given = resources  # a factory's come when it is entered
        self._system = system or System()
        self._store = store or open_store(url, clock=self._system, namespace=namespace)
        self._has_worker, self._concurrency, self._queues = worker, concurrency, tuple(queues)
        self._lease, self._grace = lease.total_seconds(), grace.total_seconds()
        self._process: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stack = AsyncExitStack()
        self._client: Client | None = None
        self._worker: Worker | None = None

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise UsageError(
                f"the app on {self.url!r} was entered before; call outlast.open() again"
            )
        self._loop, self._process = asyncio.get_running_loop(), self._system.process_id()
        if self._has_worker:
            TASKS.by_name()  # two tasks of one name are refused here
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._store)
            stack.callback(self._system.handlers.close)
            stack.callback(self._system.steps.close)
            hints = Hints(self._store)
            stack.callback(hints.close)
            variables = copy_context()
            variables.run(current.set, self)
            around = Surroundings(self._store, self._system, hints, variables, self.max_payload)
            if is_factory(self._given):
                self.resources = await stack.enter_async_context(_made_by(self._given))
            if self._has_worker:
                self._worker = self._make_worker(around)
                self._worker.open()
                stack.push_async_callback(self._close_worker)
            self._client = Client(around, self._worker, self._checked)
            _open.append(self)
            stack.callback(_open.remove, self)
            self._stack = stack.pop_all()
        return self

    def _make_worker(self, around: Surroundings) -> Worker:
        return Worker(
            around,
            owner=self._system.draw_name(),
            queues=self._queues,
            concurrency=self._concurrency,
            lease=self._lease,
            grace=self._grace,
            opening=opening_of(self.url, self.max_payload, self._given),
        )

    async def _close_worker(self) -> None:
        if self._worker is not None:
            await self._worker.close()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client  # noqa: B018 - refuses another loop, and a forked process
        await self._stack.__aexit__(kind, error, trace)
        self._client = None

    @property
    def client(self) -> Client:
        """What the app can do, once it is clear that it may be asked here.

        Raises:
            UsageError: the app is not open, or belongs to another process or event loop.
        """
        return self._checked()

    @property
    def is_of_this_process(self) -> bool:
        """Whether it was opened here, and not by a process of which this is a fork."""
        return self._process == self._system.process_id()

    def _checked(self) -> Client:
        if self._client is None:
            raise UsageError(
                f"the app on {self.url!r} is not open; use it inside `async with outlast.open(...)`"
            )
        if not self.is_of_this_process:
            raise UsageError(
                f"the app on {self.url!r} was opened in process {self._process}, and this is its "
                f"fork {self._system.process_id()}; open an app of its own here"
            )
        if self._loop is not _running_loop():
            raise UsageError(
                f"the app on {self.url!r} was opened in another event loop; await it there, or "
                "open another app in this one"
            )
        return self._client

    @property
    def runs(self) -> Runs:
        """The runs of the store, whatever their task."""
        return Runs(self.client)


def _made_by(factory: Callable[[], Any]) -> AbstractAsyncContextManager[Any]:
    made: Any = factory()
    if not hasattr(made, "__aenter__"):
        raise UsageError(
            f"resources={factory!r} gives {made!r}: a factory returns an async context manager, "
            "which each process enters once; anything else is given as an object"
        )
    entered: AbstractAsyncContextManager[Any] = made
    return entered


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def open_app() -> App:
    """Return the app that a call means which names none.

    Inside a handler it is the handler's own; else it is the one that is open in this process.

    Raises:
        UsageError: none is open, or two are.
    """
    if (own := current.get()) is not None:
        return own
    here = [app for app in _open if app.is_of_this_process] or _open
    if len(here) == 1:
        return here[0]
    if not here:
        raise UsageError("no app is open; call this inside `async with outlast.open(...)`")
    raise UsageError(
        f"{len(here)} apps are open ({', '.join(repr(app.url) for app in here)}); say which one: "
        "task.options(app=app)"
    )


def open(  # noqa: A001 - `outlast.open`
    url: str | None = None,
    *,
    worker: bool = True,
    concurrency: int = 10,
    queues: Sequence[str] = ("default",),
    lease: timedelta = timedelta(seconds=15),
    grace: timedelta = timedelta(seconds=10),
    namespace: str = "default",
    resources: Any = None,
    max_payload: int = MAX_PAYLOAD,
) -> App:
    """Return an app, which is opened when it is entered: `async with outlast.open() as app`.

    Args:
        url: where runs are kept: `sqlite:///relative.db`, `sqlite:////absolute.db`, `memory://`.
            None: `$OUTLAST_URL`, else `sqlite:///outlast.db`. With `?synchronous=normal` a SQLite
            file survives a crash of the process, but the last commits may be lost with the
            machine's power.
        worker: whether runs are run in this process; else the app only starts, reads and stops
            them.
        concurrency: how many runs at a time.
        queues: whose runs the worker takes.
        lease: for how long after its worker fell silent a run belongs to it; at least 1 s. The
            death of a process on the same machine is noticed at once.
        grace: how long runs may go on after the app was left; then they are stopped and handed
            back.
        namespace: runs of another one are not seen.
        resources: what handlers find in `ctx.resources`: an object, or a function or class that
            gives an async context manager, which each process enters once.
        max_payload: bytes of one input, output, outcome of a step, signal or item, as JSON.

    Raises:
        UsageError: a setting is out of range, or the URL is not one of ours.
    """
    return App(
        url if url is not None else os.environ.get("OUTLAST_URL", DEFAULT_URL),
        worker=worker,
        concurrency=concurrency,
        queues=queues,
        lease=lease,
        grace=grace,
        namespace=namespace,
        resources=resources,
        max_payload=max_payload,
    )
