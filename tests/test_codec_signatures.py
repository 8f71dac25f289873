"""The types that a function's annotations name are found however the function is made."""

import asyncio
import collections.abc
import functools
import typing
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, Generic, TypeVar
from unittest.mock import AsyncMock

import pytest

from outlast.codec import (
    digest,
    hints,
    parameter_annotation,
    result_annotation,
    result_codec,
    type_argument,
)
from outlast.errors import UsageError

In = TypeVar("In")


class Context(Generic[In]):
    pass


class Plan:
    pass


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def textual(ctx: "Context[Plan]", count: "int" = 1) -> "list[Plan]": ...  # type: ignore[empty-body]


async def asynchronous() -> "Plan": ...  # type: ignore[empty-body]


def awaitable() -> Awaitable[Plan]: ...  # type: ignore[empty-body]


def coroutine() -> Coroutine[Any, Any, Plan]: ...  # type: ignore[empty-body]


def future() -> "asyncio.Future[Plan]": ...  # type: ignore[empty-body]


def bare_future() -> "asyncio.Future": ...  # type: ignore[empty-body, type-arg]


async def gives_awaitable() -> Awaitable[Plan]: ...  # type: ignore[empty-body]


def never() -> typing.NoReturn:
    raise NotImplementedError


def silent(): ...  # type: ignore[no-untyped-def]  # noqa: ANN201


def nothing() -> None: ...


class Tools:
    def method(self, ctx: "Context[int]") -> "Plan": ...  # type: ignore[empty-body]

    @classmethod
    def of_class(cls, count: int) -> "Plan": ...  # type: ignore[empty-body]

    @staticmethod
    def static(count: int) -> "Plan": ...  # type: ignore[empty-body]

    def __call__(self, ctx: "Context[str]") -> "Plan": ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "annotation"),
    [
        (textual, list[Plan]),
        (decorated(textual), list[Plan]),
        (decorated(decorated(Tools().method)), Plan),
        (functools.partial(textual, Context()), list[Plan]),
        (functools.partial(functools.partial(Tools().method), None), Plan),
        (asynchronous, Plan),
        (awaitable, Plan),
        (coroutine, Plan),
        (future, Plan),
        (bare_future, Any),
        (gives_awaitable, Awaitable[Plan]),
        (never, Any),
        (silent, Any),
        (nothing, type(None)),
        (lambda: 1, Any),
        (len, Any),
        (print, Any),
        (max, Any),
        (dict.get, Any),
        (AsyncMock(), Any),
        (Plan, Plan),
        (list[int], list[int]),
        (Tools, Tools),
        (Tools(), Plan),
        (Tools().method, Plan),
        (Tools.method, Plan),
        (Tools.of_class, Plan),
        (Tools().static, Plan),
    ],
)
def test_the_type_of_a_result_is_found(function: Callable[..., Any], annotation: Any) -> None:
    assert result_annotation(function) == annotation


@pytest.mark.parametrize(
    ("function", "index", "annotation"),
    [
        (textual, 0, Context[Plan]),
        (textual, 1, int),
        (textual, 2, Any),
        (silent, 0, Any),
        (decorated(textual), 0, Context[Plan]),
        (functools.partial(textual, Context()), 0, int),
        (Tools().method, 0, Context[int]),
        (Tools(), 0, Context[str]),
        (Tools.of_class, 0, int),
        (lambda ctx: ctx, 0, Any),
    ],
)
def test_the_type_of_a_parameter_is_found_as_a_caller_counts(
    function: Callable[..., Any], index: int, annotation: Any
) -> None:
    assert parameter_annotation(function, index) == annotation


def test_hints_are_those_that_are_annotated() -> None:
    def half(one, two: "int"): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202

    assert hints(textual) == {"ctx": Context[Plan], "count": int, "return": list[Plan]}
    assert hints(half) == {"two": int}
    assert hints(len) == {}


@pytest.mark.parametrize(
    ("annotation", "argument"),
    [
        (Context[Plan], Plan),
        (Annotated[Context[Plan], "note"], Plan),
        (Context, Any),
        (list[Plan], Any),
        (Any, Any),
    ],
)
def test_the_input_is_the_argument_of_the_context(annotation: Any, argument: Any) -> None:
    assert type_argument(annotation, Context) is argument


def test_only_the_annotation_that_is_asked_for_has_to_be_resolved() -> None:
    def handler(ctx: "Missing") -> "list[int]": ...  # type: ignore[name-defined, empty-body]  # noqa: F821

    assert result_annotation(handler) == list[int]


def test_a_name_that_cannot_be_resolved_is_refused_with_the_remedy() -> None:
    class Local:
        pass

    def handler(ctx: "Context[Local]") -> "Local": ...  # type: ignore[empty-body]

    for ask in (hints, result_annotation, result_codec, lambda it: parameter_annotation(it, 0)):
        with pytest.raises(UsageError, match="'Local' is not defined; define or import") as caught:
            ask(handler)
        assert "handler() cannot be resolved" in str(caught.value)


def test_a_name_of_an_enclosing_function_is_resolved_if_the_function_uses_it() -> None:
    class Local:
        pass

    def handler() -> "Local":
        return Local()

    assert result_annotation(handler) is Local


def test_a_name_that_is_not_assigned_yet_is_not_guessed() -> None:
    def handler() -> "Later":  # type: ignore[valid-type]
        return Later()

    with pytest.raises(UsageError, match="'Later' is not defined"):
        result_annotation(handler)

    Later = Plan  # noqa: N806
    assert result_annotation(handler) is Later


def test_an_unknown_result_type_names_the_function() -> None:
    with pytest.raises(UsageError, match=r"^the result of Tools\.method\(\): for Plan pydantic"):
        result_codec(Tools().method)


def test_a_digest_tells_types_apart() -> None:
    values: list[Any] = [1, 1.0, True, None, "1", b"1", (1,), [1], {1}, {1: 1}, {"1": 1}, Plan]

    digests = {digest([value], {}) for value in values}

    assert len(digests) == len(values)


def test_what_has_no_value_of_its_own_is_left_out_of_a_digest() -> None:
    class Client:
        pass

    generator = (number for number in range(3))

    assert digest([1, Client()], {}) == digest([1, Client()], {})
    assert digest([generator], {}) == digest([iter(generator)], {})
    assert list(generator) == [0, 1, 2]


def test_a_digest_takes_whatever_it_is_given() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)

    assert digest([cycle, "\ud800", 10**5000, {"\ud800": {2: "a", "b": 3}}, float("nan")], {})


def test_a_digest_is_the_same_in_every_process() -> None:
    value = {"a": {"x", "y"}, "b": [1, 2.5, None]}

    assert digest([value], {"key": b"k"}) == "1079fc91429c319d09b2f3eabac5d1e8"


def test_an_awaitable_of_a_class_of_its_own_is_awaited() -> None:
    class Pending(collections.abc.Awaitable[Plan]):
        def __await__(self) -> Any: ...

    def start() -> Pending: ...  # type: ignore[empty-body]

    assert result_annotation(start) is Any
