"""Frames between a worker and a child."""

import asyncio
import socket
from collections.abc import AsyncIterator
from types import MappingProxyType

import pytest

from outlast.engine.isolation import wire as wires
from outlast.engine.isolation.remote import RemoteStore
from outlast.engine.isolation.wire import Message, Wire
from outlast.errors import UsageError


class End(Wire):
    """An end that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.is_lost = asyncio.Event()
        super().__init__(self.heard.put_nowait, self.is_lost.set)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    here, there = End(), End()
    loop = asyncio.get_running_loop()
    for end, link in zip((here, there), socket.socketpair(), strict=True):
        await loop.create_unix_connection(lambda end=end: end, sock=link)  # type: ignore[misc]
    yield here, there
    for end in (here, there):
        end.close()
        await end.is_lost.wait()


async def test_what_is_said_is_heard_in_order(ends: tuple[End, End]) -> None:
    here, there = ends
    messages: list[Message] = [{"text": "x" * size} for size in (0, 3, 500_000, 1)]

    for message in messages:
        here.send(message)

    assert [await there.heard.get() for _ in messages] == messages


@pytest.mark.parametrize("frame", [b"\0\0\0\5hello", b"\0\0\0\0", b"\0\0\0\1\xff"])
async def test_what_is_no_json_ends_the_connection(frame: bytes, ends: tuple[End, End]) -> None:
    here, there = ends
    transport = here._transport
    assert transport is not None

    transport.write(frame)
    await here.is_lost.wait()

    assert there.heard.empty()


async def test_a_message_that_nobody_understands_ends_the_connection(ends: tuple[End, End]) -> None:
    here, there = ends
    there.hear = lambda message: message["verb"]

    here.send({"ask": 1})
    await here.is_lost.wait()


async def test_what_has_no_form_in_json_is_not_sent(ends: tuple[End, End]) -> None:
    here, there = ends

    with pytest.raises(ValueError, match="is not JSON"):
        here.send({"text": object()})
    here.send({"tags": MappingProxyType({"a": "b"})})

    assert await there.heard.get() == {"tags": {"a": "b"}}


async def test_a_frame_that_is_too_long_is_not_sent(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = ends
    monkeypatch.setattr(wires, "MAX_FRAME", 20)

    with pytest.raises(ValueError, match="more than a frame has: 20"):
        here.send({"text": "x" * 20})
    here.send({"text": "short"})

    assert await there.heard.get() == {"text": "short"}


async def test_what_the_worker_cannot_be_told_is_the_callers_mistake(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wires, "MAX_FRAME", 20)
    store = RemoteStore(ends[0].send)

    with pytest.raises(UsageError, match="cannot leave its process"):
        await store.read("run/r")


async def test_who_does_not_listen_lets_the_other_wait(ends: tuple[End, End]) -> None:
    here, there = ends
    there.listen(is_wanted=False)
    writable = asyncio.Event()
    here.writable = writable.set

    while not here.is_full:
        here.send({"text": "x" * 10_000})
    assert there.heard.empty()
    there.listen(is_wanted=True)

    await writable.wait()
    assert not here.is_full
