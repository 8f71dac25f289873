"""A child: runs handlers and the bodies of their steps with the real engine, and owns nothing.

    worker -> child   {"open": {...}}   {"enter": name, ...}   {"hint": [key, revision, closed]}
                      {"shut_down": true}   {"stop": "shutdown"}   {"answer": 7, "value": ...}
                      {"leave": true}
    child -> worker   {"ready": true}   {"ask": 7, "verb": "commit", "with": {...}}
                      {"ended": true, "is_clean": true, ...}   {"refused": "why"}

The one rule that must not be broken: it opens no store. Its attempts write by asking the worker,
which holds the lease, and without a worker it ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import socket
import threading
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from outlast.engine.app import App
from outlast.engine.attempt import Attempt, Stop
from outlast.engine.clock import System
from outlast.engine.definition import TASKS
from outlast.engine.isolation.places import Place, find, load
from outlast.engine.isolation.processes import (
    adopt_orphans,
    has_children,
    kill_relatives,
    leave_signals_to_the_worker,
)
from outlast.engine.isolation.remote import RemoteStore
from outlast.engine.isolation.wire import Message, Wire, reading_from
from outlast.engine.parking import Parker
from outlast.engine.record import Record
from outlast.errors import StoreError, UsageError
from outlast.model.fold import fold

if TYPE_CHECKING:
    from outlast.engine.definition import Definition

log: Final = logging.getLogger("outlast")


class ChildApp(App):
    """The app that handlers find here: on the worker's store, and without a worker of its own.

    Attributes:
        refusal: why there are no resources in this process; empty where nothing is wrong.
    """

    refusal: str = ""

    @property
    def resources(self) -> Any:
        """What this process has for its handlers.

        Raises:
            UsageError: it could not be made here.
        """
        if self.refusal:
            raise UsageError(self.refusal)
        return self._found

    @resources.setter
    def resources(self, found: Any) -> None:
        self._found = found


class Service:
    """What a child does for its worker: one run at a time.

    Attributes:
        wire: to the worker.
    """

    wire: Wire

    def __init__(self) -> None:
        self._system = System()
        self.wire = Wire(self._hear, lambda: None)  # a thread sees to the worker's end
        self._store = RemoteStore(self.wire.send)
        self._parker = Parker(self._system)
        self._opening: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._app: App | None = None
        self._refusal = ""
        self._attempt: Attempt | None = None
        self._leaving = asyncio.Event()

    async def serve(self) -> None:
        """Take runs, until the worker wants no more; most often it ends this process instead."""
        opening = await self._opening
        place, factory = opening["resources"], None
        try:
            factory = find(Place(*place)) if place else None
        except UsageError as error:
            self._refusal = str(error)
        app = ChildApp(
            opening["url"],
            worker=False,
            concurrency=1,
            queues=("default",),
            lease=timedelta(seconds=15),
            grace=timedelta(0),
            namespace="default",
            resources=factory,
            max_payload=opening["max_payload"],
            system=self._system,
            store=self._store,
        )
        app.refusal = opening["problem"]
        async with AsyncExitStack() as stack:
            stack.callback(self.wire.close)
            try:
                self._app = await stack.enter_async_context(app)
            except Exception as error:
                # The factory of resources is the user's.
                self.wire.send({"refused": f"{type(error).__name__}: {error}"})
                raise
            self._parker.open()
            stack.callback(self._parker.close)
            self.wire.send({"ready": True})
            await self._leaving.wait()

    def _hear(self, message: Message) -> None:
        match message:
            case {"answer": _} | {"hint": _}:
                self._store.hear(message)
            case {"enter": _}:
                # At once, not in a task: what comes next is for the run already.
                self._enter(message)
            case {"shut_down": _} if self._attempt is not None:
                self._attempt.ask_to_shut_down()
            case {"stop": reason} if self._attempt is not None:
                self._attempt.stop(Stop(reason))
            case {"open": opening}:
                self._opening.set_result(opening)
            case {"leave": _}:
                self._leaving.set()
            case _:  # it was for a run that is over
                pass

    def _enter(self, order: Message) -> None:
        try:
            definition = self._find_task(order["enter"], Place(*order["place"]))
        except UsageError as error:
            self.wire.send({"refused": str(error)})
            return
        reading = reading_from(order)
        assert self._app is not None
        assert reading.head is not None
        record = Record(
            self._store, self._system, reading.head, fold(reading.entries), writer=order["writer"]
        )
        record.run.revision = reading.head.revision
        if not order["may_park"]:
            self._parker.keep(record.key)
        around = self._app.client.around
        # The worker has taken it up, and these are its entries.
        self._attempt = Attempt(around, record, definition, is_new=True, parker=self._parker)
        self._system.spawn(self._run(self._attempt), f"run {record.key}")

    def _find_task(self, name: str, place: Place) -> Definition:
        if self._refusal:
            raise UsageError(self._refusal)
        definition = TASKS.in_module(name, load(place))
        if definition is None:
            raise UsageError(
                f"the task {name!r} is not declared when {place.script or place.module!r} is "
                "loaded in a process of its own; declare it at the module's top level, under no "
                "condition"
            )
        return definition

    async def _run(self, attempt: Attempt) -> None:
        record, has_stopped = attempt.record, False
        try:
            has_stopped = await attempt.run()
        except StoreError as error:
            log.warning("%s is given up here: %s", record.key, error)
        except Exception:
            log.exception("%s is given up here: an error of outlast's own", record.key)
        self._attempt = None
        may_park = self._parker.may_park(record.key)
        self._parker.forget(attempt, has_ended=attempt.has_ended)
        self.wire.send(
            {
                "ended": has_stopped,
                # Who has left a process behind is not used again: it goes, and that with it.
                "is_clean": has_stopped and not has_children(),
                "has_ended": attempt.has_ended,
                "is_followed": attempt.is_followed,
                "may_park": may_park,
            }
        )


async def _serve(worker: socket.socket) -> None:
    service = Service()
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: service.wire, sock=worker)
    await service.serve()


def _end_with(worker: int) -> None:
    """Wait until the worker is gone, and end everything here: the last of three defences."""
    poll = select.poll()
    poll.register(worker, 0)  # only that it was closed
    poll.poll()
    kill_relatives(os.getpid())
    os.killpg(0, signal.SIGKILL)


def main(worker: int) -> None:
    """Serve the worker at the other end of this descriptor."""
    adopt_orphans()
    leave_signals_to_the_worker()
    os.set_inheritable(worker, False)  # noqa: FBT003 - it has no other form
    link = socket.socket(fileno=worker)
    link.settimeout(0)
    threading.Thread(target=_end_with, args=(worker,), name="outlast-end", daemon=True).start()
    asyncio.run(_serve(link))
