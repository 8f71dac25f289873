"""Answers what a child asks of the store, for one run.

The one rule that must not be broken: a child writes to the journal of its own run under the fence
that its worker gave it, and to others only what anybody may say at any time: creates and facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from outlast.engine.isolation.wire import Message, Wire, change_from, error_data, query_from
from outlast.errors import Fenced, UsageError
from outlast.store import Hint

if TYPE_CHECKING:
    from outlast.engine.attempt import Surroundings
    from outlast.engine.record import Record
    from outlast.journal import Change, Head

MAX_HEARD: Final = 1_000
"""Journals of other runs of whose changes a child hears at once."""

MAX_ASKED: Final = 1_000
"""Questions of a child that are answered at once; what else it says is not read meanwhile."""


class Desk:
    """Where one child asks, while it has a run.

    Attributes:
        concludes: whether the child's last write, done or under way, ends the attempt.
        refused: called when the store says that the lease is over.
    """

    concludes: bool
    refused: Callable[[], None]

    def __init__(self, around: Surroundings, record: Record, wire: Wire) -> None:
        self._around, self._record, self._wire = around, record, wire
        self._under_way: set[asyncio.Task[None]] = set()
        self._heard: set[str] = {record.key}
        self._listening = ExitStack()
        self._known = 0  # the revision of the last answer: hints up to it say nothing new
        # Of what changes while the child does not read: a code that never awaits must not fill
        # the worker's memory.
        self._unsaid: set[str | None] = set()
        wire.writable = self._catch_up
        self.concludes = False
        self.refused = lambda: None

    def hear(self, message: Message) -> None:
        """Answer a question; a child asks several at once."""
        task = self._around.system.spawn(
            self._answer(message["ask"], message["verb"], message["with"]), "desk"
        )
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        if len(self._under_way) >= MAX_ASKED:
            self._wire.listen(is_wanted=False)

    def _forget(self, answered: asyncio.Task[None]) -> None:
        self._under_way.discard(answered)
        if len(self._under_way) == MAX_ASKED // 2:
            self._wire.listen(is_wanted=True)

    def pass_on(self, hint: Hint) -> None:
        """Tell the child that a journal may have changed; when it reads again, if it does not."""
        if hint.key == self._record.key and 0 < hint.revision <= self._known:
            return
        if self._wire.is_full:
            self._unsaid.add(hint.key)
        else:
            self._wire.send({"hint": hint})

    def _catch_up(self) -> None:
        keys, self._unsaid = self._unsaid, set()
        for key in keys:
            self.pass_on(Hint(key))

    async def close(self) -> None:
        """Return when nothing that the child has asked for is under way any more."""
        self._listening.close()
        self._wire.writable = lambda: None
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _answer(self, number: int, verb: str, arguments: Any) -> None:
        try:
            self._wire.send({"answer": number, "value": await self._ask(verb, arguments)})
        except Exception as error:  # noqa: BLE001 - it belongs to the child
            self._wire.send({"answer": number, "error": error_data(error)})

    async def _ask(self, verb: str, arguments: Any) -> Any:
        store = self._around.store
        match verb:
            case "commit":
                return await self._commit([change_from(one) for one in arguments["changes"]])
            case "read":
                self._listen(arguments["key"])
                return await store.read(**arguments)
            case "scan":
                query = query_from(arguments.pop("query"))
                return await store.scan(query, **arguments)
            case "renew":
                return await store.renew([], arguments["ttl"])
            case _:
                raise UsageError(f"a child cannot ask for {verb!r}")

    async def _commit(self, changes: Sequence[Change]) -> Sequence[Head]:
        own = [change for change in changes if self._is_own(change)]
        concludes = self.concludes
        if own:
            self.concludes = any(change.close or change.release for change in own)
        try:
            heads = await self._around.store.commit(*changes)
        except Fenced:
            self.concludes = concludes
            self.refused()
            raise
        except Exception:
            self.concludes = concludes
            raise
        for head in heads:
            if head.key == self._record.key:
                self._known = max(self._known, head.revision)
        return heads

    def _is_own(self, change: Change) -> bool:
        """Say whether the child writes to its own run.

        Raises:
            UsageError: it may not write that.
        """
        if change.key == self._record.key and change.fence == self._record.fence:
            return True
        is_create = change.revision == 0 and change.claim is None
        if change.fence is None and (change.fact or is_create):
            return False
        raise UsageError(
            f"a handler in a process of its own cannot write that to {change.key!r}: it starts "
            "other runs, signals them, and cancels those that are at work; do anything else in a "
            "task without isolation='process'"
        )

    def _listen(self, key: str) -> None:
        """Pass hints of this journal on from now on: somebody looks at it."""
        if key not in self._heard and len(self._heard) < MAX_HEARD:
            self._heard.add(key)
            self._listening.enter_context(self._around.hints.listening(key, self.pass_on))
