"""How often, and after how long, something that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import Any

from outlast.errors import UsageError

_MAX_ATTEMPTS = 1_000_000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Try again after an error, at most `max_attempts` times in all.

    The count is durable: a crash does not spend it. A run between two attempts, or one that only
    waits for the next try of a step, holds no lease and no memory, and any worker goes on with it.

    Attributes:
        max_attempts: how often it is tried in all, the first time included.
        initial_delay: before the second attempt.
        max_delay: no wait is longer.
        backoff: the factor from one delay to the next (1.0: all are the same), or a function of the
            retry's number, from 1, that gives the delay.
        jitter: whether each delay is made up to 25 % longer or shorter, by chance.
        retry_on: classes of errors that are tried again; None: every `Exception`.

    Raises:
        UsageError: a number is out of range.
    """

    max_attempts: int = 3
    _: KW_ONLY
    initial_delay: timedelta = timedelta(seconds=1)
    max_delay: timedelta = timedelta(seconds=60)
    backoff: float | Callable[[int], timedelta] = 2.0
    jitter: bool = True
    retry_on: tuple[type[Exception], ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= _MAX_ATTEMPTS:
            raise UsageError(f"max_attempts is 1 to {_MAX_ATTEMPTS}, not {self.max_attempts!r}")
        for name in ("initial_delay", "max_delay"):
            delay = getattr(self, name)
            if not isinstance(delay, timedelta) or delay < timedelta(0):
                raise UsageError(f"{name} is a timedelta of 0 or more, not {delay!r}")
        if not callable(self.backoff) and not self.backoff >= 1.0:
            raise UsageError(
                f"backoff is a factor of 1.0 or more, or a function, not {self.backoff!r}"
            )

    def allows(self, failures: int, error: BaseException) -> bool:
        """Say whether it is tried again after so many failures, the last of which was `error`."""
        if failures >= self.max_attempts or not isinstance(error, Exception):
            return False
        return self.retry_on is None or isinstance(error, self.retry_on)

    def delay(self, retry: int, draw_factor: Callable[[float], float]) -> float:
        """Return the seconds to wait before the retry of this number, from 1."""
        if callable(self.backoff):
            seconds = self.backoff(retry).total_seconds()
        else:
            # A large exponent would overflow long after the limit is reached.
            factor = self.backoff ** min(retry - 1, 64)
            seconds = self.initial_delay.total_seconds() * factor
        seconds = min(max(seconds, 0.0), self.max_delay.total_seconds())
        return seconds * draw_factor(0.25) if self.jitter else seconds

    def to_json(self) -> Mapping[str, Any]:
        """Return what is stored with a run.

        Raises:
            UsageError: it holds a function or classes, which cannot be stored.
        """
        if callable(self.backoff) or self.retry_on is not None:
            raise UsageError(
                "a retry policy that is stored with a run has numbers only: "
                "give `backoff` as a function and `retry_on` to @task(retry=...)"
            )
        return {
            "max_attempts": self.max_attempts,
            "initial_delay": self.initial_delay.total_seconds(),
            "max_delay": self.max_delay.total_seconds(),
            "backoff": self.backoff,
            "jitter": self.jitter,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RetryPolicy:
        """Return the policy that was stored."""
        return cls(
            data["max_attempts"],
            initial_delay=timedelta(seconds=data["initial_delay"]),
            max_delay=timedelta(seconds=data["max_delay"]),
            backoff=data["backoff"],
            jitter=data["jitter"],
        )


def check_policy(what: str, policy: object) -> None:
    """Refuse what is no policy, nor None.

    Raises:
        UsageError: it is something else.
    """
    if policy is not None and not isinstance(policy, RetryPolicy):
        raise UsageError(f"{what} is a RetryPolicy, such as RetryPolicy(3), not {policy!r}")
