"""What is refused before anything is sent, and a deduplication id that one change has twice."""

from __future__ import annotations

import asyncio
from math import inf, nan
from typing import Any

import pytest
from msgspec.structs import replace

from infinitic.storage import Change, Duplicate, Entry, Published, StateKey, WorkflowStatus, Written
from infinitic_storages.redis import RedisSettings, RedisStorage
from tests.integration.redis.conftest import HOST, PATIENCE

KEY = StateKey("Trip", "1")
CHANGE = Change(KEY, None, 1, b"head", 0.0)


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("field", ["at", "expires_at", "entry.started_at", "entry.closed_at", "entry.next_wake"])
def test_a_number_that_is_not_finite_is_not_sent(field: str, value: float) -> None:
    refused(field, value, "has to be a finite number")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
@pytest.mark.parametrize("field", ["version", "expected", "entry.version"])
def test_a_version_of_more_than_64_bits_is_not_sent(field: str, value: int) -> None:
    refused(field, value, "has to be a whole number of 64 bits")


def test_a_published_version_of_more_than_64_bits_is_not_sent() -> None:
    with pytest.raises(ValueError, match=r"Published\.version has to be a whole number of 64 bits"):
        asyncio.run(commit(RedisSettings(host=HOST, port=1), Published(KEY, 2**63)))


def refused(field: str, value: Any, text: str) -> None:
    """A server that is not there would be told, were anything sent."""
    name = field.removeprefix("entry.")
    if name == field:
        change = replace(CHANGE, **{name: value})
    else:
        change = replace(CHANGE, entry=replace(Entry(WorkflowStatus.RUNNING, 1.0), **{name: value}))
    with pytest.raises(ValueError, match=f"{name} {text}"):
        asyncio.run(commit(RedisSettings(host=HOST, port=1), change))


async def commit(settings: RedisSettings, *changes: Change | Published) -> None:
    async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
        await storage.states.commit(changes)


def test_the_bounds_are_taken_and_a_mark_is_known_once(settings: RedisSettings) -> None:
    async def play() -> None:
        highest = 2**63 - 1
        async with asyncio.timeout(PATIENCE), RedisStorage(settings) as storage:
            first = replace(CHANGE, version=-(2**63), deduplication_ids=("a", "b", "a"))
            assert await storage.states.commit([first]) == [Written(-(2**63))]
            second = replace(CHANGE, expected=-(2**63), version=highest, deduplication_ids=("c", "b", "a", "b"))
            assert await storage.states.commit([second]) == [Duplicate(("b", "a"))]
            assert await storage.states.commit([replace(second, deduplication_ids=("c",))]) == [Written(highest)]

    asyncio.run(play())
