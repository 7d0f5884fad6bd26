"""Bugs in channels: which receiver takes which signal (S23)."""

from __future__ import annotations

from typing import Any

from infinitic.definitions.channels import BoundChannel, Receiver
from tests.simulation.planted.planting import Part, Planter, bug

CHANNELS = "channels"


@bug(CHANNELS)
def receivers_served_newest_first(planter: Planter) -> None:
    """A signal goes to the receiver that waits for the shortest time."""

    @planter.wrap(BoundChannel, "_place")
    def place(original: Part, self: Any, signal: Any) -> None:
        self._waiting.reverse()
        original(self, signal)
        self._waiting.reverse()


@bug(CHANNELS)
def lost_receivers_go_on(planter: Planter) -> None:
    """A receiver that lost its race, or whose wait was cancelled, still takes a signal."""
    planter.put_result(BoundChannel, "release", None)


@bug(CHANNELS)
def limits_of_receivers_ignored(planter: Planter) -> None:
    """A receiver goes on after its limit."""
    planter.put_result(Receiver, "_at_limit", False)


@bug(CHANNELS)
def filters_of_receivers_ignored(planter: Planter) -> None:
    """A receiver takes any signal, whatever its type and filter."""
    planter.put_result(Receiver, "takes", True)


@bug(CHANNELS)
def unmatched_signals_dropped(planter: Planter) -> None:
    """A signal that a receiver does not take is lost to those that come later."""

    @planter.wrap(BoundChannel, "take")
    def take(original: Part, self: Any, taking: Any) -> None:
        self._kept[:] = [signal for signal in self._kept if taking.receiver.takes(signal)]
        original(self, taking)


@bug(CHANNELS)
def kept_signals_disordered(planter: Planter) -> None:
    """Signals that nobody awaits yet are kept, the newest first."""

    @planter.wrap(BoundChannel, "offer")
    def offer(original: Part, self: Any, data: bytes) -> None:
        original(self, data)
        self._kept.reverse()
