"""The KEYED kind of subscription: all unsettled messages of a key with one consumer, in order.

Keys that nobody holds are handed out before more of the keys that a consumer holds, so a busy key cannot
starve the others. A key whose messages are settled, and that has more, goes to the end of the line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import heappop, heappush

from infinitic.transport import Delivery, Message
from infinitic_transports.memory.parts import Choose, Held, Lane, Receiver, State, held, pick
from infinitic_transports.memory.subscription import Subscription

_COMPACT_ABOVE = 64  # handed-out messages at the front of a list before they are cut off


class KeyedSubscription(Subscription):
    """One lane per key that has unacknowledged messages.

    A lane without a holder is in `ready` unless its first message is a nacked one that is not due. A lane
    with a holder has something in hand; it is in `holder.lanes` if it has more that may be handed out.
    """

    __slots__ = ("lanes", "order", "ready")

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        super().__init__(topic, name, choose, durable=durable)
        self.lanes: dict[str, Lane] = {}
        self.ready: deque[Lane] = deque()
        self.order = 0

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        lanes = self.lanes
        for order, message in enumerate(messages, self.order):
            delivery = Held(message, 1, published_at, None, order)
            key = message.key
            lane = lanes.get(key) if key is not None else None
            if lane is None:
                lane = Lane(key, [delivery], True)
                if key is not None:
                    lanes[key] = lane
                self.ready.append(lane)
            else:
                lane.waiting.append(delivery)
                if lane.holder is not None and lane.redo is None:
                    self._offer_to(lane.holder, lane)
        self.order += len(messages)
        if self.waiters:
            self.rouse()

    def ack(self, receiver: Receiver, deliveries: Iterable[Delivery], now: float) -> None:
        in_hand = receiver.in_hand
        before = len(in_hand)
        for delivery in deliveries:
            lane = in_hand.pop(delivery, None)
            if lane is None:
                continue
            lane.out -= 1
            if not lane.out:
                self._release(lane, receiver, now)
        self.total -= before - len(in_hand)
        if receiver.state is State.FULL and len(in_hand) < receiver.prefetch:
            self.call(receiver)
        if self.waiters:
            self.rouse()

    def nack(self, receiver: Receiver, delivery: Delivery, due: float, now: float) -> Callable[[float], None] | None:
        lane = receiver.in_hand.pop(delivery, None)
        if lane is None:
            return None
        self._return(lane, held(delivery), due)
        if lane.out:
            self._offer(lane, now)
        else:
            self._release(lane, receiver, now)
        if receiver.state is State.FULL:
            self.call(receiver)
        self.rouse()
        return partial(self._restore, lane) if due > now else None

    def _restore(self, lane: Lane, now: float) -> None:
        """A nacked message of this lane is due."""
        self._offer(lane, now)
        self.rouse()

    def _available(self) -> int:
        return len(self.ready)

    def _hand_out(self, receiver: Receiver, limit: int, now: float) -> list[Delivery]:
        taken: list[Delivery] = []
        ready = self.ready
        for _ in range(min(limit, self.share(len(ready)))):
            lane = ready.popleft() if self.choose is None else pick(ready, self.choose, "key")
            lane.queued = False
            lane.holder = receiver
            limit -= self._hand_over(lane, receiver, limit, taken, now)
            if not limit:
                return taken
        own = receiver.lanes
        while limit and own:
            lane = next(iter(own)) if self.choose is None else pick(deque(own), self.choose, "held key")
            del own[lane]
            limit -= self._hand_over(lane, receiver, limit, taken, now)
        return taken

    def _hand_over(self, lane: Lane, receiver: Receiver, limit: int, taken: list[Delivery], now: float) -> int:
        """Hand out up to `limit` messages of a lane; return how many, at least one."""
        in_hand = receiver.in_hand
        waiting = lane.waiting
        count = len(waiting)
        if count <= limit and not lane.head and lane.redo is None:  # the usual case: all there is
            taken += waiting
            for delivery in waiting:
                in_hand[delivery] = lane
            waiting.clear()
            lane.out += count
            return count
        chunk = self._cut(lane, limit, now)
        taken += chunk
        for delivery in chunk:
            in_hand[delivery] = lane
        lane.out += len(chunk)
        if lane.redo or lane.head < len(waiting):
            self._offer(lane, now)
        return len(chunk)

    def _cut(self, lane: Lane, limit: int, now: float) -> list[Held]:
        """Remove up to `limit` messages from the front of a lane: those that came back, then those waiting."""
        chunk: list[Held] = []
        redo = lane.redo
        while redo and redo[0][1] <= now and len(chunk) < limit:
            chunk.append(heappop(redo)[2])
        if redo:
            return chunk
        lane.redo = None
        waiting = lane.waiting
        start = lane.head
        end = lane.head = min(start + limit - len(chunk), len(waiting))
        chunk += waiting[start:end]
        if end == len(waiting) or (end > _COMPACT_ABOVE and 2 * end > len(waiting)):
            del waiting[:end]
            lane.head = 0
        return chunk

    def _release(self, lane: Lane, receiver: Receiver, now: float) -> None:
        """Nothing of this lane is in hand any more: it may move, and is forgotten if it is empty."""
        lane.holder = None
        if lane.redo is None and lane.head == len(lane.waiting):
            if lane.key is not None:
                del self.lanes[lane.key]
        else:
            receiver.lanes.pop(lane, None)
            self._offer(lane, now)

    def _offer(self, lane: Lane, now: float) -> None:
        """Put a lane that has messages where the next one can be taken; nowhere while that one is not due."""
        blocked = lane.redo is not None and lane.redo[0][1] > now
        holder = lane.holder
        if holder is None:
            if not blocked and not lane.queued:
                lane.queued = True
                self.ready.append(lane)
        elif blocked:
            holder.lanes.pop(lane, None)
        else:
            self._offer_to(holder, lane)

    def _offer_to(self, holder: Receiver, lane: Lane) -> None:
        """More of a lane can be taken by the one that holds it."""
        holder.lanes[lane] = None
        if holder.state is State.WAITING:
            self.waiters.remove(holder)
            self.call(holder)

    def _return(self, lane: Lane, delivery: Held, due: float) -> None:
        """Out of the hand, back into the lane, before all that is later in its order."""
        if lane.redo is None:
            lane.redo = []
        heappush(lane.redo, (delivery.order, due, delivery.again()))
        lane.out -= 1

    def _take_back(self, receiver: Receiver, now: float) -> None:
        lanes = dict.fromkeys(receiver.in_hand.values())
        for delivery, lane in receiver.in_hand.items():
            self._return(lane, held(delivery), now)
        receiver.in_hand.clear()
        receiver.lanes.clear()
        for lane in reversed(lanes):
            lane.holder = None
            if lane.redo and lane.redo[0][1] <= now:  # else an earlier nack is not due yet
                lane.queued = True
                self.ready.appendleft(lane)
