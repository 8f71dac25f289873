"""What inputs and results may be: they come back as they were, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from outlast import App, CodecError, InputTooLarge, TaskContext, TaskFailed, task
from outlast.testing import SkippingLoop
from tests.engine.conftest import Machine
from tests.engine.world import World, twice

loop_factory = SkippingLoop

Make = Callable[[], World]


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    name: str
    when: datetime


@dataclass
class Data:
    amount: Decimal
    parts: tuple[int, ...]


MOMENT = datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC)


def a_model() -> Model:
    return Model(name="x", when=MOMENT)


def a_dataclass() -> Data:
    return Data(Decimal("1.10"), (1, 2))


def a_moment() -> datetime:
    return MOMENT


def a_date() -> date:
    return date(2024, 5, 6)


def a_time() -> time:
    return time(7, 8, 9)


def a_duration() -> timedelta:
    return timedelta(days=1, microseconds=1)


def an_id() -> UUID:
    return UUID(int=7)


def a_decimal() -> Decimal:
    return Decimal("1.10")


def some_bytes() -> bytes:
    return b"\x00\xff"


def an_enum() -> Colour:
    return Colour.RED


def a_set() -> set[int]:
    return {3, 1, 2}


def a_frozenset() -> frozenset[str]:
    return frozenset({"a", "b"})


def a_tuple() -> tuple[int, str]:
    return (1, "a")


def a_dict() -> dict[str, list[Model]]:
    return {"a": [a_model()]}


def nothing() -> None:
    return None


def infinity() -> float:
    return float("inf")


VALUES: list[Callable[[], Any]] = [
    a_model,
    a_dataclass,
    a_moment,
    a_date,
    a_time,
    a_duration,
    an_id,
    a_decimal,
    some_bytes,
    an_enum,
    a_set,
    a_frozenset,
    a_tuple,
    a_dict,
    nothing,
    infinity,
]


@pytest.mark.parametrize("make", VALUES, ids=lambda make: make.__name__)
def test_a_result_has_its_type_after_a_recovery(make: Callable[[], Any], make_world: Make) -> None:
    world = make_world()
    seen: list[Any] = []

    @task
    async def handler(ctx: TaskContext[None]) -> None:
        value = await ctx.step("make", make)
        if world.is_heard:
            seen.append(value)
        await ctx.step("go on", abs, 1)

    async def drive(app: App) -> Any:
        return (await (await handler.options(app=app).start(None, id="r")).result()).output

    twice(world, drive, write=2)

    assert seen == [make()]
    assert type(seen[0]) is type(make())


async def test_an_input_that_cannot_be_encoded_stores_nothing(app: App, machine: Machine) -> None:
    @task
    async def handler(ctx: TaskContext[Any]) -> None:
        """Never run."""

    with pytest.raises(CodecError):
        await handler.start({"x": object()}, id="r")

    assert not machine.store._heads


async def test_a_payload_that_is_too_large_is_refused(machine: Machine) -> None:
    async def make(size: int) -> str:
        return "x" * size

    @task
    async def handler(ctx: TaskContext[int]) -> str:
        if ctx.input < 0:
            return "x" * -ctx.input
        return str(len(await ctx.step("make", make, ctx.input)))

    @task
    async def big(ctx: TaskContext[str]) -> None:
        await ctx.emit("x" * 49)

    async with machine.open(max_payload=50):  # as JSON: a text has two quotation marks
        assert (await handler.run(48)).output == "48"
        with pytest.raises(TaskFailed, match="InputTooLarge"):
            await handler.run(49)
        assert len((await handler.run(-48)).output) == 48
        with pytest.raises(TaskFailed, match="InputTooLarge"):
            await handler.run(-49)
        with pytest.raises(TaskFailed, match="InputTooLarge"):
            await big.run("small")
        with pytest.raises(InputTooLarge):
            await big.start("x" * 49)
        run = await big.start("small", delay=timedelta(days=1))
        with pytest.raises(InputTooLarge):
            await run.signal("go", "x" * 49)
