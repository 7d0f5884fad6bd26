"""The open tasks of an instance that have failed before, in the order of their positions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from operator import attrgetter

from msgspec.structs import replace

from infinitic.engines.state import Retry

Retries = tuple[Retry, ...]

_get_position = attrgetter("position")


def find(retries: Retries, position: int) -> Retry | None:
    """Find the newest attempt of a task that has failed before; None: no attempt has failed."""
    if not retries:
        return None
    index = bisect_left(retries, position, key=_get_position)
    if index < len(retries) and retries[index].position == position:
        return retries[index]
    return None


def put(retries: Retries, retry: Retry) -> Retries:
    """Note the newest attempt of a task, in place of the one before."""
    index = bisect_left(retries, retry.position, key=_get_position)
    after = index
    if index < len(retries) and retries[index].position == retry.position:
        after += 1
    return (*retries[:index], retry, *retries[after:])


def remove(retries: Retries, position: int) -> Retries:
    """Forget the attempts of a task. Returns the same tuple if none has failed."""
    if not retries:
        return retries
    index = bisect_left(retries, position, key=_get_position)
    if index < len(retries) and retries[index].position == position:
        return retries[:index] + retries[index + 1 :]
    return retries


def remove_all(retries: Retries, positions: Collection[int]) -> Retries:
    """Forget the attempts of many tasks, in one pass."""
    if not retries or not positions:
        return retries
    return tuple(retry for retry in retries if retry.position not in positions)


def take_due(retries: Retries, now: float) -> tuple[Retries, list[Retry]]:
    """Find the attempts that are to be sent now.

    Args:
        retries: the newest attempts.
        now: seconds since the Unix epoch.

    Returns:
        The newest attempts, of which these are noted as sent; and these.
    """
    due: list[Retry] = []
    left = list(retries)
    for index, retry in enumerate(retries):
        if retry.due is not None and retry.due <= now:
            left[index] = replace(retry, due=None)
            due.append(left[index])
    return (tuple(left), due) if due else (retries, due)


def find_next_due(retries: Retries) -> float | None:
    """Find when the next attempt is due, in seconds since the Unix epoch; None: none waits."""
    return min((retry.due for retry in retries if retry.due is not None), default=None)
