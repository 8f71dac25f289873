"""The types that a function's own annotations name.

The one rule: a name is resolved where the function was defined, or that is the caller's mistake; it
is never guessed, and never looked up by what is stored.
"""

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final

from outlast.errors import UsageError

# Of dataclasses, TypedDicts (also those of typing_extensions) and NamedTuples.
_MARKS_OF_FIELDS: Final = ("__dataclass_fields__", "__total__", "_fields")


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of the parameters and, as `return`, of the result; strings resolved.

    What has no annotation is not there.

    Raises:
        UsageError: a name in an annotation cannot be resolved.
    """
    signature = _signature(function)
    annotations = {name: one.annotation for name, one in signature.parameters.items()}
    annotations["return"] = signature.return_annotation
    return {
        name: _resolve(annotation, function)
        for name, annotation in annotations.items()
        if annotation is not inspect.Signature.empty
    }


def result_annotation(function: Callable[..., Any]) -> Any:
    """Return the type of what a call gives, or of what awaiting it gives; Any if not annotated.

    Raises:
        UsageError: a name in the annotation cannot be resolved.
    """
    if isinstance(function, type | types.GenericAlias):
        return function
    annotation = _signature(function).return_annotation
    if annotation is inspect.Signature.empty:
        return Any
    annotation = _resolve(annotation, function)
    if annotation in (typing.NoReturn, typing.Never):
        return Any
    if _is_awaitable(annotation) and not inspect.iscoroutinefunction(_innermost(function)):
        return (typing.get_args(annotation) or (Any,))[-1]
    return annotation


def parameter_annotation(function: Callable[..., Any], index: int) -> Any:
    """Return the type of a parameter as a caller counts them, without `self`; Any if there is none.

    Raises:
        UsageError: a name in the annotation cannot be resolved.
    """
    parameters = list(_signature(function).parameters.values())
    if index >= len(parameters) or parameters[index].annotation is inspect.Parameter.empty:
        return Any
    return _resolve(parameters[index].annotation, function)


def type_argument(annotation: Any, generic: type) -> Any:
    """Return `In` of `generic[In]`, also where that stands in `Annotated`; else Any."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is generic:
        return typing.get_args(annotation)[0]
    return Any


def _is_awaitable(annotation: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, collections.abc.Awaitable)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return inspect.Signature()  # Many functions written in C have none.
    except NameError as error:
        raise _unresolved(error, function) from error


def _resolve(annotation: Any, function: Callable[..., Any]) -> Any:
    defined = _innermost(function)
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    own_names = {one.__name__: one for one in getattr(defined, "__type_params__", ())}
    own_names.update(_closure(defined))
    try:
        resolved = typing.get_type_hints(
            holder, getattr(defined, "__globals__", {}), own_names, include_extras=True
        )
    except Exception as error:
        raise _unresolved(error, function) from error
    return resolved["it"]


def _innermost(function: Any) -> Any:
    """Return the function that was defined: without partials, methods, decorators, instances."""
    while True:
        if isinstance(function, functools.partial):
            function = typing.cast("Any", function).func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not inspect.isroutine(function) and not isinstance(function, type):
            function = type(function).__call__
        else:
            return function


def _closure(function: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue  # It is not assigned yet.


def _unresolved(error: Exception, function: Callable[..., Any]) -> UsageError:
    return UsageError(
        f"an annotation of {name_of(_innermost(function))}() cannot be resolved: {error}; define "
        "or import what it names at the top of the module (not inside a function, nor below "
        "`if TYPE_CHECKING`), or annotate the type itself instead of its name as text"
    )


def name_of(annotation: Any) -> str:
    """Return how the type, or the function, is called in its source."""
    if typing.get_origin(annotation) is None and hasattr(annotation, "__qualname__"):
        return str(annotation.__qualname__)
    return repr(annotation).replace("typing.", "")


def parts_of(annotation: Any) -> Iterator[tuple[str, Any]]:
    """Yield the annotations inside an annotation, each with the step that leads to it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield "", arguments[0]
    elif origin in (typing.Union, types.UnionType):
        yield from (("", member) for member in arguments)
    elif isinstance(origin, type):
        yield from (("[...]", argument) for argument in arguments if argument is not ...)
    elif isinstance(annotation, type) and any(hasattr(annotation, m) for m in _MARKS_OF_FIELDS):
        for name, part in typing.get_type_hints(annotation, include_extras=True).items():
            if not isinstance(part, dataclasses.InitVar):
                yield f".{name}", part
