"""`scan`: all journals that match, page by page, while others go on writing."""

# ruff: noqa: D102, PLR2004 - the name of a test is a sentence; a number stands where it is compared

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from outlast.errors import UsageError
from outlast.store import Query, Scanned, Store
from outlast.testing.clock import FakeClock
from outlast.testing.contract.drafting import append, create, drain, fact, keys, lease_of

Order = Literal["key", "created", "updated"]

ORDERS: tuple[Order, ...] = ("key", "created", "updated")


@pytest.mark.asyncio
class ScanContract:
    """Each journal once, in the order asked for."""

    async def test_a_scan_of_nothing_gives_nothing(self, store: Store) -> None:
        assert await store.scan(Query(kind="run")) == Scanned([], None)

    async def test_a_scan_gives_one_kind(self, store: Store) -> None:
        await store.commit(create("a"), create("b", kind="session"), create("c"))

        assert await keys(store, Query(kind="run")) == ["a", "c"]
        assert await keys(store, Query(kind="session")) == ["b"]
        assert await keys(store, Query(kind="RUN")) == []

    async def test_a_scan_shows_whole_heads(self, store: Store) -> None:
        await store.commit(create("a", tags={"x": "y"}), create("b", title="é"))
        await lease_of(store)
        await store.commit(fact("a"))

        heads = await drain(store, Query(kind="run"))

        assert heads == [(await store.read(key)).head for key in "ab"]

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order", ORDERS)
    async def test_a_scan_goes_in_order(
        self, store: Store, clock: FakeClock, order: Order, *, descending: bool
    ) -> None:
        for key in ("b", "é", "B", "d", "\U0001f40d", "c", "\ufffd"):
            await store.commit(create(key))
            clock.jump(-3.0)
        for key in ("c", "B", "é", "c"):
            await store.commit(append(key))
        wanted = {
            "key": ["B", "b", "c", "d", "é", "\ufffd", "\U0001f40d"],
            "created": ["b", "é", "B", "d", "\U0001f40d", "c", "\ufffd"],
            "updated": ["b", "d", "\U0001f40d", "\ufffd", "B", "é", "c"],
        }[order]
        query = Query(kind="run", order=order, descending=descending)

        for limit in (1, 2, 3, 7, 100):
            found = await keys(store, query, limit)
            assert found == (wanted[::-1] if descending else wanted)

    @pytest.mark.parametrize("order", ORDERS)
    async def test_what_one_commit_made_is_given_once(self, store: Store, order: Order) -> None:
        made = {f"k{number}" for number in range(7)}
        await store.commit(*(create(key) for key in made))

        for descending in (False, True):
            query = Query(kind="run", order=order, descending=descending)
            for limit in (1, 3):
                found = await keys(store, query, limit)
                assert (set(found), len(found)) == (made, 7)

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order", ["key", "created"])
    async def test_what_is_there_all_the_time_is_given_once(
        self, store: Store, order: Order, *, descending: bool
    ) -> None:
        there = [f"k{number:02}" for number in range(0, 24, 2)]
        gone = [f"g{number:02}" for number in range(0, 24, 2)]
        for pair in zip(there, gone, strict=True):
            await store.commit(*(create(key) for key in pair))
        query = Query(kind="run", order=order, descending=descending)

        found: list[str] = []
        page = await store.scan(query, limit=3)
        for number in range(1, 1_000, 2):
            found += [head.key for head in page.heads]
            if page.next is None:
                break
            await store.commit(create(f"k{number:02}"), append(there[number % 12]))
            await store.commit(fact(there[0]), fact(there[-1]))
            if gone:
                await store.delete(gone.pop(number % len(gone)), expect=1)
            page = await store.scan(query, limit=3, after=page.next)

        assert page.next is None
        assert len(found) == len(set(found))
        assert [key for key in found if key in there] == (there[::-1] if descending else there)

    async def test_a_cursor_outlives_what_it_pointed_at(self, store: Store) -> None:
        for order in ("key", "created"):
            for key in ("a", "b", "c", "d"):
                await store.commit(create(f"{order}-{key}", kind=order))
            b = (await store.read(f"{order}-b")).head
            assert b is not None
            query = Query(kind=order, order="key" if order == "key" else "created")

            first = await store.scan(query, limit=2)
            await store.delete(b.key, expect=b.revision)
            rest = await store.scan(query, limit=9, after=first.next)

            assert [head.key for head in first.heads] == [f"{order}-a", f"{order}-b"]
            assert [head.key for head in rest.heads] == [f"{order}-c", f"{order}-d"]

    async def test_a_strange_cursor_is_the_callers_mistake(self, store: Store) -> None:
        for number in range(5):
            await store.commit(create(f"k{number}"))
        cursors = {
            order: (await store.scan(Query(kind="run", order=order), limit=2)).next
            for order in ORDERS
        }
        assert all(cursors.values())

        for order in ORDERS:
            others = [cursor for name, cursor in cursors.items() if name != order]
            for after in (*others, "", "k1", "17", "{}", "é", "\U0001f40d"):
                with pytest.raises(UsageError):
                    await store.scan(Query(kind="run", order=order), after=after)

    # What is asked for.

    async def test_every_filter_chooses(self, store: Store, clock: FakeClock) -> None:
        now = clock.wall()
        await store.commit(create("a", status="pending", name="n", session="s", source="u"))
        clock.advance(10)
        await store.commit(create("b", status="running", name="n", tags={"x": "1", "y": "2"}))
        clock.advance(10)
        await store.commit(create("c", status="failed", name="m", session="s", tags={"x": "1"}))
        clock.advance(10)
        await store.commit(create("ab", status="running", name="", tags={"x": "2"}, source="u"))
        run = Query(kind="run")

        for query, wanted in (
            (run, ["a", "ab", "b", "c"]),
            (Query(kind="run", statuses=frozenset({"running"})), ["ab", "b"]),
            (Query(kind="run", statuses=frozenset({"failed", "pending"})), ["a", "c"]),
            (Query(kind="run", statuses=frozenset({"unknown"})), []),
            (Query(kind="run", name="n"), ["a", "b"]),
            (Query(kind="run", name=""), ["ab"]),
            (Query(kind="run", session="s"), ["a", "c"]),
            (Query(kind="run", session=""), ["ab", "b"]),
            (Query(kind="run", source="u"), ["a", "ab"]),
            (Query(kind="run", tags={"x": "1"}), ["b", "c"]),
            (Query(kind="run", tags={"x": "1", "y": "2"}), ["b"]),
            (Query(kind="run", tags={"x": "1", "y": "1"}), []),
            (Query(kind="run", tags={"y": ""}), []),
            (Query(kind="run", created_after=now + 10), ["ab", "b", "c"]),
            (Query(kind="run", created_after=now + 10.5), ["ab", "c"]),
            (Query(kind="run", created_before=now + 20), ["a", "b"]),
            (Query(kind="run", created_before=now + 20.5), ["a", "b", "c"]),
            (Query(kind="run", created_after=now + 10, created_before=now + 20), ["b"]),
            (Query(kind="run", prefix="a"), ["a", "ab"]),
            (Query(kind="run", prefix="ab"), ["ab"]),
            (
                Query(
                    kind="run",
                    statuses=frozenset({"running", "failed"}),
                    session="s",
                    name="m",
                    tags={"x": "1"},
                    prefix="c",
                    created_after=now,
                ),
                ["c"],
            ),
        ):
            assert await keys(store, query) == wanted, query
            newest = replace(query, order="created", descending=True)
            assert sorted(await keys(store, newest, 1)) == wanted, query

    async def test_a_scan_follows_the_card(self, store: Store) -> None:
        await store.commit(create("a", status="pending", tags={"x": "1"}), create("b", status="x"))

        await store.commit(append("a", card={"status": "running", "tags": {"x": "2"}}))

        assert await keys(store, Query(kind="run", statuses=frozenset({"pending"}))) == []
        assert await keys(store, Query(kind="run", statuses=frozenset({"running"}))) == ["a"]
        assert await keys(store, Query(kind="run", tags={"x": "1"})) == []
        assert await keys(store, Query(kind="run", tags={"x": "2"})) == ["a"]

    async def test_a_prefix_is_taken_literally(self, store: Store) -> None:
        names = (
            "a", "a%", "a%b", "a_", "a_b", "aXb", "A", "Ab", "a'", "a''b", 'a"', "a\\", "a\\%",
            "a*", "a[b]", "a?b", "é", "éa", "e\u0301", "\U0010ffff", "\U0010ffff\U0010ffffz",
            "a\U0010ffff", "a\U0010ffff\U0010ffff", "a:b", "a{b}", "",
        )  # fmt: skip
        made = [f"p/{name}" for name in names]
        for key in made:
            await store.commit(create(key))

        for prefix in ("", "p", "p/", *made, "q", "P/"):
            wanted = sorted(key for key in made if key.startswith(prefix))
            assert await keys(store, Query(kind="run", prefix=prefix), 5) == wanted, prefix
            by_age = Query(kind="run", prefix=prefix, order="created", descending=True)
            found = await keys(store, by_age, 5)
            assert found == [key for key in reversed(made) if key.startswith(prefix)], prefix

    async def test_texts_asked_for_are_taken_literally(self, store: Store) -> None:
        texts = ("%", "_", "a.b", '"', "'", "$", "[0]", "\\", "é", "\U0001f40d", "a:b", "x=y", "*")
        for number, text in enumerate(texts):
            key = f"k{number:02}"
            await store.commit(
                create(
                    key,
                    name=text,
                    status=text,
                    session=text,
                    source=text,
                    tags={text: text, "also": f"{text},{text}"},
                )
            )

        for number, text in enumerate(texts):
            for query in (
                Query(kind="run", name=text),
                Query(kind="run", statuses=frozenset({text})),
                Query(kind="run", session=text),
                Query(kind="run", source=text),
                Query(kind="run", tags={text: text}),
                Query(kind="run", tags={"also": f"{text},{text}"}),
            ):
                assert await keys(store, query) == [f"k{number:02}"], query

    async def test_a_narrow_scan_of_many_comes_to_its_end(self, store: Store) -> None:
        """Its pages may be short, even empty; what there is comes before the last one."""
        for hundred in range(4):
            await store.commit(
                *(
                    create(f"k{number:03}", tags={"n": str(number)})
                    for number in range(hundred * 100, hundred * 100 + 100)
                )
            )

        for order in ORDERS:
            query = Query(kind="run", tags={"n": "233"}, order=order)
            assert await keys(store, query, 10) == ["k233"]
            first = await store.scan(Query(kind="run", order=order))
            assert len(first.heads) <= 100
            assert first.next is not None
