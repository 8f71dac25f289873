"""Signs of life within one process; those between processes are in `test_processes.py`."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from outlast.journal import Change, Claim, Head
from outlast.store import Hint
from outlast.stores.sqlite import SQLiteStore
from outlast.stores.sqlite.presence import LockFiles
from outlast.testing import FakeClock
from tests.stores.sqlite.process import LANE, create


class Heard:
    """What a store's listener was told."""

    def __init__(self, store: SQLiteStore) -> None:
        self._hints: asyncio.Queue[Hint] = asyncio.Queue()
        store.watch(self._hints.put_nowait)

    async def of_any(self) -> None:
        """Wait for a hint that any journal may have changed."""
        async with asyncio.timeout(30):
            while (await self._hints.get()).key is not None:
                pass


def give_back(head: Head) -> Change:
    """Return the change that gives the head's lease back, and lets it rest."""
    return Change(key=head.key, id="rest", fence=head.fence, release=True, card={"due": None})


class Register:
    """A presence whose owners die when the test says so."""

    def __init__(self) -> None:
        self.living: set[str] = set()
        self.fallen: list[str] = []
        self.said: list[str] = []

    def hold(self, owner: str) -> None:
        self.living.add(owner)
        self.said.append(f"hold {owner}")

    def release(self, owner: str, *, remains: bool) -> None:
        self.said.append(f"release {owner}, remains: {remains}")

    def dead(self) -> list[str]:
        return self.fallen.copy()

    def forget(self, owner: str) -> None:
        self.fallen.remove(owner)
        self.said.append(f"forget {owner}")


@pytest.fixture
def signs(tmp_path: Path) -> LockFiles:
    return LockFiles(tmp_path / "owners")


def files(path: Path) -> list[Path]:
    return list((path.with_name(f"{path.name}-locks") / "owners").iterdir())


def test_one_that_lives_in_this_process_is_never_taken_for_dead(signs: LockFiles) -> None:
    signs.hold("me/with strange: characters\n\0🐍")
    signs.hold("me/with strange: characters\n\0🐍")

    assert signs.dead() == []

    signs.release("me/with strange: characters\n\0🐍", remains=False)
    assert signs.dead() == []


def test_a_sign_that_nobody_holds_is_that_of_a_dead_owner(signs: LockFiles, tmp_path: Path) -> None:
    signs.path("gone").write_text("gone", encoding="utf-8")

    assert signs.dead() == ["gone"]
    assert LockFiles(tmp_path / "owners").dead() == ["gone"]  # its lock is this process's, too
    assert signs.dead() == ["gone"]

    signs.forget("gone")
    assert signs.dead() == []
    assert list((tmp_path / "owners").iterdir()) == []


def test_a_sign_that_was_not_written_whole_is_removed(signs: LockFiles, tmp_path: Path) -> None:
    """A power cut may leave such; its leases ended with that start of the machine."""
    for name, content in (("empty", b""), ("other", b"\xff\xfe")):
        (tmp_path / "owners" / f"{name}.owner").write_bytes(content)

    assert signs.dead() == []
    assert list((tmp_path / "owners").iterdir()) == []


async def test_a_directory_that_somebody_tidied_up_is_made_again(path: Path) -> None:
    async with SQLiteStore(path, clock=FakeClock()) as store:
        shutil.rmtree(path.with_name(f"{path.name}-locks"))

        await store.commit(create("k", claim=Claim("me", 15.0, "f")))

        assert len(files(path)) == 1


async def test_the_sign_is_there_before_the_lease(path: Path) -> None:
    register = Register()
    async with SQLiteStore(path, clock=FakeClock(), presence=register) as store:
        await store.commit(create("a"))
        assert register.said == []

        await store.claim([LANE], "me", 15.0, 1, "f")
        assert register.said == ["hold me"]
        await store.claim([LANE], "me", 15.0, 1, "g")
        await store.commit(create("b", claim=Claim("you", 15.0, "h")))
        assert register.said == ["hold me", "hold you"]

    assert sorted(register.said[2:]) == [
        "release me, remains: True",
        "release you, remains: True",
    ]


async def test_an_owner_that_gave_everything_back_leaves_no_sign(path: Path) -> None:
    async with SQLiteStore(path, clock=FakeClock()) as store:
        [head] = await store.commit(create("k", claim=Claim("me", 15.0, "f")))
        assert len(files(path)) == 1
        await store.commit(give_back(head))

    assert files(path) == []


async def test_what_could_not_be_stopped_keeps_its_leases_until_the_process_ends(
    path: Path,
) -> None:
    clock = FakeClock()
    async with SQLiteStore(path, clock=clock) as store:
        await store.commit(create("k", claim=Claim("zombie", 15.0, "f")))

    async with SQLiteStore(path, clock=clock) as store:
        assert store._entered
        assert store._entered.presence.dead() == []
        assert (await store.claim([LANE], "me", 15.0, 1, "g")).heads == []
        clock.advance(15)
        [head] = (await store.claim([LANE], "me", 15.0, 1, "h")).heads
        await store.commit(give_back(head))
    assert len(files(path)) == 1


async def test_the_leases_of_the_dead_are_ended_and_their_signs_forgotten(path: Path) -> None:
    clock, register = FakeClock(), Register()
    async with SQLiteStore(path, clock=clock, presence=register) as store:
        for key, owner in (("a", "dies"), ("b", "lives"), ("c", "dies")):
            await store.commit(create(key, claim=Claim(owner, 15.0, f"of {key}")))
        before = (await store.read("a")).head
        heard = Heard(store)

        register.fallen.append("dies")
        await heard.of_any()

        claimed = await store.claim([LANE], "me", 15.0, 9, "g")
        assert [head.key for head in claimed.heads] == ["a", "c"]
        assert [head.token for head in claimed.heads] == [2, 2]
        assert before is not None
        assert (claimed.heads[0].updated, before.lease and before.lease.until) == (
            before.updated,
            clock.boot() + 15.0,
        )
        assert register.fallen == []


async def test_a_decision_may_follow_a_death_at_once(path: Path) -> None:
    register = Register()
    async with SQLiteStore(path, clock=FakeClock(), presence=register) as store:
        [head] = await store.commit(create("k", claim=Claim("dies", 15.0, "f")))
        heard = Heard(store)
        register.fallen.append("dies")
        await heard.of_any()
        ended = (await store.read("k")).head
        assert ended is not None
        assert ended.fence == head.fence
        assert ended.lease is not None
        assert ended.lease.until == 0.0

        assert await store.delete("k", expect=1)
