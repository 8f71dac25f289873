"""`read`: which entries, in which order, and that they are what was written."""

# ruff: noqa: D102, PLR2004 - the name of a test is a sentence; a number stands where it is compared

from __future__ import annotations

import asyncio
import json

import pytest

from outlast.journal import MAX_KEY, SNAPSHOT, Draft
from outlast.store import Query, Reading, Store
from outlast.testing.contract.drafting import LANE, abort, append, create, drafts, new_id

# What goes wrong on the way through a driver, an encoding, or a query language.
TEXTS = (
    "",
    "plain",
    "'; drop table heads; --",
    '"quoted" and \\ back \\\\ slashes \\n',
    "$1 %s :name ? {0} {{x}} {tag}",
    "line\nbreak\r\n\ttab",
    "ümlaut é e\u0301 ß \u0130 \u0131",
    "\U0001f40d astral \U0010ffff",
    "\u2028 \u2029 \ufeff \ufffd \u200f",
    " spaces at both ends ",
    "null",
    "1e400",
)


@pytest.mark.asyncio
class ReadContract:
    """A reading is a journal at one instant."""

    async def test_nothing_is_there_before_the_first_commit(self, store: Store) -> None:
        assert await store.read("k") == Reading(None, [], 0)
        assert await store.read("k", None, limit=3, last=2, types=["said"]) == Reading(None, [], 0)

    async def test_entries_come_in_order_from_the_first(self, store: Store) -> None:
        await store.commit(create(number=5))

        assert await revisions(store) == [1, 2, 3, 4, 5]
        assert await revisions(store, 0) == [1, 2, 3, 4, 5]

    async def test_after_gives_higher_revisions_only(self, store: Store) -> None:
        await store.commit(create(number=5))

        assert await revisions(store, 3) == [4, 5]
        assert await revisions(store, 5) == []
        assert await revisions(store, 99) == []

    async def test_every_reading_has_the_head(self, store: Store) -> None:
        [head] = await store.commit(create(number=5))

        for reading in (
            await store.read("k", 99),
            await store.read("k", limit=0),
            await store.read("k", last=0),
            await store.read("k", types=[]),
            await store.read("k", types=["unknown"]),
        ):
            assert reading == Reading(head, [], 0)

    async def test_a_reading_of_no_after_begins_with_the_newest_snapshot(
        self, store: Store
    ) -> None:
        await store.commit(create(number=2))
        assert await revisions(store, None) == [1, 2]

        await store.commit(append(entries=(*drafts(1, SNAPSHOT), *drafts(2))))
        assert await revisions(store, None) == [3, 4, 5]
        await store.commit(append(entries=drafts(2, SNAPSHOT)))
        assert await revisions(store, None) == [7]
        assert await revisions(store) == [1, 2, 3, 4, 5, 6, 7]

    async def test_limit_gives_the_oldest(self, store: Store) -> None:
        await store.commit(create(number=5))

        assert await revisions(store, limit=2) == [1, 2]
        assert await revisions(store, 2, limit=2) == [3, 4]
        assert await revisions(store, limit=99) == [1, 2, 3, 4, 5]

    async def test_last_gives_the_newest_in_order(self, store: Store) -> None:
        await store.commit(create(number=5))

        assert await revisions(store, last=2) == [4, 5]
        assert await revisions(store, 4, last=2) == [5]
        assert await revisions(store, last=99) == [1, 2, 3, 4, 5]

    async def test_last_is_applied_before_limit(self, store: Store) -> None:
        await store.commit(create(number=9))

        assert await revisions(store, last=4, limit=2) == [6, 7]
        assert await revisions(store, 7, last=4, limit=1) == [8]
        assert await revisions(store, last=2, limit=4) == [8, 9]

    async def test_types_are_chosen_before_last_and_limit(self, store: Store) -> None:
        types = ("a", "b", "c", "a", SNAPSHOT, "a", "b", "c", "a", "b")
        await store.commit(
            append(revision=0, entries=tuple(Draft(type, f'"{type}"') for type in types))
        )

        assert await revisions(store, types=["a"]) == [1, 4, 6, 9]
        assert await revisions(store, types=["b", "c"]) == [2, 3, 7, 8, 10]
        assert await revisions(store, types=["c", "b", "b", "unknown"]) == [2, 3, 7, 8, 10]
        assert await revisions(store, 4, types=["a"]) == [6, 9]
        assert await revisions(store, None, types=["a"]) == [6, 9]
        assert await revisions(store, None, types=[SNAPSHOT, "c"]) == [5, 8]
        assert await revisions(store, types=["a"], limit=2) == [1, 4]
        assert await revisions(store, types=["a"], last=2) == [6, 9]
        assert await revisions(store, types=("b", "c"), last=4, limit=2) == [3, 7]
        assert await revisions(store, 2, types=("b", "c"), last=9, limit=3) == [3, 7, 8]

    async def test_a_long_journal_is_read_in_pages(self, store: Store) -> None:
        await store.commit(create(number=1))
        for _ in range(9):
            await store.commit(append(entries=drafts(100)))

        seen: list[int] = []
        for _ in range(7):
            seen += await revisions(store, seen[-1] if seen else 0, limit=130)

        assert seen == list(range(1, 902))
        assert await revisions(store, last=3) == [899, 900, 901]

    async def test_a_reading_is_of_one_instant(self, store: Store) -> None:
        await store.commit(create())

        readings: list[asyncio.Task[Reading]] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(store.commit(append(entries=drafts(3))))
                readings.append(group.create_task(store.read("k")))

        for reading in (task.result() for task in readings):
            assert reading.head is not None
            assert len(reading.entries) == reading.head.revision
            assert reading.head.revision % 3 == 1

    async def test_journals_are_kept_apart(self, store: Store) -> None:
        keys = ("k", "K", "k ", "k/1", "k%", "k_", "k*", "k\u0301", "é", "e\u0301")
        for number, key in enumerate(keys, 1):
            await store.commit(create(key, number))

        for number, key in enumerate(keys, 1):
            reading = await store.read(key)
            assert reading.head is not None
            assert (reading.head.key, len(reading.entries)) == (key, number)

    async def test_texts_come_back_as_they_were(self, store: Store) -> None:
        for text in TEXTS:
            key, data = f"k{text}", json.dumps(text, ensure_ascii=False)
            drafted = (Draft(f"t{text}", data, ("sha",)), Draft("ascii", json.dumps(text)))
            change = append(
                key,
                revision=0,
                entries=drafted,
                touched=float("inf"),
                card={"kind": "run", "name": text, "title": text, "tags": {f"n{text}": text}},
            )
            [head] = await store.commit(change)

            reading = await store.read(key)
            assert reading.head == head
            assert (head.key, head.card.name, head.card.title) == (key, text, text)
            assert head.card.tags == {f"n{text}": text}
            assert [(e.type, e.data) for e in reading.entries] == [
                (d.type, d.data) for d in drafted
            ]
            assert await revisions(store, key=key, types=[f"t{text}"]) == [1]

    async def test_ids_may_be_any_text(self, store: Store) -> None:
        await store.commit(create())
        for text in TEXTS[1:]:
            change = append(entries=drafts(2))
            object.__setattr__(change, "id", text)

            [head] = await store.commit(change)
            [again] = await store.commit(change)

            assert again == head
            assert [e.change for e in (await store.read("k", last=2)).entries] == [text, text]

    async def test_data_is_not_looked_into(self, store: Store) -> None:
        """JSON comes back byte for byte: order, blanks, repeated names, escapes, large numbers."""
        texts = (
            ' { "b" : 1 , "a" : [ 1.0 , 1e0 , 10000000000000000000000 ] , "b" : 2 } ',
            '"\\u0000 \\u00e9 \\ud83d\\udc0d \\/ \x7f"',
            "[NaN,Infinity,-Infinity,-0.0]",
            "[" * 200 + "]" * 200,
            "null",
            "",
            "kept as it is, even if it is no JSON",
        )
        await store.commit(append(revision=0, entries=tuple(Draft("any", text) for text in texts)))

        assert tuple(entry.data for entry in (await store.read("k")).entries) == texts

    async def test_a_megabyte_comes_back_as_it_was(self, store: Store) -> None:
        data = json.dumps("0123456789é\U0001f40d\\" * 70_000, ensure_ascii=False)
        await store.commit(append(revision=0, entries=(Draft("large", data), *drafts())))

        large, small = (await store.read("k")).entries

        assert large.data == data
        assert small.revision == 2

    async def test_keys_may_be_as_long_as_is_said(self, store: Store) -> None:
        for letter in ("a", "\U0001f40d"):
            key = letter * MAX_KEY
            await store.commit(create(key))
            await store.commit(create(key[:-1]))

            [head] = await store.commit(append(key))

            assert (await store.read(key)).head == head
            assert head.revision == 2

    async def test_numbers_of_a_card_are_exact(self, store: Store) -> None:
        for due, priority in ((0.1 + 0.2, 2**31 - 1), (1_700_000_000.123456, -(2**31)), (-1.5, 0)):
            key = new_id()
            await store.commit(create(key, due=due, priority=priority))

            reading = await store.read(key)

            assert reading.head is not None
            assert (reading.head.card.due, reading.head.card.priority) == (due, priority)

    async def test_a_reading_a_scan_and_a_claim_show_the_same_head(self, store: Store) -> None:
        await store.commit(create(title="é", tags={"a": "'"}, session="s", source="u", status="x"))
        [scanned] = (await store.scan(Query(kind="run"))).heads
        assert (await store.read("k")).head == scanned

        [claimed] = (await store.claim([LANE], "worker", 15.0, 1, new_id())).heads

        assert (await store.read("k")).head == claimed
        assert list((await store.scan(Query(kind="run"))).heads) == [claimed]
        [aborted] = await store.commit(abort())
        assert (await store.read("k")).head == aborted


async def revisions(
    store: Store,
    after: int | None = 0,
    *,
    key: str = "k",
    limit: int | None = None,
    last: int | None = None,
    types: list[str] | tuple[str, ...] | None = None,
) -> list[int]:
    """Return the revisions of the entries that a reading gives."""
    reading = await store.read(key, after, limit=limit, last=last, types=types)
    return [entry.revision for entry in reading.entries]
