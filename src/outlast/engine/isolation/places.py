"""Where a child finds what its worker has: by import, of a name that the worker itself has.

The one rule that must not be broken: no name that is stored is ever imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Final, NamedTuple

from outlast.errors import UsageError

_SCRIPT: Final = "__outlast_main__"
"""The name under which a child loads the program that its worker runs."""

_REMEDY: Final = "move it to the top level of a module (a .py file that can be imported)"


class Place(NamedTuple):
    """Where a function or a class is.

    Attributes:
        module: its name.
        path: of the thing in the module, with dots.
        script: the file, where the module is the program that was started as a file.
    """

    module: str
    path: str
    script: str | None = None


def place_of(what: str, thing: Callable[..., Any]) -> Place:
    """Return where a child finds the function, or the class.

    Raises:
        UsageError: it cannot be imported; the message begins with `what` it is.
    """
    module, path = thing.__module__, thing.__qualname__
    if "<" in path:
        raise UsageError(
            f"{what} cannot run in a process of its own: a child finds it by import, and {path!r} "
            f"is made inside a function, or has no name; {_REMEDY}"
        )
    if module != "__main__":
        return Place(module, path)
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):  # python -m package.module
        return Place(spec.name, path)
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():
        raise UsageError(
            f"{what} cannot run in a process of its own: {path!r} was typed into a prompt or a "
            f"notebook, where a child cannot import it; {_REMEDY}"
        )
    return Place(module, path, str(Path(file).resolve()))


def check_isolation(
    name: str, function: Callable[..., Any], isolation: object, *, is_async: bool
) -> None:
    """Refuse an isolation that the handler of this task cannot have; None is the usual one.

    Raises:
        UsageError: says which it can have, or why a process of its own could not import it.
    """
    kind, usual = ("async def", "inline") if is_async else ("def", "thread")
    if isolation not in (None, usual, "process"):
        raise UsageError(
            f"the task {name!r} is a {kind}: its isolation is {usual!r} or 'process', not "
            f"{isolation!r}"
        )
    if isolation == "process":
        place_of(f"the task {name!r}", function)


def opening_of(url: str, max_payload: int, resources: Any) -> Mapping[str, Any]:
    """Return what a child is told of the app: where its resources are, or why it has none."""
    place, problem = _resources_of(resources)
    return {"url": url, "max_payload": max_payload, "resources": place, "problem": problem}


def _resources_of(given: Any) -> tuple[Place | None, str]:
    if given is None:
        return None, ""
    if not is_factory(given):
        return None, (
            "ctx.resources is an object of the worker's process, and a handler in a process of its "
            "own cannot have it; give outlast.open(resources=...) a function, at the top level of "
            "a module, that returns an async context manager: each process enters it once"
        )
    try:
        return place_of("the factory of resources", given), ""
    except UsageError as error:
        return None, str(error)


def is_factory(given: object) -> bool:
    """Say whether these resources are still to be made: by a function, or a class."""
    return inspect.isroutine(given) or inspect.isclass(given)


def load(place: Place) -> str:
    """Load the module, and return the name under which it is known here.

    Raises:
        UsageError: it cannot be loaded.
    """
    name = place.module if place.script is None else _SCRIPT
    try:
        if place.script is None:
            importlib.import_module(name)
        elif name not in sys.modules:
            _load_script(name, place.script)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a program raises that was not meant to be imported
        remedy = (
            "what starts something belongs under `if __name__ == '__main__':`, because a child "
            "loads the same file"
            if place.script
            else "a child imports the module anew: what its import needs must be there"
        )
        raise UsageError(
            f"{place.script or name!r} cannot be loaded in a process of its own: "
            f"{type(error).__name__}: {error}; {remedy}"
        ) from error
    return name


def _load_script(name: str, path: str) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def find(place: Place) -> Any:
    """Load and return what is there.

    Raises:
        UsageError: the module cannot be loaded, or has nothing of this name.
    """
    module = sys.modules[load(place)]
    try:
        return reduce(getattr, place.path.split("."), module)
    except AttributeError as error:
        raise UsageError(f"{place.module!r} has no {place.path!r} at its top level") from error
