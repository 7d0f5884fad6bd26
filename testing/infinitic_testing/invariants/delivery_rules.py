"""Rules about messages that the broker hands out, checked at that instant.

Each rule returns what is wrong, or None.
"""

from __future__ import annotations

from collections.abc import Sequence

_ROUNDING = 1e-6
"""Seconds. Times are floats."""


def check_delay(due: float, now: float, lateness: Sequence[float]) -> str | None:
    """A delayed message comes when it is due, or as much earlier as this broker may deliver it.

    Args:
        due: when it was to be delivered, in seconds since the Unix epoch.
        now: when it is.
        lateness: see `Broker.lateness`.
    """
    earliness = -min(0.0, *lateness)
    early = due - now
    if early <= earliness + _ROUNDING:
        return None
    return f"a message that was due at {due!r} came {early:.3f} s too early, and the broker may be {earliness} s early"
