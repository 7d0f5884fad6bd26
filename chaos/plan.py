"""What is done to whom, and when: drawn from a seed, before the campaign begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from infinitic_testing.choices import Choices

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "kill-worker": "kill -9 of a worker",
        "stop-worker": "SIGTERM to a worker; it is killed if it drains for long",
        "pause-worker": "SIGSTOP of a worker, for longer than broker and workers wait for it",
        "kill-client": "kill -9 of a client; another one takes over",
        "stop-client": "SIGTERM to a client; another one takes over",
        "rolling-restart": "all workers are restarted, one after the other",
        "kill-database": "kill -9 of the database",
        "stop-database": "the database is restarted in good order",
        "freeze-database": "the database stands still for some seconds",
        "fill-database-disk": "the disk of the database is full for some seconds",
        "kill-broker": "kill -9 of the broker",
        "stop-broker": "the broker is restarted in good order",
        "freeze-broker": "the broker stands still for some seconds",
        "fill-broker-disk": "the disk of the broker is full for some seconds",
    }
)
"""All kinds of harm."""

FILLS = frozenset({"fill-database-disk", "fill-broker-disk"})
SERVERLESS = frozenset({"kill-database", "stop-database"})
"""Kinds that need a database with a server."""


class Act(msgspec.Struct, frozen=True):
    """One thing that is done.

    Attributes:
        at: seconds after the begin of the campaign.
        kind: out of `KINDS`.
        target: a number; which worker or client, counted round.
        seconds: how long it lasts, or how long the target stays away.
    """

    at: float
    kind: str
    target: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.kind:<20} target {self.target}, {self.seconds:.1f} s"


def draw_plan(seed: int, kinds: Sequence[str], seconds: float, gap: float) -> list[Act]:
    """Draw what is done. The same arguments give the same plan.

    The kinds come in turns of random order, so each comes about equally often.

    Args:
        seed: any integer.
        kinds: out of `KINDS`.
        seconds: how long the campaign does harm.
        gap: seconds between two acts, on average.
    """
    choices = Choices(seed)
    plan, turn = list[Act](), list[str]()
    at = gap * choices.between("gap", 0.5, 1.5)
    while at < seconds:
        if not turn:
            turn = list(kinds)
        kind = turn.pop(choices.pick("kind", len(turn)))
        lasts = choices.between("lasts", *_DURATIONS.get(kind, (0.0, 3.0)))
        plan.append(Act(at, kind, choices.pick("target", 1000), lasts))
        at += gap * choices.between("gap", 0.5, 1.5)
    return plan


_DURATIONS: Mapping[str, tuple[float, float]] = {
    "pause-worker": (15.0, 30.0),
    "freeze-database": (2.0, 12.0),
    "freeze-broker": (2.0, 20.0),
    "fill-database-disk": (3.0, 10.0),
    "fill-broker-disk": (5.0, 15.0),
}
"""Seconds that a kind lasts, from and to. The broker here misses a worker after 10 seconds."""
