"""How often, and after how long, a policy tries again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from outlast import RetryPolicy, UsageError
from outlast.testing import SkippingLoop

loop_factory = SkippingLoop


@pytest.mark.parametrize(
    "settings",
    [
        {"max_attempts": 0},
        {"max_attempts": 1_000_001},
        {"initial_delay": timedelta(seconds=-1)},
        {"max_delay": 3},
        {"backoff": 0.5},
    ],
    ids=str,
)
def test_a_retry_policy_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RetryPolicy(**settings)


def test_delays_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(9, initial_delay=timedelta(seconds=1), max_delay=timedelta(seconds=5))

    assert [policy.delay(retry, lambda share: 1.0) for retry in (1, 2, 3, 4, 999_999)] == [
        1,
        2,
        4,
        5,
        5,
    ]
    assert policy.delay(1, lambda share: 1 + share) == 1.25


def test_a_function_gives_the_delays() -> None:
    policy = RetryPolicy(9, backoff=lambda retry: timedelta(seconds=retry), jitter=False)

    assert [policy.delay(retry, lambda share: 2.0) for retry in (1, 2, 3, 100)] == [1, 2, 3, 60]
