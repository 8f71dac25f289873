"""The small worlds: each is about one meeting of events, and holds everything around it."""

from __future__ import annotations

from functools import partial
from typing import Final

from outlast.engine.client import key_of
from outlast.model.events import (
    Asked,
    AttemptFailed,
    Checkpointed,
    Created,
    Ended,
    Parked,
    Status,
    TurnBegan,
)
from tests.worlds.setting import Client, Setting
from tests.worlds.workers import ERROR, TASK, Handler, Op

RUN: Final = key_of("r")


def _step(name: str) -> Op:
    return Op("step", (name,))


def _handler(*ops: Op, max_recoveries: int = 20, choices: tuple[str, ...] = ()) -> Handler:
    return Handler(ops, max_recoveries, choices)


def _starter(name: str, input: str, handler: Handler, *, claims: bool = True) -> Client:
    return Client("starter", name, (RUN, input, handler, claims))


def _signaller(signal: str = "s", id: str | None = None, name: str = "signaller") -> Client:
    return Client("signaller", name, (RUN, signal, id or signal))


def _sees(*names: str) -> frozenset[str]:
    return frozenset(names)


_alone: Final = partial(Setting, workers=1)
"""A world with one worker."""

_undisturbed: Final = partial(_alone, crash=0, silence=0, end=0)
"""One in which nothing goes wrong, either: all is in the order of events."""

_CREATED: Final = Created(TASK, "old", "input", 0.0)
_NEW: Final = {RUN: (_CREATED,)}
_PARKED: Final = {RUN: (_CREATED, TurnBegan(1), Parked(None, (Asked("s", 1, 0),)))}
_FAILED: Final = {RUN: (_CREATED, TurnBegan(1), AttemptFailed(ERROR, 5.0))}
_STEPPED: Final = Checkpointed("step", "a", 1, 0)
_ENDED: Final = {RUN: (_CREATED, TurnBegan(1), _STEPPED, Ended(Status.COMPLETED, "output"))}
_STEP: Final = _step("a")
_WAIT: Final = Op("wait", ("s",))
_TIMED: Final = Op("wait", ("s",), 5.0)
_CANCELLER: Final = Client("canceller", "canceller", (RUN,))
_ABORTER: Final = Client("aborter", "aborter", (RUN,))
_DELETER: Final = Client("deleter", "deleter", (RUN,))

WORLDS: Final = {
    "two clients start one run": _alone(
        _handler(_STEP),
        (_starter("one", "x", _handler(_STEP)), _starter("two", "y", _handler(_STEP))),
        sees=_sees("conflict on lease", "starter conflict", "said again", "takeover"),
    ),
    "two clients start the same": _alone(
        _handler(_STEP),
        (
            _starter("one", "x", _handler(_STEP)),
            _starter("two", "x", _handler(_STEP), claims=False),
        ),
        sees=_sees("conflict on lease", "conflict on revision", "said again", "crashed"),
    ),
    "a start and a signal": _alone(
        _handler(_WAIT),
        (
            _starter("one", "x", _handler(_WAIT)),
            Client("signaller", "signaller", (RUN, "s", "s", 0)),
        ),
        sees=_sees("said again", "signaller gone", "signaller accepted", "rests completed"),
    ),
    "a step and a lost answer": Setting(
        _handler(_STEP, _step("b")),
        runs=_NEW,
        sees=_sees("no answer", "arrived late", "said again", "fenced", "takeover", "renewed"),
    ),
    "a frozen owner": Setting(
        _handler(_STEP, _WAIT),
        (_signaller(),),
        _NEW,
        end=2,
        sees=_sees("lease lost", "fenced", "takeover", "renewed", "parked"),
    ),
    "a signal and a park": Setting(
        _handler(_STEP, _WAIT, _step("b")),
        (_signaller(),),
        _NEW,
        sees=_sees("parked", "conflict on facts", "signaller accepted", "said again"),
    ),
    "a signal and a timeout": Setting(
        _handler(_TIMED, _STEP),
        (_signaller(),),
        _NEW,
        sees=_sees("parked", "conflict on facts", "signaller refused", "signaller accepted"),
    ),
    "a signal and the end": Setting(
        _handler(_STEP),
        (_signaller(), _signaller(name="twin")),
        _NEW,
        sees=_sees("conflict on closed", "signaller accepted", "signaller refused", "said again"),
    ),
    "two waits": _alone(
        _handler(Op("wait", ("s", "t"))),
        (_signaller(), _signaller("t", name="other")),
        _NEW,
        end=0,
        sees=_sees("parked", "conflict on facts", "checkpointed", "rests completed"),
    ),
    "two waits for one name": _alone(
        _handler(_WAIT, Op("wait", ("s",), None, 2)),
        (_signaller(id="x"), _signaller(id="y", name="other")),
        _NEW,
        end=0,
        sees=_sees("parked", "conflict on facts", "checkpointed", "rests completed"),
    ),
    "a sleep": Setting(
        _handler(Op("sleep", ("z",), 5.0), _STEP),
        runs=_NEW,
        sees=_sees("parked", "timer_set", "takeover", "fenced"),
    ),
    "a signal that nobody waits for": _alone(
        _handler(Op("sleep", ("z",), 5.0)),
        (_signaller(),),
        _NEW,
        end=0,
        sees=_sees("parked", "conflict on facts", "takeover"),
    ),
    "a signal in a back-off": _alone(
        _handler(Op("flaky", ("a",), 5.0)),
        (_signaller(),),
        _NEW,
        sees=_sees("attempt_failed", "conflict on facts", "signaller refused"),
    ),
    "a signal in a back-off after a wait": _undisturbed(
        _handler(_WAIT, Op("flaky", ("a",), 5.0)),
        (_signaller(id="x"), _signaller(id="y", name="other")),
        _NEW,
        sees=_sees("parked", "attempt_failed", "conflict on facts", "rests completed"),
    ),
    "cancel and a back-off": _alone(
        _handler(Op("flaky", ("a",), 5.0)),
        (_CANCELLER,),
        _NEW,
        sees=_sees("attempt_failed", "cancel_requested", "rests cancelled", "conflict on facts"),
    ),
    "cancel of a run that rests": Setting(
        _handler(_WAIT, Op("wait", ("t",))),  # for which nobody sends a signal
        (_CANCELLER, _signaller()),
        _PARKED,
        sees=_sees("conflict on revision", "conflict on lease", "rests cancelled", "takeover"),
    ),
    "cancel of a run in back-off": Setting(
        _handler(Op("flaky", ("a",)), _step("b")),
        (_CANCELLER,),
        _FAILED,
        sees=_sees("conflict on revision", "rests cancelled", "rests completed"),
    ),
    "cancel of a run at work": Setting(
        _handler(_STEP, _step("b")),
        (_CANCELLER,),
        _NEW,
        sees=_sees("cancel_requested", "rests cancelled", "rests completed", "fenced"),
    ),
    "cancel and a signal": _alone(
        _handler(_WAIT),
        (_CANCELLER, _signaller()),
        _NEW,
        end=0,
        sees=_sees("cancel_requested", "parked", "rests cancelled", "rests completed"),
    ),
    "cancel and a timeout": _alone(
        _handler(_TIMED),
        (_CANCELLER,),
        _NEW,
        sees=_sees("cancel_requested", "conflict on facts", "rests cancelled", "rests completed"),
    ),
    "abort of a run at work": Setting(
        _handler(_STEP, _step("b")),
        (_ABORTER,),
        _NEW,
        sees=_sees("aborted", "fenced", "rests aborted", "rests completed"),
    ),
    "abort and a park": _alone(
        _handler(_WAIT),
        (_ABORTER, _signaller()),
        _NEW,
        sees=_sees("aborted", "fenced", "signaller refused", "rests aborted", "rests completed"),
    ),
    "abort and cancel": _alone(
        _handler(_STEP),
        (_ABORTER, _CANCELLER),
        _NEW,
        sees=_sees("aborted", "cancel_requested", "conflict on closed", "rests cancelled"),
    ),
    "delete and start anew": _alone(
        _handler(_STEP),
        (_DELETER, _starter("again", "new", _handler(_STEP)), _signaller()),
        _ENDED,
        sees=_sees("conflict on first", "deleter deleted", "signaller gone", "starter conflict"),
    ),
    "start and delete": _alone(
        _handler(_STEP),
        (_starter("one", "x", _handler(_STEP), claims=False), _DELETER),
        sees=_sees("aborted", "deleter deleted", "starter unknown", "fenced"),
    ),
    "a frozen owner of a deleted run": _alone(
        _handler(_STEP),
        (_DELETER, _starter("again", "new", _handler(_STEP))),
        _NEW,
        crash=0,
        silence=0,
        sees=_sees("deleter deleted", "fenced", "lease lost"),
    ),
    "abort of a deleted run": _undisturbed(
        _handler(_WAIT),
        (_DELETER, _starter("again", "new", _handler(_WAIT)), _ABORTER),
        _PARKED,
        sees=_sees("conflict on first", "deleter deleted", "rests running", "aborted"),
    ),
    "cancel of a deleted run": _undisturbed(
        _handler(_STEP),
        (_DELETER, _starter("again", "new", _handler(_STEP)), _CANCELLER),
        _NEW,
        sees=_sees("conflict on first", "deleter deleted", "rests completed"),
    ),
    "at most once": Setting(
        _handler(Op("once", ("a",))),
        runs=_NEW,
        crash=2,
        sees=_sees("step_began", "takeover", "fenced", "rests completed"),
    ),
    "one death too many": Setting(
        _handler(_STEP, max_recoveries=1),
        runs=_NEW,
        sees=_sees("crashed", "rests failed", "rests completed"),
    ),
    "deaths in a row, or not": _alone(
        _handler(_STEP, _step("b"), max_recoveries=2),
        runs=_NEW,
        faults=2,
        silence=0,
        end=0,
        sees=_sees("crashed", "rests failed", "rests completed"),
    ),
    "handed back": _alone(
        _handler(_STEP, _WAIT, choices=("hand back",)),
        (_signaller(),),
        _NEW,
        chance=1,
        sees=_sees("handed_back", "conflict on facts", "rests completed"),
    ),
    "handed back and cancelled": _alone(
        _handler(_STEP, choices=("hand back",)),
        (_CANCELLER,),
        _NEW,
        chance=1,
        sees=_sees("handed_back", "conflict on facts", "rests cancelled"),
    ),
    "a thread that never stops": _alone(
        _handler(Op("flaky", ("a",), 5.0), choices=("never stops",)),
        (_CANCELLER,),
        _NEW,
        chance=1,
        sees=_sees("never stops", "left lease ended", "rests cancelled", "rests completed"),
    ),
    "delete and a thread that never stops": _alone(
        _handler(_STEP, choices=("never stops",)),
        (_DELETER,),
        _NEW,
        chance=1,
        sees=_sees("never stops", "left lease ended", "conflict on lease", "deleter deleted"),
    ),
    "a step that emits": Setting(
        _handler(Op("emitting", ("a",))),
        (_ABORTER,),
        _NEW,
        sees=_sees("step_streamed", "taken_back", "fenced", "rests completed"),
    ),
    "two runs": Setting(
        _handler(_STEP),
        (),
        {RUN: (_CREATED,), "run/s": (_CREATED,)},
        sees=_sees("takeover", "fenced"),
    ),
}
