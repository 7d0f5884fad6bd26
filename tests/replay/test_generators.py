"""Asynchronous generators of workflow code are kept by its instance.

All others are kept by the loop around.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator

import pytest
from msgspec import Raw

from infinitic import Workflow
from infinitic.definitions.workflow_spec import spec_of
from infinitic.messages.events import MethodStarted
from infinitic.replay.instance import Instance

ENDED: list[str] = []


async def words(name: str) -> AsyncGenerator[str]:
    try:
        yield "first"
        yield "second"
    finally:
        ENDED.append(name)


class Reader(Workflow):
    async def leaves_one(self) -> None:
        async for _ in words("of the workflow"):
            break
        await asyncio.sleep(60)

    async def reads_many(self) -> int:
        count = 0
        for _ in range(200):
            count += len([word async for word in words("read")])
        return count


@pytest.fixture(autouse=True)
def nothing_ended() -> None:
    ENDED.clear()


def begin(method: str) -> Instance:
    instance = Instance(spec_of(Reader), "w", {})
    instance.activate(0.0, [MethodStarted("m", method, Raw(b"[]"))])
    return instance


async def leave_one() -> None:
    async for _ in words("of the service"):
        break


async def settle() -> None:
    """Give the loop the turns in which it closes a generator that was left."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_loop_around_closes_those_of_others() -> None:
    async def main() -> None:
        instance = begin("leaves_one")
        await leave_one()
        await settle()
        assert ENDED == ["of the service"]
        instance.close()
        assert ENDED == ["of the service", "of the workflow"]

    asyncio.run(main())


def test_a_loop_that_is_run_again_is_looked_at_again() -> None:
    async def main() -> None:
        instance = begin("leaves_one")
        await settle()
        assert ENDED == []
        instance.close()
        assert ENDED == ["of the workflow"]
        ENDED.clear()

    before = sys.get_asyncgen_hooks()
    with asyncio.Runner() as runner:
        runner.run(main())
        runner.run(main())
        assert sys.get_asyncgen_hooks() == before
    begin("leaves_one").close()
    assert sys.get_asyncgen_hooks() == before, "where no loop is around, nothing stays"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_of_an_instance_that_nobody_closed_runs_no_further() -> None:
    async def main() -> None:
        begin("leaves_one")
        gc.collect()
        before = asyncio.all_tasks()
        await settle()
        assert (ENDED, asyncio.all_tasks()) == ([], before), "the loop around has not heard of it"

    asyncio.run(main())


def test_those_that_have_ended_are_not_kept() -> None:
    async def main() -> None:
        instance = begin("reads_many")
        assert len(ENDED) == 200
        assert instance.at_end
        del instance
        for _ in range(300):  # at the addresses of those that are gone
            await leave_one()
        await settle()
        assert ENDED[200:] == ["of the service"] * 300

    asyncio.run(main())
