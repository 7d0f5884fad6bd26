"""Which entries of a topic a subscription has not acknowledged, as REST of the broker tells."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from infinitic_transports.pulsar.names import decode_subscription

Position = tuple[int, int]
"""An entry: its ledger, and its number there."""

_RANGE = re.compile(r"\((\d+):(-?\d+)\.\.(\d+):(\d+)\]")
"""Entries that were acknowledged out of order: "(12:3..12:5]" are 4 and 5 of ledger 12."""


class Backlog(NamedTuple):
    """The entries behind `after`, up to `last`, but for those of `settled`.

    Attributes:
        topic: the full name of the topic, or of one of its partitions.
        after: up to this entry, all are acknowledged.
        last: the last entry of the topic.
        settled: ranges of entries that are acknowledged, too: behind the first, up to the second.
            They are in order.
    """

    topic: str
    after: Position
    last: Position
    settled: tuple[tuple[Position, Position], ...]

    @property
    def empty(self) -> bool:
        """True if there is no entry behind `after`."""
        return self.last <= self.after

    def holds(self, entry: Position) -> bool:
        """True if an entry is not acknowledged."""
        if not self.after < entry <= self.last:
            return False
        # The ranges are in order, and have nothing in common.
        before = bisect_left(self.settled, (entry,)) - 1
        return before < 0 or entry > self.settled[before][1]


def parse_backlog(topic: str, stats: Mapping[str, Any], subscription: str) -> Backlog | None:
    """Parse the internal statistics of a topic without partitions, or of a partition.

    Args:
        topic: its full name.
        stats: the statistics.
        subscription: the name of the subscription.

    Returns:
        None if there is no such subscription.
    """
    for name, cursor in stats["cursors"].items():
        if decode_subscription(unquote(name)) == subscription:
            ranges = _RANGE.findall(cursor.get("individuallyDeletedMessages", ""))
            settled = tuple(sorted(((int(a), int(b)), (int(c), int(d))) for a, b, c, d in ranges))
            return Backlog(
                topic,
                _parse_position(cursor["markDeletePosition"]),
                _parse_position(stats["lastConfirmedEntry"]),
                settled,
            )
    return None


def _parse_position(text: str) -> Position:
    ledger, _, entry = text.partition(":")
    return int(ledger), int(entry)
