"""Retry policies: whether a failed task is tried again, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from infinitic.errors import UsageError
from infinitic.failures import matches

RetryPolicy = Callable[[int, Exception], float | None]
"""Seconds until the next attempt, given the index of the attempt that failed and its exception.

The index of the first attempt is 0. None means that there are no more attempts; zero or less means
that the next one begins at once. An error inside the policy fails the task.
"""


@dataclass(frozen=True)
class ExponentialBackoff:
    """A retry policy whose delays grow: ``min(maximum, minimum * coefficient ** n)``.

    A random factor spreads the delays, so that tasks which failed together are not tried again
    together. The default is 1 s, 2 s, 4 s and so on, up to 1000 s, for 11 retries::

        @task(retry=ExponentialBackoff(minimum_seconds=0.5, maximum_retries=3))
        async def charge(self, euros: int) -> None: ...

    Args:
        minimum_seconds: seconds to wait after the first failure.
        maximum_seconds: seconds to wait at most, before the delay is spread; by default 1000 times
            the minimum.
        backoff_coefficient: the factor by which the delay grows with each failure.
        random_factor: the delay is multiplied by a random number between 1 - f and 1 + f.
        maximum_retries: how many times a task is tried again.
        ignored_exceptions: failures that are not retried: classes, short names or qualified names.
            Subclasses are ignored as well.

    Raises:
        UsageError: a value makes no sense, such as a negative delay.
    """

    minimum_seconds: float = 1.0
    maximum_seconds: float | None = None
    backoff_coefficient: float = 2.0
    random_factor: float = 0.5
    maximum_retries: int = 11
    ignored_exceptions: tuple[type[BaseException] | str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ignored_exceptions", tuple(self.ignored_exceptions))
        if self.minimum_seconds < 0 or (self.maximum_seconds or 0) < 0:
            raise UsageError("ExponentialBackoff: delays cannot be negative")
        if self.backoff_coefficient < 1:
            raise UsageError(f"ExponentialBackoff: backoff_coefficient {self.backoff_coefficient} is below 1")
        if not 0 <= self.random_factor <= 1:
            raise UsageError(f"ExponentialBackoff: random_factor {self.random_factor} is not between 0 and 1")
        if self.maximum_retries < 0:
            raise UsageError(f"ExponentialBackoff: maximum_retries {self.maximum_retries} is negative")

    def __call__(self, retry_index: int, error: Exception) -> float | None:
        rand = random.random()  # noqa: TID251 (for calls by hand: executors give `seconds` a number of their own)
        return self.seconds(retry_index, error, rand)

    def seconds(self, retry_index: int, error: Exception, rand: float) -> float | None:
        """Compute the seconds until the next attempt; None if there is none.

        Args:
            retry_index: the index of the attempt that failed; that of the first one is 0.
            error: what that attempt raised.
            rand: the random number that spreads the delay, from 0 to 1.
        """
        if retry_index >= self.maximum_retries or matches(error, self.ignored_exceptions):
            return None
        maximum = 1000 * self.minimum_seconds if self.maximum_seconds is None else self.maximum_seconds
        exponent = min(retry_index, 1000)
        try:
            delay = min(maximum, self.minimum_seconds * self.backoff_coefficient**exponent)
        except OverflowError:
            delay = maximum
        return delay * (1 + self.random_factor * (2 * rand - 1))
