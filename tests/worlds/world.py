"""Small worlds: programs that ask one thing at a time, one store, and what may happen to them.

A state is a handful of numbers: of what the store holds, of where each program stands, of requests
that are still on their way. What a request does to a store, and how a program goes on after an
answer, is found out once, by the real code, and known from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from outlast.errors import Conflict, Fenced
from outlast.journal import Change, Lease
from outlast.model.events import TYPE_OF, AttemptBegan, Created, decode, encode
from outlast.model.run import Run
from tests.worlds.asking import (
    LOST,
    Actor,
    Answer,
    Broken,
    Raised,
    Request,
    Table,
)
from tests.worlds.cast import Cast, Standing, may_hold
from tests.worlds.checks import run_of, unsettled, what_is_wrong
from tests.worlds.ledger import TTL, Books, Ledger
from tests.worlds.programs import INTERRUPTIBLE
from tests.worlds.setting import COSTS, Client, Setting
from tests.worlds.telling import Move, tell


class State(NamedTuple):
    """Numbers of a world's table, and how much may still go wrong: of each kind, and together."""

    books: int
    workers: tuple[int, ...]  # sorted: they are all alike
    clients: tuple[int, ...]
    under_way: tuple[int, ...]  # requests that arrive late
    left: tuple[int, ...]
    faults: int
    effects: tuple[str, ...] = ()


class Performed(NamedTuple):
    """What a request does to a store."""

    books: int
    answer: int
    wrong: str | None


class World:
    """A setting, and everything that may happen in it.

    Attributes:
        seen: what has happened somewhere, by name.
    """

    def __init__(self, setting: Setting, faults: int) -> None:
        self.setting, self.faults = setting, max(faults, setting.faults if faults else 0)
        self.seen: set[str] = set()
        self._table, self._ledger = Table(), Ledger()
        self._performed: dict[tuple[int, int], Performed] = {}
        self._cast = Cast(self._table, setting.handler)

    # The beginning and the end

    def start(self) -> State:
        """Return the first state."""
        books = Books()
        for key, events in self.setting.runs.items():
            run = Run()
            for event in events:
                run.evolve(event, 0.0)
            change = Change(
                key=key,
                id=f"made {key}",
                entries=tuple(map(encode, events)),
                card=run.card(),
                close=run.outcome is not None,
                revision=0,
            )
            books, _ = self._ledger.perform(books, Request("commit", (change,)))
        clients = tuple(
            self._cast.settle(Actor(program, name, 0.0, args))
            for program, name, args in self.setting.clients
        )
        left = tuple(
            min(self.faults, getattr(self.setting, kind) * max(1, self.faults)) for kind in COSTS
        )
        workers = (self._cast.idle,) * self.setting.workers
        return State(self._table.number(books), workers, clients, (), left, self.faults)

    def unsettled(self, state: State) -> str | None:
        """Return what is wrong with a state in which nothing can happen any more."""
        books: Books = self._table[state.books]
        for client, number in zip(self.setting.clients, state.clients, strict=True):
            said = self._cast.standing[number].said
            if said is None:
                return f"{client.name} waits for ever"
            self.seen.add(f"{client.program} {said}")
            if (wrong := self._broken_word(client, said, books)) is not None:
                return wrong
        for journal in books.journals:
            key, status = journal.head.key, journal.head.card.status
            self.seen.add(f"rests {status}")
            if (wrong := unsettled(journal, state.effects, self.setting.handler)) is not None:
                return f"{key}: {wrong}"
        return None

    def _broken_word(self, client: Client, said: str, books: Books) -> str | None:
        """Return what is wrong with what a client was told."""
        key = client.args[0]
        journal = books.of(key)
        gone = [entry for buried in books.buried if buried.key == key for entry in buried.entries]
        entries = [*gone, *(journal.entries if journal else ())]
        match client.program:
            case "signaller":
                id = f"signal:{client.args[2] if len(client.args) > 2 else client.args[1]}"
                is_there = any(entry.change == id for entry in entries)
            case "starter":
                made = [decode(entry) for entry in entries if entry.type == TYPE_OF[Created]]
                is_there = any(isinstance(e, Created) and e.input == client.args[1] for e in made)
            case "canceller" | "aborter":
                is_gone = journal is None or bool(gone)  # another one stands there now
                has_ended = is_gone or (journal is not None and run_of(journal).outcome is not None)
                return None if has_ended or said == "unknown" else "a run was stopped, and goes on"
            case _:
                return None
        if said == "accepted" and not is_there:
            return f"what {client.name} was told to be accepted is lost"
        if said in {"refused", "conflict"} and is_there:
            return f"what {client.name} was told to be refused is there"
        return None

    # What may happen

    def moves(self, state: State) -> Iterator[tuple[Move, State, str | None]]:
        """Give everything that may happen next."""
        for place, number in enumerate(state.workers):
            if place == 0 or number != state.workers[place - 1]:
                yield from self._of_actor(state, "workers", place, self._cast.standing[number])
        for place, number in enumerate(state.clients):
            if self._cast.standing[number].said is None:
                yield from self._of_actor(state, "clients", place, self._cast.standing[number])
        for place, request in enumerate(state.under_way):
            if place == 0 or request != state.under_way[place - 1]:
                yield self._arrive(state, place, request)
        yield from self._of_time(state)

    def _arrive(self, state: State, place: int, request: int) -> tuple[Move, State, str | None]:
        done = self._perform(state.books, request)
        left = state.under_way[:place] + state.under_way[place + 1 :]
        self.seen.add("arrived late")
        move = Move("late", "arrives", request, done.answer)
        return move, state._replace(books=done.books, under_way=left), done.wrong

    def _of_actor(
        self, state: State, group: str, place: int, standing: Standing
    ) -> Iterator[tuple[Move, State, str | None]]:
        who, asked = standing.actor.name, standing.asked
        if isinstance(asked, Broken):
            yield Move(who, "raises"), state, asked.why
            return
        assert asked is not None
        match asked.verb:
            case "rest":
                yield from self._of_rest(state, group, place, standing)
            case "effect":
                [name] = asked.args
                after = state._replace(effects=tuple(sorted((*state.effects, name))))
                wrong = f"{name} ran twice" if name in state.effects else None
                yield Move(who, f"runs {name}"), self._tell(after, group, place, None), wrong
            case "happens":
                yield Move(who, "goes on"), self._tell(state, group, place, False), None
                if (paid := self._pay(state, "chance")) is not None:
                    self.seen.add(asked.args[0])
                    yield Move(who, asked.args[0]), self._tell(paid, group, place, True), None
            case _:
                yield from self._of_request(state, group, place, standing)
        if standing.actor.program in INTERRUPTIBLE:
            paid = self._pay(state, "crash")
            if paid is not None:
                self.seen.add("crashed")
                yield (
                    Move(who, "crashes"),
                    self._put(paid, group, place, self._cast.dead(standing)),
                    None,
                )
        if standing.lease is not None:
            yield from self._of_lease(state, group, place, standing, standing.lease)

    def _of_request(
        self, state: State, group: str, place: int, standing: Standing
    ) -> Iterator[tuple[Move, State, str | None]]:
        who, request, asked = standing.actor.name, standing.request, standing.asked
        assert isinstance(asked, Request)
        if asked.verb == "claim" and not self._books(state).claimable:
            return
        done = self._perform(state.books, request)
        after = self._cast.told_by(getattr(state, group)[place], done.answer)
        wrong = done.wrong
        lease = self._cast.standing[after].lease
        if wrong is None and lease is not None and standing.lease is None:
            others = (
                self._cast.standing[other].lease for other in (*state.workers, *state.clients)
            )
            if any(other is not None and other.fence == lease.fence for other in others):
                wrong = "two hold one lease"
        moved = self._put(state._replace(books=done.books), group, place, after)
        yield Move(who, "asks", request, done.answer), moved, wrong
        if asked.verb != "read" and (paid := self._pay(state, "silence")) is not None:
            self.seen.add("no answer")
            lost = paid._replace(under_way=tuple(sorted((*paid.under_way, request))))
            yield Move(who, "gets no answer", request), self._tell(lost, group, place, LOST), None

    def _of_rest(
        self, state: State, group: str, place: int, standing: Standing
    ) -> Iterator[tuple[Move, State, str | None]]:
        assert isinstance(standing.asked, Request)
        who, (key, revision, until) = standing.actor.name, standing.asked.args
        books = self._books(state)
        yield Move(who, "parks"), self._tell(state, group, place, "parks"), None
        journal = books.of(key)
        if journal is None or journal.head.revision != revision:
            yield Move(who, "looks"), self._tell(state, group, place, "looks"), None
        if until is not None and books.wall >= until:
            yield Move(who, "has waited"), self._tell(state, group, place, "has waited"), None

    def _of_lease(
        self, state: State, group: str, place: int, standing: Standing, lease: Lease
    ) -> Iterator[tuple[Move, State, str | None]]:
        journal = self._books(state).of(lease.key)
        if journal is not None and journal.is_held and journal.head.fence == lease.fence:
            return
        who = standing.actor.name
        self.seen.add("lease lost")
        yield Move(who, "loses its lease"), self._stop(state, group, place, standing), None
        request = self._table.number(Request("renew", ((lease,), TTL)))
        done = self._perform(state.books, request)
        if self._table[done.answer].value:
            self.seen.add("renewed")
            after = state._replace(books=done.books)
        else:
            after = self._stop(state, group, place, standing)
        yield Move(who, "renews", request, done.answer), after, done.wrong

    def _of_time(self, state: State) -> Iterator[tuple[Move, State, str | None]]:
        books = self._books(state)
        standings = [self._cast.standing[actor] for actor in (*state.workers, *state.clients)]
        for journal in books.journals:
            if not journal.is_held:
                continue
            lease = journal.head.lease
            assert lease is not None
            lives = any(may_hold(standing, lease) for standing in standings)
            paid = self._pay(state, "end") if lives else state
            if paid is None:
                continue
            self.seen.add("lease ended" if lives else "left lease ended")
            head = journal.head._replace(lease=lease._replace(until=0.0))
            after = self._at(paid, books.put(journal._replace(head=head)))
            yield Move("time", f"the lease of {lease.key} ends"), after, None
        dues = [journal.head.card.due for journal in books.journals]
        asked = (standing.asked for standing in standings)
        dues += [it.args[2] for it in asked if isinstance(it, Request) and it.verb == "rest"]
        later = [due for due in dues if due is not None and due > books.wall]
        if later:
            wall = min(later)
            move = Move("time", f"it is {wall:g}")
            yield move, self._at(state, books._replace(wall=wall)), None

    # What it comes to

    def _books(self, state: State) -> Books:
        books: Books = self._table[state.books]
        return books

    def _at(self, state: State, books: Books) -> State:
        return state._replace(books=self._table.number(books))

    def _pay(self, state: State, kind: str) -> State | None:
        """Return the state in which one fault fewer may come; None where none may."""
        place = COSTS.index(kind)
        if not state.faults or not state.left[place]:
            return None
        left = (*state.left[:place], state.left[place] - 1, *state.left[place + 1 :])
        return state._replace(left=left, faults=state.faults - 1)

    def _perform(self, books: int, request: int) -> Performed:
        found = self._performed.get((books, request))
        if found is None:
            before, asked = self._table[books], self._table[request]
            after, answer = self._ledger.perform(before, asked)
            self._note(before, asked, after, answer)
            wrong = what_is_wrong(before, asked, after, answer)
            numbers = self._table.number(after), self._table.number(answer)
            found = self._performed[books, request] = Performed(*numbers, wrong)
        return found

    def _note(self, before: Books, request: Request, after: Books, answer: Answer) -> None:
        """Take note of what has happened."""
        match answer.value:
            case Raised(Fenced()):
                self.seen.add("fenced")
                return
            case Raised(Conflict(what=what)):
                self.seen.add(f"conflict on {what}")
                return
        if request.verb != "commit":
            return
        [change] = request.args
        old, new = before.of(change.key), after.of(change.key)
        assert new is not None
        if change.entries and old is not None and len(old.entries) == len(new.entries):
            self.seen.add("said again")
        for entry in new.entries[len(old.entries) if old else 0 :]:
            self.seen.add(entry.type)
            event = decode(entry)
            if isinstance(event, AttemptBegan) and event.died:
                self.seen.add("takeover")

    def _tell(self, state: State, group: str, place: int, value: object) -> State:
        """Answer an actor."""
        answer = self._table.number(Answer(self._books(state).wall, value))
        actor = self._cast.told_by(getattr(state, group)[place], answer)
        return self._put(state, group, place, actor)

    def _stop(self, state: State, group: str, place: int, standing: Standing) -> State:
        """Let an actor do what it does when its lease is over."""
        [holding] = standing.actor.args
        said: str | None = holding.said
        after = self._cast.idle if said is None else self._cast.over(standing, said)
        return self._put(state, group, place, after)

    def _put(self, state: State, group: str, place: int, actor: int) -> State:
        if group == "clients":
            clients = (*state.clients[:place], actor, *state.clients[place + 1 :])
            return state._replace(clients=clients)
        workers = (*state.workers[:place], actor, *state.workers[place + 1 :])
        return state._replace(workers=tuple(sorted(workers)))

    def tell(self, move: object) -> str:
        """Return the move as a line for a reader."""
        assert isinstance(move, Move)
        numbers = move.request, move.answer
        request, answer = (None if n is None else self._table[n] for n in numbers)
        return tell(move, request, answer)
