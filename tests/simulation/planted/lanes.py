"""Bugs in the lanes, which keep the messages of one key in order."""

from __future__ import annotations

from typing import Any

from infinitic.runtime.lane import Lane
from infinitic.runtime.lanes import Lanes
from tests.simulation.planted.planting import Part, Planter, bug

LANES = "lanes"


@bug(LANES)
def order_lost_after_failure(planter: Planter) -> None:
    """A message that could not be handled goes behind the later messages of its key."""

    @planter.wrap(Lane, "fail")
    def fail(original: Part, self: Lane, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if len(self.waiting) > 1:
            self.waiting.append(self.waiting.pop(0))


@bug(LANES)
def failed_message_dropped(planter: Planter) -> None:
    """A message that could not be handled is forgotten, and not given back to the broker."""

    @planter.wrap(Lane, "fail")
    def fail(original: Part, self: Lane, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.drop(self.waiting[:1])


@bug(LANES)
def lanes_dropped_at_shutdown(planter: Planter) -> None:
    """A worker that stops acknowledges the messages that wait in its lanes."""

    @planter.wrap(Lanes, "drain")
    async def drain(original: Part, self: Any) -> None:
        for lane in list(self._lanes.values()):
            await self._subscription.ack_if_held(lane.waiting)
        await original(self)


class _Forgetful(dict[str, Lane]):
    """Does not find lanes that are being worked on."""

    def get(self, key: str, default: Any = None) -> Any:
        lane = super().get(key, default)
        return None if lane is not None and lane.waiting and not lane.tries else lane

    def __delitem__(self, key: str) -> None:
        self.pop(key, None)


@bug(LANES)
def lane_worked_on_twice(planter: Planter) -> None:
    """Messages of one key are handled at the same time."""

    @planter.wrap(Lanes, "__init__")
    def init(original: Part, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._lanes = _Forgetful()
