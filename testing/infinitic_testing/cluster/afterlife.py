"""What a cluster does when everything has ended long ago, and old messages come once more (S13)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from infinitic.definitions.workflows import DEFAULT_RETENTION
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.runtime.state_engine.maintenance import INTERVAL_SECONDS
from infinitic.storage import Query
from infinitic_testing.cluster.actions.messages import publish_again
from infinitic_testing.cluster.draining import Draining

if TYPE_CHECKING:
    from infinitic_testing.cluster.cluster import Cluster

LONGEST_WINDOW = 3600.0
"""Seconds. With a longer deduplication window, remnants are kept for too long to wait for."""

MOST_AGAIN = 50
"""How many old messages come once more."""


class Afterlife:
    """Waits until closed instances are purged, and sends old messages again.

    Nothing may come to life: the rule "one-instance" is checked at each commit.

    Args:
        cluster: one at rest.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def run(self) -> None:
        """Do so, if all instances are closed, and will be forgotten soon."""
        cluster = self._cluster
        window = cluster.database.deduplication_window
        if window > LONGEST_WINDOW or cluster.database.find(Query(status=WorkflowStatus.RUNNING, limit=1)).found:
            return
        # One purge removes the instances, and a later one their remnants.
        await asyncio.sleep(DEFAULT_RETENTION + window + 3 * INTERVAL_SECONDS)
        for _ in range(min(MOST_AGAIN, len(cluster.nemesis.recorded))):
            if publish_again(cluster.nemesis):
                # It is a fault after the faults: too old to be handled, it becomes a dead letter.
                cluster.plan.fired["late-messages"] += 1
        await Draining(cluster).run()
