"""Workers and a client on one file, killed over and over: every accepted run ends, once.

20 processes are killed in `make test`, and 200 in `make soak`; `pytest -rP` shows what happened.
"""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest

from outlast import Retracted, StreamItem
from outlast.model.events import TYPE_OF, Signalled
from tests.crash.account import Account, account_of
from tests.crash.fate import Point
from tests.crash.stage import PATIENCE, Stage, Worker, watch

IS_SOAK: Final = bool(os.environ.get("OUTLAST_SOAK"))
KILLS: Final = 200 if IS_SOAK else 20
WORKERS: Final = 3

CLIENTS_SHARE: Final = 5
"""One of so many kills hits the client."""

DOOMED_SHARE: Final = 5
"""One of so many workers, but never the first, dies where a step has emitted and goes on: a moment
that is hard to hit from outside."""

MOST_STEPS: Final = 18
"""Steps that may be done, by whichever worker, until the next kill: two journeys or so."""

RARE: Final = 3
"""So many of the totals, the last ones, may be zero after 20 kills, but not after 200."""

LONGEST: Final = 0.02
"""Seconds at most from there to the kill, so that it hits writes wherever they are."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE + 5 * KILLS)]


@dataclass
class Campaign:
    """Several workers and a client that are killed, each replaced by another."""

    stage: Stage
    chance: random.Random
    workers: list[Worker] = field(default_factory=list[Worker])
    clients: int = 0
    kills: Counter[str] = field(default_factory=Counter[str])
    streams: dict[str, list[StreamItem | Retracted]] = field(default_factory=dict)
    readers: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def play(self) -> None:
        """Kill so many processes, and leave as many alive."""
        self.workers = [await self.stage.worker() for _ in range(WORKERS)]
        client = await self._client()
        for number in range(1, KILLS + 1):
            if number % CLIENTS_SHARE == 0:
                next_client = await self._client()
                await self._strike(client)
                client = next_client
            else:
                dead = [place for place in range(WORKERS) if self.workers[place].is_dead]
                place = self.chance.choice(dead or range(WORKERS))
                next_one = await self._next_worker(is_safe=place == 0)
                await self._strike(self.workers[place])
                self.workers[place] = next_one
                await next_one.open()
            self.kills["client" if number % CLIENTS_SHARE == 0 else "worker"] += 1
        await client.kill()

    async def _strike(self, victim: Worker) -> None:
        """Kill it some time from now, in the midst of whatever goes on."""
        await self.stage.hears("did", self.chance.randint(1, MOST_STEPS))
        await self._read()
        await asyncio.sleep(self.chance.uniform(0, LONGEST))
        await victim.kill()

    async def _client(self) -> Worker:
        self.clients += 1
        client = await self.stage.client(f"c{self.clients}")
        assert await client.says("opened"), self.stage.said()
        return client

    async def _next_worker(self, *, is_safe: bool) -> Worker:
        """Return a worker that is loaded; some will die by themselves in the midst of a stream."""
        point = Point("at", "accepted s1", self.chance.randint(1, 3))
        is_doomed = not is_safe and self.chance.randrange(DOOMED_SHARE) == 0
        worker = await self.stage.load(point if is_doomed else None)
        await worker.says("loaded")
        return worker

    async def _read(self) -> None:
        """Follow the stream of the newest run that was accepted."""
        accepted = self.stage.ledger.lines("accepted", name="start")
        if accepted and (id := accepted[-1].run) not in self.streams:
            run = await self.stage.app.runs.get(id)
            self.streams[id] = []
            self.readers.append(asyncio.create_task(watch(run, self.streams[id])))

    async def check_what_was_accepted(self) -> None:
        """See that all is there that a client was told is: before anybody asks for it again."""
        for line in self.stage.ledger.lines("accepted"):
            run = await self.stage.app.runs.get(line.run)
            if line.name == "go":
                types = Counter(entry.type for entry in await self.stage.entries(run.id))
                assert types[TYPE_OF[Signalled]] == 1

    async def end(self) -> list[Account]:
        """Ask again for whatever a dead client has asked for, and wait for all of it."""
        ids = [line.run for line in self.stage.ledger.lines("asked")]
        assert len(ids) == len(set(ids))
        runs = [await self.stage.start(id) for id in ids]
        for run in runs:
            await self.stage.signal(run)
        accounts = [await account_of(self.stage, run, self.streams.get(run.id)) for run in runs]
        await asyncio.gather(*self.readers)
        return accounts


def totals_of(campaign: Campaign, accounts: Sequence[Account]) -> dict[str, int]:
    """Count what has happened."""
    ledger = campaign.stage.ledger
    answers = [line for line in ledger.lines("accepted") if line.pid != os.getpid()]
    did = Counter((line.run, line.name) for line in ledger.lines("did"))
    items = [item for account in accounts for item in account.stream]
    return {
        "workers killed": campaign.kills["worker"],
        "clients killed": campaign.kills["client"],
        "runs": len(accounts),
        "runs entered after a death": sum(account.deaths for account in accounts),
        "streams followed": len(campaign.streams),
        "results that a client saw": len(ledger.lines("saw")),
        "requests without an answer": 2 * len(accounts) - len(answers),
        "steps begun again": sum(count - 1 for count in did.values()),
        "retractions": sum(isinstance(item, Retracted) for item in items),
    }


@pytest.mark.soak
async def test_every_accepted_run_ends_once(stage: Stage, request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("randomly_seed", 0)
    campaign = Campaign(stage, random.Random(seed))

    await campaign.play()
    await campaign.check_what_was_accepted()
    accounts = await campaign.end()

    for account in accounts:
        account.check()
    outputs = {account.id: account.output for account in accounts}
    for line in stage.ledger.lines("saw"):
        assert outputs[line.run] == json.loads(line.name), "a client saw another result"
    totals = totals_of(campaign, accounts)
    sys.stdout.write(f"seed {seed}: {totals}\n")
    for what in list(totals)[: None if IS_SOAK else -RARE]:
        assert totals[what], f"this never happened: {what}"
    statuses = [await worker.close() for worker in campaign.workers]
    assert statuses[0] == 0, stage.said()
    assert set(statuses) <= {0, -9}, stage.said()
