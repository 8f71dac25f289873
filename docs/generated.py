"""Writes those parts of the pages that the code says: `python docs/generated.py`.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; `tests/test_docs.py` fails when
one is not as the code says.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_args

import outlast
from outlast.engine import settings, turn
from outlast.model import decisions, events, turns
from outlast.model.run import Input, NotAllowed, Run
from outlast.model.terms import Terms, Written
from outlast.stores.sqlite import schema

DOCS: Final = Path(__file__).resolve().parent
MAX_PAYLOAD: Final = inspect.signature(outlast.open).parameters["max_payload"].default
PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def table(*rows: tuple[str, ...]) -> str:
    """Return the rows, the first of which is the heading, as Markdown."""
    head, *body = [f"| {' | '.join(cell or ' ' for cell in row)} |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


# Statuses


def examples(turn: int) -> list[tuple[str, Any]]:
    """Return one event of each kind that moves a run, under the words for it."""
    failed = events.Ended(events.Status.FAILED)
    return [
        ("a start was accepted", events.Created("task", None, "input", 0.0)),
        ("a worker takes it up", events.TurnBegan(turn + 1, "input")),
        ("another input is given", events.InputGiven("input", None)),
        ("the handler suspends it", events.TurnEnded("suspended")),
        ("the handler raised, and a turn that fails suspends it", events.TurnEnded("failed")),
        ("the handler ends its turn, and an input waits", events.TurnEnded("completed")),
        ("somebody retries it", events.Retried(0.0)),
        ("a worker takes it over after a crash", events.AttemptBegan(died=True)),
        ("a worker takes it up again", events.AttemptBegan(died=False)),
        ("the handler raised, and is tried again", events.AttemptFailed(None, 0.0)),
        ("the handler only waits, and leaves memory", events.Parked()),
        ("its worker shuts down and hands it back", events.HandedBack(0.0)),
        ("the handler returned", events.Ended(events.Status.COMPLETED)),
        ("the handler raised, and no retry is left", failed),
        ("the process that runs it has died too often", failed),
        ("it was cancelled", events.Ended(events.Status.CANCELLED)),
        ("its turn took longer than it may", events.Ended(events.Status.TIMED_OUT)),
        ("it was aborted", events.Aborted()),
    ]


def moves() -> Iterator[tuple[str, str, str]]:
    """Give every move of a run: the status before, what happened, the status after."""
    seen: set[tuple[object, ...]] = set()
    waiting = [Run()]
    while waiting:
        run = waiting.pop(0)
        place = (run.created is None, run.status, run.is_entered, run.is_between, bool(run.inputs))
        if place in seen:
            continue
        seen.add(place)
        for what, event in examples(run.turn):
            if what.startswith("the ") and not run.is_entered:
                continue  # there is no handler
            if what.startswith("its turn ") and run.is_between:
                continue  # there is no turn
            if what.endswith("an input waits") and not run.inputs:
                continue
            after = deepcopy(run)
            try:
                after.evolve(event, 0.0)
            except NotAllowed:
                continue
            yield ("" if run.created is None else f"`{run.status}`", what, f"`{after.status}`")
            waiting.append(after)


def statuses() -> str:
    """Return the table of all moves between statuses."""
    order = ["", *(f"`{status}`" for status in events.Status)]
    rows = sorted(set(moves()), key=lambda row: (order.index(row[0]), order.index(row[2]), row[1]))
    return table(("from", "what happened", "to"), *rows)


# Turns

INPUT: Final = "said before"
CREATED: Final = events.Created("task", INPUT, "first", 0.0)
BEGUN: Final = events.TurnBegan(1, "first", deadline=60.0)
STORED: Final[dict[str, tuple[Any, ...]]] = {
    "suspended": (CREATED, BEGUN, events.TurnEnded("suspended")),
    "pending": (CREATED,),
    "running": (CREATED, BEGUN),
    "ended": (CREATED, BEGUN, events.Ended(events.Status.COMPLETED)),
}
EARLY: Final = Terms(1.0)
LATE: Final = Terms(61.0)


def run_after(*happened: Any) -> Run:
    """Return the run that these events amount to."""
    run = Run()
    for event in happened:
        run.evolve(event, 0.0)
    return run


def start() -> str:
    """Return the table of what a start does, by what is stored under its id."""
    heading = (
        "stored",
        "a known `input_id`",
        "the same with another input",
        '`steering="reject"`: an equal input',
        '`steering="reject"`: another input',
        "any other `steering`: a new input",
    )
    known = Input("first", value=INPUT)
    rows = [("nothing", *["a new run, `fresh`"] * 5)]
    for state, happened in STORED.items():
        offers = [
            turns.Offer("task", "first", INPUT, None, known=known),
            turns.Offer("task", "first", "other", None, known=known),
            turns.Offer("task", "new", INPUT, None),
            turns.Offer("task", "new", "other", None),
            turns.Offer("task", "new", "other", "queue"),
        ]
        rows.append((f"{state}", *(answered(run_after(*happened), offer) for offer in offers)))
    return table(heading, *rows)


def answered(run: Run, offer: turns.Offer) -> str:
    """Return in words what becomes of an offer."""
    match turns.answer(run, offer):
        case turns.Answer.JOIN:
            return "joins it"
        case turns.Answer.TAKE if run.status is events.Status.SUSPENDED:
            run.evolve(turns.accepted(offer), 0.0)
            return f"next turn, {begun(turns.begin_next(run, EARLY))}"
        case turns.Answer.TAKE:
            return "as `steering` says"
        case _:
            return "`TaskConflict`"


def begun(written: Iterable[Written]) -> str:
    """Return how a turn begins that these events begin."""
    return " ".join(f"`{event.mode}`" for event in written if isinstance(event, events.TurnBegan))


def steer() -> str:
    """Return the table of what a new input does to a turn under way."""
    heading = (
        "`steering`",
        "the running turn",
        "its caller gets",
        "a turn that nobody runs",
        "the new input",
    )
    rows = [("`reject`", "goes on", "its result", "stays as it is", "`TaskConflict`")]
    for steering in get_args(events.Steering):
        run = run_after(CREATED, BEGUN, events.InputGiven("new", None, steering))
        ended = decisions.returned(run, "its result", EARLY)
        taken = " or taken with `ctx.next_input`" if decisions.injected(run, 1, 0) else ""
        parked = run_after(
            *STORED["running"], events.Parked(), events.InputGiven("new", 1, steering)
        )
        entering = decisions.enter(parked, EARLY)
        rows.append(
            (
                f"`{steering}`",
                "is asked to end: `steered`" if run.is_superseded else "goes on",
                gotten(ended),
                "ends: " + gotten(entering.events) if entering.events else "stays as it is",
                f"next turn, {begun(ended)}{taken}",
            )
        )
    return table(heading, *rows)


def gotten(written: Iterable[Written]) -> str:
    """Return what a turn's caller gets by what ends the turn."""
    ended = next(event for event in written if isinstance(event, events.TurnEnded))
    output = "`None`" if ended.output is None else "its result"
    return f"{output}, `is_superseded`" if ended.how == "superseded" else output


def stop() -> str:
    """Return the table of how a run ends that is stopped, by what its handler does."""
    heading = (
        "stop",
        "the handler returns",
        "it raises",
        "it is stopped, or raises `CancelledError`",
        "the run is parked",
        "pending",
        "suspended",
    )
    asked = events.CancelRequested()
    rows = [
        ("`cancel`", *ends((asked,), EARLY)),
        ("the turn's `timeout`", *ends((), LATE)),
        ("`abort`", *["`aborted`"] * 6),
    ]
    return table(heading, *rows)


def ends(told: tuple[Any, ...], terms: Terms) -> Iterator[str]:
    """Give how a run ends in each place where it may be when it is told so."""
    working = run_after(*STORED["running"], *told)
    yield status_after(decisions.returned(working, None, terms))
    yield status_after(decisions.raised(working, None, 2.0, terms))
    yield status_after(decisions.left(working, terms))
    for state in ("running", "pending", "suspended"):
        parked = (events.Parked(),) if state == "running" else ()
        run = run_after(*STORED[state], *parked, *told)
        yield status_after(decisions.enter(run, terms).events)


def status_after(written: Iterable[Written]) -> str:
    """Return how a run ends that these events end."""
    ended = [f"`{event.status}`" for event in written if isinstance(event, events.Ended)]
    return " ".join(ended) or "goes on"


# Entries


def entry_rows(kinds: tuple[Any, ...]) -> Iterator[tuple[str, str, str]]:
    """Give the type of each entry, its fields, and what it says."""
    for kind in kinds:
        defaults = kind._field_defaults
        named = [f"`{name}`?" if name in defaults else f"`{name}`" for name in kind._fields]
        said = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
        yield f"`{events.TYPE_OF[kind]}`", ", ".join(named), said


def entries() -> str:
    """Return the tables of what stands in the journal of a run."""
    heading = ("type", "fields of its data", "what it says")
    parts = [
        ("Decisions:", get_args(events.Decision)),
        ("Facts:", get_args(events.Fact)),
        ("Items of the stream, which are never folded:", get_args(events.StreamEvent)),
    ]
    return "\n\n".join(f"{title}\n\n{table(heading, *entry_rows(kinds))}" for title, kinds in parts)


def tables() -> str:
    """Return the statements that make a new file."""
    statements = [
        textwrap.dedent(statement).strip() + ";"
        for migration in schema.MIGRATIONS
        for statement in migration
    ]
    return "```sql\n" + "\n\n".join(statements) + "\n```"


# Settings


def described(function: Callable[..., Any]) -> dict[str, str]:
    """Return what the docstring of a function says of each argument."""
    told = re.search(r"\nArgs:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(function) or "", re.DOTALL)
    assert told
    found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", told[1], re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}


def default(value: object) -> str:
    """Return a default as it is written in a table."""
    if value == MAX_PAYLOAD:
        return "64 MiB"
    return "" if value is inspect.Parameter.empty else f"`{value!r}`".replace("datetime.", "")


def setting_rows(function: Callable[..., Any]) -> str:
    """Return the table of a function's settings."""
    told = described(function)
    rows = [
        (f"`{name}`", default(parameter.default), told[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "function"
    ]
    return table(("setting", "default", "meaning"), *rows)


def limits() -> str:
    """Return the table of the limits."""
    return table(
        ("what", "limit"),
        ("ids, and names of tasks, steps, sleeps, signals, queues", f"{turn.MAX_NAME} characters"),
        ("title", f"{settings.MAX_TITLE} characters"),
        ("description", f"{settings.MAX_DESCRIPTION:,} characters"),
        ("source", f"{settings.MAX_SOURCE} characters"),
        (
            "tags",
            (
                f"{settings.MAX_TAGS} of them; keys of {settings.MAX_TAG_KEY}, values of "
                f"{settings.MAX_TAG_VALUE} characters; {settings.MAX_TAGS_BYTES:,} bytes of UTF-8 "
                f"together; the prefix `{settings.RESERVED_PREFIX}` is reserved"
            ),
        ),
        ("checkpoints of one turn", f"{decisions.MAX_CHECKPOINTS:,}"),
        ("inputs that wait for a turn", f"`max_pending`, {turns.MAX_PENDING} unless said"),
        ("a payload", f"`max_payload`, {MAX_PAYLOAD // 1024**2} MiB unless said"),
        ("levels of lists and dicts in a payload", "200"),
    )


def retry() -> str:
    """Return the table of the fields of a retry policy."""
    text = (inspect.getdoc(outlast.RetryPolicy) or "").replace("Attributes:", "Args:")
    found = re.findall(
        r"^    (\w+): (.*(?:\n     .*)*)", text.partition("Raises:")[0], re.MULTILINE
    )
    told = {name: re.sub(r"\s+", " ", said) for name, said in found}
    rows = [
        (f"`{one.name}`", default(one.default), told[one.name])
        for one in fields(outlast.RetryPolicy)
    ]
    return table(("setting", "default", "meaning"), *rows)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "statuses": statuses,
    "entries": entries,
    "tables": tables,
    "open": lambda: setting_rows(outlast.open),
    "task": lambda: setting_rows(outlast.task),
    "retry": retry,
    "limits": limits,
    "start": start,
    "steer": steer,
    "stop": stop,
}


def written(text: str) -> str:
    """Return the text of a page with its generated parts as the code says."""
    return PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", text)


def pages() -> dict[Path, str]:
    """Return every page that has generated parts, as it should be."""
    texts = {path: path.read_text() for path in sorted(DOCS.rglob("*.md"))}
    return {path: written(text) for path, text in texts.items() if PART.search(text)}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
