"""Plays the demo: a disturbed run, an undisturbed one over the same files, and the proof.

The one rule that must not be broken: whatever happens, Ctrl-C too, no process of ours is left
behind.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from pydantic import TypeAdapter

import outlast
from outlast import Retracted, StreamItem, TaskError, TaskRun
from outlast.cli.demo.agent import APPROVAL, Done, Order, audit
from outlast.cli.demo.analysis import Outline
from outlast.cli.demo.chaos import Disruption, Kill, Moment, plan
from outlast.cli.demo.proof import Account, Check, Item, Recorded, prove, steps_recorded
from outlast.cli.demo.sources import Sources, written

PATIENCE: Final = 120.0
"""Seconds without any progress after which we give up."""

MAX_REPLAYS: Final = 3
"""How often the undisturbed run is played at most, if files change between the two."""


class Audience(Protocol):
    """Whoever is told how it goes."""

    def opens(self, *, is_disturbed: bool) -> None:
        """Hear that a run begins."""
        ...

    def hears(self, item: Item) -> None:
        """Hear what the agent streams."""
        ...

    def sees(self, kill: Kill) -> None:
        """Hear that a worker was killed, and again when the next one went on."""
        ...

    def approves(self) -> None:
        """Hear that the agent waits, and gets its approval."""
        ...


class Stalled(Exception):
    """Nothing moves any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the demo went.

    Attributes:
        changed: files that changed between the runs; the undisturbed one was given what the
            other had read.
        accidents: how many workers died without being killed by us.
    """

    url: str
    run_id: str
    report: Path
    kills: Sequence[Kill]
    checks: Sequence[Check]
    changed: Sequence[str]
    accidents: int
    duration: float

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Performance:
    """One run from its start to its end, and where it took place."""

    run_id: str
    report: Path
    account: Account
    kills: Sequence[Kill]
    accidents: int


async def play(
    sources: Sources, seed: int, directory: Path, url: str, audience: Audience
) -> Outcome:
    """Play the demo in the directory, with the database at `url`, and return what came out.

    Raises:
        Stalled: it did not come to its end.
        WorkerDied: nor did its workers.
    """
    began = time.monotonic()
    moments = plan(len(sources.files), seed)
    disturbed = await perform(sources, directory, url, audience, moments=moments)
    undisturbed, known = await _play_undisturbed(sources, directory, audience, disturbed.account)
    return Outcome(
        url=url,
        run_id=disturbed.run_id,
        report=disturbed.report,
        kills=disturbed.kills,
        checks=prove(disturbed.account, undisturbed.account, disturbed.kills),
        changed=sorted(known),
        accidents=disturbed.accidents + undisturbed.accidents,
        duration=time.monotonic() - began,
    )


def database_url(directory: Path) -> str:
    """Return the URL of the database that is made in the directory."""
    return file_url(directory / "agent.db")


def file_url(file: Path) -> str:
    """Return the URL of a database that is kept in this file."""
    return f"sqlite:///{quote(os.fsencode(file.absolute()))}"


async def _play_undisturbed(
    sources: Sources, directory: Path, audience: Audience, disturbed: Account
) -> tuple[Performance, dict[str, Outline]]:
    """Play the run that the disturbed one is compared with; also return what changed between them.

    Where the two read something else, because a file changed meanwhile, it is played again, and is
    given what the disturbed one read.
    """
    known: dict[str, Outline] = {}
    replay = 0
    while True:
        replay += 1
        aside = directory / f"undisturbed-{replay}"
        aside.mkdir()
        performance = await perform(sources, aside, database_url(aside), audience, known=known)
        changed = _read_differently(disturbed, performance.account)
        if not changed or replay == MAX_REPLAYS:
            return performance, known
        known |= changed


async def perform(
    sources: Sources,
    directory: Path,
    url: str,
    audience: Audience,
    *,
    moments: Sequence[Moment] = (),
    known: Mapping[str, Outline] | None = None,
) -> Performance:
    """Let the agent run once, and kill its workers at these moments.

    Raises:
        Stalled: nothing moved for `PATIENCE` seconds.
        WorkerDied: workers die without our doing.
    """
    report, ledger = directory / "report.md", directory / "ledger.jsonl"
    order = Order(
        root=sources.root,
        files=sources.files,
        skipped=sources.skipped,
        report=written(report),
        ledger=written(ledger),
        known=dict(known or {}),
    )
    # A queue of its own: what an earlier demo left in the database is not ours to go on with.
    queue = f"demo-{secrets.token_hex(4)}"
    audience.opens(is_disturbed=bool(moments))
    async with outlast.open(url, worker=False):
        run = await audit.options(queue=queue).start(order)
        disruption = Disruption(
            (url, queue),
            ledger=ledger,
            log=directory / "worker.log",
            files=len(order.files),
            moments=moments,
            on_kill=audience.sees,
        )
        live = await _attend(run, disruption, audience)
        account = Account(
            files=order.files,
            ending=await _ending(run),
            history=[Recorded(e.revision, e.type, e.data) async for e in run.history()],
            live=live,
            late=[_item(item) async for item in run.stream()],
            lines=disruption.lines,
            report=report.read_bytes() if report.exists() else b"",
        )
        return Performance(run.id, report, account, disruption.kills, disruption.accidents)


async def _attend(run: TaskRun[Done], disruption: Disruption, audience: Audience) -> list[Item]:
    """Read the stream while workers come and go, approve, and return what was read."""
    items: list[Item] = []

    async def read() -> None:
        async for each in run.stream():
            items.append(_item(each))
            audience.hears(items[-1])
            if items[-1].value == {"waiting": APPROVAL}:
                await disruption.is_over.wait()
                await run.signal(APPROVAL, True, id=APPROVAL)
                audience.approves()

    async def lose_patience() -> None:
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < PATIENCE:
            await asyncio.sleep(1)
            if (now := len(items) + len(disruption.lines)) != seen:
                seen, since = now, time.monotonic()
        raise Stalled(f"for {PATIENCE:.0f} s nothing moves{disruption.last_words()}")

    try:
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(disruption.run()), group.create_task(lose_patience())]
            await read()
            for each in beside:
                each.cancel()
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return items


async def _ending(run: TaskRun[Done]) -> str:
    """Say how the run ended: `completed`, or what went wrong."""
    try:
        await run.result()
    except TaskError as error:
        return f"{type(error).__name__}: {error}"
    return str((await run.refresh()).status)


def _item(item: StreamItem | Retracted) -> Item:
    return Item(item.offset, item.value if isinstance(item, StreamItem) else None)


def _read_differently(one: Account, other: Account) -> dict[str, Outline]:
    """Return what the one read where the other read something else."""
    outlines = TypeAdapter(Outline)
    first, second = steps_recorded(one.history), steps_recorded(other.history)
    found: dict[str, Outline] = {}
    for number, file in enumerate(one.files, 1):
        this, that = first.get(("read", number)), second.get(("read", number))
        if this and that and this.data.get("value") != that.data.get("value"):
            found[file] = outlines.validate_python(this.data["value"])
    return found
