"""`outlast worker`: a process that runs what is due, until it is told to stop.

The one rule that must not be broken: told to stop, it takes nothing new, and loses nothing: what
does not end in time is handed back, for any other worker to go on with.
"""

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NoReturn

import outlast
from outlast import App, UsageError
from outlast.cli.output import print_json
from outlast.engine.definition import TASKS

log: Final = logging.getLogger("outlast.worker")


async def work(
    target: str,
    url: str | None,
    *,
    queues: Sequence[str],
    concurrency: int,
    grace: float,
    namespace: str,
    said: Sequence[str],
    as_json: bool,
) -> None:
    """Run the tasks of a module until the process gets SIGTERM or SIGINT.

    Args:
        target: `MODULE`, or `MODULE:APP`, whose app has settings of its own.
        url: and the other settings are those of an app that is opened here.
        queues: whose runs it takes.
        concurrency: how many runs at a time.
        grace: seconds that runs have to end.
        namespace: whose runs.
        said: which of these settings were given, and are no defaults.
        as_json: whether to print JSON.

    Raises:
        UsageError: the target is not one, or declares no task; or settings were given beside an
            app that has its own.
    """
    own = load(target)
    if own is not None and said:
        raise UsageError(f"{target!r} has settings of its own: leave out {', '.join(said)}")
    app = own or outlast.open(
        url,
        queues=queues,
        concurrency=concurrency,
        grace=timedelta(seconds=grace),
        namespace=namespace,
    )
    tasks = sorted(TASKS.by_name())
    if not tasks:
        raise UsageError(f"{target!r} declares no task; decorate a function with @outlast.task")
    stopping = _stop_on_signals()
    async with app:
        _say("started", as_json=as_json, pid=os.getpid(), database=app.url, tasks=tasks)
        await stopping.wait()
        _say("stopping", as_json=as_json, pid=os.getpid())
    _say("stopped", as_json=as_json, pid=os.getpid())


def load(target: str) -> App | None:
    """Import the module, which declares its tasks, and return the app that is named, if any.

    Raises:
        UsageError: there is no such module, or it has no such app.
    """
    module_name, _, attribute = target.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(
            f"{target!r} is not MODULE or MODULE:APP; name a module as `import` does, such as "
            "'agents.research'"
        )
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - an entry of `sys.path` is a string
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # it is there, and imports something else that is not
        raise UsageError(f"there is no module {module_name!r} here") from error
    if not attribute:
        return None
    app = getattr(module, attribute, None)
    if not isinstance(app, App):
        raise UsageError(f"{target!r} is not what outlast.open() returned, but {app!r}")
    return app


def _stop_on_signals() -> asyncio.Event:
    """Return what is set by the first SIGTERM or SIGINT; the second ends the process."""
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        if stopping.is_set():
            _leave(number)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return stopping


def _leave(number: signal.Signals) -> NoReturn:
    """End at once: the death of this process tells other workers to go on with its runs."""
    sys.stdout.flush()
    os._exit(128 + number)


def _say(event: str, *, as_json: bool, **more: object) -> None:
    if as_json:
        print_json({"event": event, **more})
    else:
        details = " ".join(f"{name}={value}" for name, value in more.items())
        sys.stdout.write(f"outlast worker {event} {details}\n")
        sys.stdout.flush()
