"""S38, S39: the broker refuses one kind of operation for a while. No worker ends because of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from infinitic.errors import TransportError
from infinitic_testing.fences import Fence
from infinitic_testing.loop import run
from infinitic_testing.network.fates import STORAGE_VERBS
from tests.simulation.cases import CASES, Case
from tests.simulation.world import Hosting, World, host_all, host_engines, host_executors

T = TypeVar("T")

SECONDS = 3.0

AT_START = ("declare", "subscribe")
"""What a worker that starts may not do ends it: somebody has to correct that."""


class Refusing(Fence):
    """Refuses one kind of operation for three seconds, from its first call on.

    The error is a plain `TransportError`.
    """

    def __init__(self, kind: str, *, late: bool) -> None:
        super().__init__()
        self.refused = 0
        self._kind = kind
        self._late = late
        self._ends: float | None = None

    async def perform(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self.operations.append(operation)
        if operation != self._kind:
            return await call()
        now = asyncio.get_running_loop().time()
        if self._ends is None:
            self._ends = now + SECONDS
        if now >= self._ends:
            return await call()
        self.refused += 1
        if self._late:
            await call()
        raise TransportError(f"{operation} failed: NotAllowedError")


async def play(case: Case, fence: Fence, hostings: tuple[Hosting, ...]) -> object:
    world = World()
    async with world.open():
        hosts = world.host(case, *hostings, fence=fence)
        outcome = await case.scenario(world.client)
        await world.settle()
        assert not world.backlog(), f"something is left: {world.backlog()}"
        assert all(not host.done() for host in hosts), "a worker has ended"
    return outcome


@pytest.mark.parametrize("hostings", [(host_all,), (host_engines, host_executors)], ids=["fused", "split"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_worker_ends_by_what_the_broker_refuses(case: Case, hostings: tuple[Hosting, ...]) -> None:
    uncut = Fence()
    expected = run(play(case, uncut, hostings))
    kinds = {each for each in uncut.operations if each not in STORAGE_VERBS and not each.startswith(AT_START)}
    assert {each.split()[0] for each in kinds} == {"publish", "receive", "ack", "stats"}
    for number, kind in enumerate(sorted(kinds)):
        refusing = Refusing(kind, late=bool((number + len(case.name)) % 2))  # done or not: both occur for each kind
        try:
            assert run(play(case, refusing, hostings)) == expected
        except BaseException as error:
            error.add_note(f"refused: {kind}, {refusing.refused} times")
            raise
        assert refusing.refused
