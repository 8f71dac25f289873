"""What the process knows of its tasks: which function runs under which name, and how."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakValueDictionary

from outlast.engine.retry import RetryPolicy
from outlast.errors import UsageError
from outlast.model.events import Steering
from outlast.model.run import Run
from outlast.model.terms import MAX_RECOVERIES, Terms
from outlast.model.turns import MAX_PENDING

if TYPE_CHECKING:
    from outlast.codec import Codec
    from outlast.engine.attempt import Calls

CANCEL_GRACE: Final = timedelta(seconds=5)
"""What a turn has to end when another input or its timeout asks it to."""

TurnError = Literal["fail", "suspend"]

TextOrFactory = str | Callable[[Any, str], str] | None
TagsOrFactory = Mapping[str, str] | Callable[[Any, str], Mapping[str, str]] | None


@dataclass(frozen=True, slots=True)
class Labels:
    """What a run is called and found by: values, or factories of `(input, id)`."""

    title: TextOrFactory = None
    description: TextOrFactory = None
    source: TextOrFactory = None
    tags: TagsOrFactory = None


@dataclass(eq=False, slots=True, weakref_slot=True)
class Definition:
    """A task as it was declared.

    Attributes:
        function: the handler; `make_context` gives it its `ctx`.
        input, output: how its values are written and read.
        errors: classes that a replay may bring back.
        timeout: seconds that a turn may take.
        cancel_grace: seconds that a turn has to end when it is asked to.
        steering: what a new input does to a turn under way; None: it is refused.
        is_isolated: whether its handler runs in a process of its own.
    """

    name: str
    module: str
    function: Callable[..., Any]
    is_async: bool
    make_context: Callable[[Calls], Any]
    input: Codec[Any]
    output: Codec[Any]
    queue: str = "default"
    priority: int = 0
    retry: RetryPolicy | None = None
    errors: tuple[type[BaseException], ...] = ()
    max_recoveries: int = MAX_RECOVERIES
    is_isolated: bool = False
    labels: Labels = field(default_factory=Labels)
    timeout: float | None = None
    cancel_grace: float = CANCEL_GRACE.total_seconds()
    steering: Steering | None = None
    max_pending: int = MAX_PENDING
    on_turn_error: TurnError = "fail"

    def terms(self, run: Run, now: float, streamed: int) -> Terms:
        """Return what decisions on the run know beside it; what was stored with it is stronger."""
        timeout = run.start.options.get("timeout", self.timeout)
        return Terms(now, timeout, streamed, self.max_recoveries, self.on_turn_error)

    def grace_of(self, run: Run) -> float:
        """Return the seconds that a turn of the run has to end when it is asked to."""
        grace: float = run.start.options.get("cancel_grace", self.cancel_grace)
        return grace


class Registry:
    """The tasks that are declared in this process, for as long as somebody keeps them."""

    def __init__(self) -> None:
        self._by_module: dict[str, WeakValueDictionary[str, Definition]] = {}  # by name

    def add(self, definition: Definition) -> None:
        """Know the task from now on, in place of an earlier one of its name and module."""
        modules = self._by_module.setdefault(definition.name, WeakValueDictionary())
        modules[definition.module] = definition

    def find(self, name: str) -> Definition | None:
        """Return the task of this name, if there is one.

        Raises:
            UsageError: two modules declare a task of this name.
        """
        modules = self._by_module.get(name)
        if modules is None:
            return None
        if len(modules) > 1:
            gc.collect()  # one of the two may be gone, but for a cycle of references
            # Their names only: whoever keeps the error would keep the tasks that its frames know.
            names = sorted(modules)
            if len(names) > 1:
                raise UsageError(
                    f"two tasks are named {name!r}, one in {names[0]!r} and one in {names[1]!r}; "
                    "give one of them another name: @task(name=...)"
                )
        # The references themselves: going through the values takes several times as long.
        found = (each() for each in modules.valuerefs())
        return next((definition for definition in found if definition is not None), None)

    def in_module(self, name: str, module: str) -> Definition | None:
        """Return the task that this module declares under the name, whatever others declare."""
        modules = self._by_module.get(name)
        return None if modules is None else modules.get(module)

    def by_name(self) -> Mapping[str, Definition]:
        """Return every task.

        Raises:
            UsageError: two modules declare a task of one name.
        """
        found = {name: self.find(name) for name in list(self._by_module)}
        return {name: definition for name, definition in found.items() if definition is not None}


TASKS: Final = Registry()
"""The tasks of this process."""
