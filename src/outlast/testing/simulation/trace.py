"""What has happened in a simulation, and what has gone wrong in it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

_SHOWN: Final = 40
"""Happenings that an error shows."""


class Happening(NamedTuple):
    """One line of a trace."""

    at: float
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:12.6f}  {self.who:<12} {self.what}"


class SimulationFailed(AssertionError):
    """Something went wrong in a simulation.

    Attributes:
        what: went wrong.
        seed: of the simulation.
        trace: what had happened until then.
    """

    what: str
    seed: int
    trace: Sequence[Happening]

    def __init__(self, what: str, seed: int, trace: Sequence[Happening]) -> None:
        last = "\n".join(map(str, trace[-_SHOWN:]))
        super().__init__(f"seed {seed}: {what}; the last that happened:\n{last}")
        self.what, self.seed, self.trace = what, seed, trace


@contextmanager
def listening(hear: Callable[[int, str], None]) -> Generator[None]:
    """Hear what outlast and asyncio log, and errors that nobody could be told of."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.exc_info:
                message += f": {record.exc_info[1]!r}"
            hear(record.levelno, message)

    def hear_unraisable(unraisable: Any) -> None:
        hear(
            logging.ERROR,
            f"{unraisable.err_msg}: {unraisable.object!r}: {unraisable.exc_value!r}",
        )

    listener = Listener(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("outlast", "asyncio")]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    hook, sys.unraisablehook = sys.unraisablehook, hear_unraisable
    for logger in loggers:
        logger.addHandler(listener)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for logger, level, propagate in before:
            logger.removeHandler(listener)
            logger.setLevel(level)
            logger.propagate = propagate
