"""What a store can do: seven verbs, none of which knows what a run is.

Rules live in `journal`; a store keeps entries, heads and leases, and never reads `data`. What
callers may conclude from an answer or an error is said here once, for every store;
`outlast.testing` checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from outlast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from outlast.journal import Change, Entry, Head, Lease


class Clock(Protocol):
    """The clocks that an embedded store needs, given from outside."""

    def wall(self) -> float:
        """Return seconds since 1970, as people set them; may jump."""
        ...

    def boot(self) -> float:
        """Return seconds since the machine started, sleep included.

        Never goes back until the next start.
        """
        ...

    def boot_id(self) -> str:
        """Return what tells this start of the machine from every other."""
        ...


class Lane(NamedTuple):
    """What a worker looks for: runs of one task in one queue; an unknown task blocks nobody."""

    queue: str
    name: str


@dataclass(frozen=True, slots=True)
class Traits:
    """What a store cannot do, said instead of an overridden method that raises.

    Attributes:
        atomic: the changes of one `commit` stand or fall together; else they are written in order,
            up to the first that is refused.
        sign_of: gives the file whose lock says that an owner lives, where there is one; who looks
            after what an owner has started locks it, too (shared, by `fcntl.lockf`).
    """

    atomic: bool
    sign_of: Callable[[str], Path | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Reading:
    """A journal at one instant: head (None: it is not there), entries asked for, store's floor."""

    head: Head | None
    entries: Sequence[Entry]
    floor: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """The heads of the journals taken, and in how many seconds there may be more in these lanes.

    `next_in` is 0 where more are claimable than were asked for, and None where nothing is known to
    come.
    """

    heads: Sequence[Head]
    next_in: float | None


class Hint(NamedTuple):
    """A journal may have changed: it may be at this revision now, and closed or not.

    Revision 0: nothing is known of either. Without a key, any journal may have changed.
    """

    key: str | None
    revision: int = 0
    closed: bool = False


Listener = Callable[[Hint], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which journals a scan gives: all of `kind` that match each of the other fields that are set.

    Attributes:
        statuses: any of these; empty: every status.
        tags: all of these.
        created_after, created_before: seconds since 1970, inclusive and exclusive.
        prefix: what the key begins with.
        order: by key, by age, or by last update.
    """

    kind: str
    statuses: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    session: str | None = None
    name: str | None = None
    source: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    prefix: str = ""
    order: Literal["key", "created", "updated"] = "key"
    descending: bool = False

    def matches(self, head: Head) -> bool:
        """Say whether the query gives this journal."""
        card = head.card
        return (
            card.kind == self.kind
            and head.key.startswith(self.prefix)
            and (not self.statuses or card.status in self.statuses)
            and all(card.tags.get(name) == value for name, value in self.tags.items())
            and self.session in (None, card.session)
            and self.name in (None, card.name)
            and self.source in (None, card.source)
            and (self.created_after is None or head.created_at >= self.created_after)
            and (self.created_before is None or head.created_at < self.created_before)
        )


@dataclass(frozen=True, slots=True)
class Scanned:
    """One page of a scan: perhaps fewer heads than asked for, even none.

    `next` is None after the last page.
    """

    heads: Sequence[Head]
    next: str | None


class Store(Protocol):
    """A place where journals are kept.

    An async context manager: nothing is opened before it is entered, and it is closed when it is
    left. Its coroutines belong to the event loop that entered it; `renew` may be awaited in any
    thread's loop.

    Every verb raises `Unavailable` in bounded time when the store does not answer: then nothing is
    known about what it did, and the call is said again. Before a store says a request again by
    itself, it makes sure that the first can no longer arrive. A cancelled call may or may not have
    been done.
    """

    @property
    def traits(self) -> Traits:
        """What this store cannot do."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def commit(self, *changes: Change) -> list[Head]:
        """Write the changes, and return the heads of their journals as they are now, in this order.

        When it returns, what it wrote is durable. Each change is written whole or not at all. One
        that was written before, by its id, is not written again and takes no lease: whoever claims
        compares the fence of the head. With `traits.atomic` a refusal leaves nothing of the call
        behind; else the changes before the refused one are written, and `error.done` holds their
        heads. The whole call may be said again either way. A refused call touches no other that the
        store commits together with it.

        Raises:
            Fenced: a change shows the fence of a lease that is over: stop.
            Conflict: a journal is not as a change expects: read it, and decide again.
        """
        ...

    async def read(
        self,
        key: str,
        after: int | None = 0,
        *,
        limit: int | None = None,
        last: int | None = None,
        types: Sequence[str] | None = None,
    ) -> Reading:
        """Return the head of a journal and the entries asked for, in order, as of one instant.

        Args:
            key: the journal.
            after: entries of a higher revision only; None: from the newest snapshot on, itself
                included.
            limit: at most so many, the oldest of those asked for.
            last: only the newest so many of those asked for, before `limit` is applied.
            types: only entries of these types. The cost does not depend on how many others there
                are.
        """
        ...

    async def claim(
        self, lanes: Sequence[Lane], owner: str, ttl: float, limit: int, id: str
    ) -> Claimed:
        """Take the leases of up to `limit` journals that are due in these lanes and free.

        Larger priority first, then due, then key. Each lease has the next token of its journal and
        the id `id`, which the caller draws anew for every call: leases of a lost reply are not
        taken for others, and run out. A lease whose owner is known to be dead counts as ended.
        """
        ...

    async def renew(self, leases: Sequence[Lease], ttl: float) -> list[Lease]:
        """Keep the leases for `ttl` more seconds, and return those still held; all in one write.

        One that has run out may be renewed as long as nobody claimed it or wrote a decision without
        it. One that is missing from the result was taken over, given back, or deleted: stop that
        run. May be awaited in another thread's event loop than the store's own.
        """
        ...

    async def scan(self, query: Query, *, limit: int = 100, after: str | None = None) -> Scanned:
        """Return a page of the journals that the query gives; `after` is the page before's `next`.

        In the orders `key` and `created`, a journal that is there all the time is given exactly
        once, even while others change. Reads a bounded number of rows: a page of a narrow query may
        be short.

        Raises:
            UsageError: `after` is not a cursor of such a query.
        """
        ...

    async def delete(self, key: str, *, expect: int) -> bool:
        """Forget the journal if its revision is `expect`; return whether it was there.

        Raises the store's floor, to `expect` or more, so that no revision of a key is ever used
        twice, and a create that expects the floor of before is refused from now on.

        Raises:
            Conflict: it has another revision, or somebody holds its lease.
        """
        ...

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` in the store's loop when a journal may have changed; return an end to it.

        A hint may be lost, late, or about nothing; who needs to know for sure looks.
        """
        ...


def open_store(url: str, *, clock: Clock, namespace: str = "default") -> Store:
    """Return the store at `url`, not entered yet; its module is imported now.

    Raises:
        UsageError: the URL is not one of ours.
    """
    if not _is_text(url):
        raise UsageError(f"a store has a URL, such as 'sqlite:///agents.db', not {url!r}")
    try:
        parts = urlsplit(url)
        settings = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
    except ValueError as error:
        raise UsageError(f"{url!r} is not the URL of a store: {error}") from error
    module = _MODULES.get(parts.scheme)
    if module is None or parts.fragment:
        known = ", ".join(f"{scheme}://" for scheme in _MODULES)
        raise UsageError(f"{url!r} is not the URL of a store; it begins with one of {known}")
    open_url = import_module(f"outlast.stores.{module}").open_url
    store: Store = open_url(url, parts.netloc, unquote(parts.path), settings, clock, namespace)
    return store


def _is_text(url: object) -> bool:
    return isinstance(url, str)


_MODULES: Final = {"memory": "memory", "sqlite": "sqlite"}
