"""What clients do with runs: start, tell, stop, listen, wait; and again, when they were killed.

A client says everything again that it may have said before, under the same ids. The one rule that
must not be broken: what was accepted is told to the oracle at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeVar

from outlast import (
    App,
    Conflict,
    Task,
    TaskAborted,
    TaskCancelled,
    TaskConflict,
    TaskFailed,
    TaskNotFound,
    TaskRun,
    Unavailable,
)
from outlast.testing.simulation.oracle import Oracle
from outlast.testing.simulation.workload import Story

T = TypeVar("T")

_PAUSE: Final = 0.2
"""Seconds before something is said again that the store did not answer."""


@dataclass(slots=True)
class Plan:
    """What is to be done with one run.

    Attributes:
        input_id: names the run, whose id may be used again.
        starts_at: by the clock of the simulation, as all times.
        words: signals, and when they are sent.
        stop: how it is stopped, and when.
        is_deleted: whether it is deleted when it has ended.
        then: what is done with its id after that; None: nothing.
        progress: what is done, which a client that is killed has written down.
    """

    id: str
    input_id: str
    task: Task[int, Story]
    size: int
    starts_at: float
    words: Sequence[tuple[float, str]] = ()
    stop: tuple[float, Literal["cancel", "abort"]] | None = None
    is_deleted: bool = False
    then: Plan | None = None
    progress: Literal["", "ended", "over"] = ""


class Client:
    """What a process does with its app that is there for runs of others."""

    def __init__(self, app: App, oracle: Oracle) -> None:
        self._app, self._oracle = app, oracle

    async def lead(self, plan: Plan | None) -> None:
        """Do what is planned with a run, and with those that have its id afterwards."""
        while plan is not None:
            if not plan.progress:
                await _wait_until(plan.starts_at)
                run = await self._start(plan)
                await asyncio.gather(
                    self._tell(plan, run),
                    self._stop(plan, run),
                    self._follow(plan.input_id, run),
                    self._await_end(plan.input_id, run),
                )
                plan.progress = "ended"
            if plan.progress == "ended":
                if plan.is_deleted:
                    await self._delete(plan)
                plan.progress = "over"
            plan = plan.then

    async def observe(self, plan: Plan) -> None:
        """Look at a run that somebody else leads, until it has ended, or is not there any more."""
        while True:
            try:
                run = await _insist(lambda: self._app.runs.get(plan.id))
                # By now it may be the next one that has the id: which one it is, its input says.
                input_id = await _insist(partial(_input_of, run))
            except TaskNotFound:
                if plan.progress == "over" and plan.then is None:
                    return
                await asyncio.sleep(_PAUSE)
                continue
            break
        await asyncio.gather(self._follow(input_id, run), self._await_end(input_id, run))

    async def _start(self, plan: Plan) -> TaskRun[Any]:
        run = await _insist(lambda: plan.task.start(plan.size, id=plan.id, input_id=plan.input_id))
        self._oracle.accepted(plan.input_id)
        return run

    async def _tell(self, plan: Plan, run: TaskRun[Any]) -> None:
        for at, word in plan.words:
            await _wait_until(at)
            self._oracle.sends(plan.input_id, word)
            try:
                await _insist(partial(run.signal, "word", word, id=word))
            except TaskConflict:
                self._oracle.refused(plan.input_id)
            else:
                self._oracle.sent(plan.input_id, word)

    async def _stop(self, plan: Plan, run: TaskRun[Any]) -> None:
        if plan.stop is None:
            return
        at, how = plan.stop
        await _wait_until(at)
        if how == "cancel":
            await _insist(run.cancel)
            self._oracle.cancelled(plan.input_id)
        else:
            await _insist(run.abort)
            self._oracle.refused(plan.input_id)

    async def _follow(self, input_id: str, run: TaskRun[Any]) -> None:
        """Read the stream to its end."""
        after = 0
        while True:
            try:
                async for item in run.stream(after=after):
                    self._oracle.reads(input_id, after, item)
                    after = item.offset
            except Unavailable:
                await asyncio.sleep(_PAUSE)
                continue
            except TaskNotFound:
                self._oracle.gone(input_id)
            else:
                self._oracle.has_read_all(input_id, after)
            return

    async def _await_end(self, input_id: str, run: TaskRun[Any]) -> None:
        """Wait for the result."""
        try:
            result = await _insist(run.result)
        except (TaskAborted, TaskCancelled, TaskFailed) as error:
            self._oracle.ended(input_id, repr(error))
        except TaskNotFound:
            self._oracle.gone(input_id)
        else:
            self._oracle.ended(input_id, repr(result.output))

    async def _delete(self, plan: Plan) -> None:
        """Delete the run, which has ended; the store has the word for it."""
        store, key = self._app.client.around.store, f"run/{plan.id}"
        while True:
            head = (await _insist(partial(store.read, key, limit=0))).head
            if head is None:
                return
            try:
                await _insist(partial(store.delete, key, expect=head.revision))
            except Conflict:  # somebody holds its lease
                await asyncio.sleep(_PAUSE)


async def _input_of(run: TaskRun[Any]) -> str:
    """Return the id of the input with which the run was made."""
    created, *_ = [entry async for entry in run.history()]
    input_id: str = created.data["input_id"]
    return input_id


async def _insist(request: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer."""
    while True:
        try:
            return await request()
        except Unavailable:
            await asyncio.sleep(_PAUSE)


async def _wait_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
