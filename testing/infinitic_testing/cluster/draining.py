"""Lets a healed cluster come to rest: until no message is on its way, and nothing runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from infinitic.topics import DEAD_LETTERS
from infinitic_testing.loop import VirtualLoop
from infinitic_transports.memory import Broker

if TYPE_CHECKING:
    from infinitic_testing.cluster.cluster import Cluster

LONGEST_DRAINING = 100_000.0
"""Seconds of virtual time that draining takes at most. No wake is due later than in a day.

A workflow that waits for a later time goes on waiting.
"""

LONGEST_STEP = 600.0
"""Seconds that pass at once, at most, while something is in hand."""

QUIET_SECONDS = 100.0
"""If nothing takes effect for so long, nothing does any more: nobody waits longer to try again."""


_FIRST_STEP = 0.05


class Draining:
    """Waits until a cluster is at rest.

    Args:
        cluster: one that is healed.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = cast(VirtualLoop, asyncio.get_running_loop())

    async def run(self) -> None:
        """Let time pass until the cluster is at rest, or `LONGEST_DRAINING` is reached."""
        ends = self._loop.time() + LONGEST_DRAINING
        step = _FIRST_STEP
        while self._loop.time() < ends:
            await self._loop.wait_idle()
            if is_busy(self._cluster.broker):
                await asyncio.sleep(step)
                step = min(2 * step, LONGEST_STEP)
                continue
            step = _FIRST_STEP
            due = self._cluster.broker.find_next_due()
            left = None if due is None else due - self._cluster.clock.now()
            if left is not None and self._loop.time() + left <= ends:
                await asyncio.sleep(max(0.001, left))
                continue
            before = self._cluster.watch.count
            await asyncio.sleep(QUIET_SECONDS)
            await self._loop.wait_idle()
            if self._cluster.watch.count == before:
                return


def is_busy(broker: Broker) -> bool:
    """True if a message is in hand, or waits for somebody who will take it: no dead letter.

    Args:
        broker: all messages.
    """
    return any(
        stats.unacked or (stats.backlog and stats.consumers)
        for topic, subscriptions in broker.overview().items()
        if not topic.startswith(DEAD_LETTERS)
        for stats in subscriptions.values()
    )
