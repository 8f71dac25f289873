"""How long callers wait for a thread that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from outlast.errors import Unavailable
from outlast.stores.sqlite.calls import Mail, Patience, Question
from outlast.testing import SkippingLoop

T = TypeVar("T")

SECONDS = 10.0


def skipping(main: Coroutine[Any, Any, T]) -> T:
    """Run it where time is skipped."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(main)


async def asked_at(
    patience: Patience, moment: float, question: Question[None, str]
) -> tuple[str, float]:
    """Ask at this moment, and return what came of it, and in which tenth of a second."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(moment)
    try:
        said = await patience.wait(question, lambda: f"asked at {moment}")
    except Unavailable as error:
        said = str(error)
    return said, round(loop.time() - began, 1)


def question() -> Question[None, str]:
    return Question(lambda _: "answered")


def answer(asked: Question[None, str]) -> None:
    assert asked.begin()
    asked.run(None)
    mail = Mail()
    asked.deliver(mail)
    mail.send()


def test_each_caller_is_told_when_its_own_patience_is_over() -> None:
    async def main() -> list[tuple[str, float]]:
        patience, questions = Patience(SECONDS), [question() for _ in range(4)]
        moments = (0.0, 0.0, 3.0, 25.0)
        outcomes = await asyncio.gather(
            *(
                asked_at(patience, moment, asked)
                for moment, asked in zip(moments, questions, strict=True)
            )
        )
        assert not any(asked.begin() for asked in questions)
        return outcomes

    outcomes = skipping(main())

    assert outcomes == [
        ("asked at 0.0", 10.0),
        ("asked at 0.0", 10.0),
        ("asked at 3.0", 13.0),
        ("asked at 25.0", 35.0),
    ]


def test_an_answer_to_the_oldest_leaves_the_others_their_time() -> None:
    async def main() -> list[tuple[str, float]]:
        patience, first, second = Patience(SECONDS), question(), question()
        waiting = [
            asyncio.create_task(asked_at(patience, moment, asked))
            for moment, asked in ((0.0, first), (4.0, second))
        ]
        await asyncio.sleep(5)
        answer(first)
        return await asyncio.gather(*waiting)

    assert skipping(main()) == [("answered", 5.0), ("asked at 4.0", 14.0)]


def test_a_store_that_is_left_keeps_its_timer_only_for_those_who_wait() -> None:
    async def main() -> tuple[str, float]:
        patience, asked = Patience(SECONDS), question()
        waiting = asyncio.create_task(asked_at(patience, 0.0, asked))
        await asyncio.sleep(1)
        patience.close()
        return await waiting

    assert skipping(main()) == ("asked at 0.0", 10.0)
