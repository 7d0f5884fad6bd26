"""Broken KEYED subscriptions of the in-memory broker."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from msgspec.structs import replace

from infinitic.transport import Delivery, Message
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.parts import Choose, Held, Lane, Receiver, held
from tests.conformance.transport_broken import broken


@broken("ORD-1", "PER-4")
class Reverses(KeyedSubscription):
    """The messages of one publish stand in the reverse order."""

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        super().put(messages[::-1], published_at)


@broken("ORD-2", "ORD-3", "DLY-6", "ORD-13")
class LetsGoEarly(KeyedSubscription):
    """A key may move while some of it is in hand."""

    def _hand_over(self, lane: Lane, receiver: Receiver, limit: int, taken: list[Delivery], now: float) -> int:
        count = super()._hand_over(lane, receiver, limit, taken, now)
        if lane.key is not None and self.lanes.get(lane.key) is lane:
            rest = lane.waiting[lane.head :]
            del lane.waiting[lane.head :]
            receiver.lanes.pop(lane, None)
            fresh = self.lanes[lane.key] = Lane(lane.key, rest, bool(rest))
            if rest:
                self.ready.append(fresh)
        return count

    def _release(self, lane: Lane, receiver: Receiver, now: float) -> None:
        if lane.redo or lane.head < len(lane.waiting):
            super()._release(lane, receiver, now)
        else:
            lane.holder = None


class _ToTheTail(KeyedSubscription):
    def _return(self, lane: Lane, delivery: Held, due: float) -> None:
        lane.waiting.append(delivery.again())
        lane.out -= 1


@broken("ORD-5", "ORD-6")
class NackToTheTail(_ToTheTail):
    """A nacked message goes behind the later ones of its key."""

    def _take_back(self, receiver: Receiver, now: float) -> None:
        return KeyedSubscription._take_back(self, receiver, now)


@broken("ORD-4", "LIF-2")
class LeaveToTheTail(KeyedSubscription):
    """What a consumer leaves behind goes behind the later ones of its key."""

    def _take_back(self, receiver: Receiver, now: float) -> None:
        for delivery, lane in receiver.in_hand.items():
            lane.waiting.append(held(delivery).again())
            lane.out -= 1
            lane.holder = None
            if not lane.queued:
                lane.queued = True
                self.ready.append(lane)
        receiver.in_hand.clear()
        receiver.lanes.clear()


@broken("ORD-6")
class LastGivenBackFirst(KeyedSubscription):
    """Of what was nacked, the latest of its key comes first."""

    def _return(self, lane: Lane, delivery: Held, due: float) -> None:
        turned = Held(delivery.message, delivery.attempt, delivery.published_at, None, -abs(delivery.order) - 1)
        super()._return(lane, turned, due)


@broken("ORD-7")
class StuckKeyStopsAll(KeyedSubscription):
    """While the first message of a key is put off, no key moves."""

    def _hand_out(self, receiver: Receiver, limit: int, now: float) -> list[Delivery]:
        stuck = any(lane.redo and lane.redo[0][1] > now for lane in self.lanes.values())
        return [] if stuck else super()._hand_out(receiver, limit, now)


class Rekeys(KeyedSubscription):
    """Takes some keys for others. What is handed out has its own key."""

    def __init__(self, topic: str, name: str, choose: Choose | None, *, durable: bool) -> None:
        super().__init__(topic, name, choose, durable=durable)
        self.originals: dict[int, tuple[Message, Message]] = {}

    def rekeyed(self, key: str | None) -> str | None:
        raise NotImplementedError

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        wrong = [replace(each, key=self.rekeyed(each.key)) for each in messages]
        self.originals |= {id(wrong): (wrong, right) for wrong, right in zip(wrong, messages, strict=True)}
        super().put(wrong, published_at)

    def _hand_out(self, receiver: Receiver, limit: int, now: float) -> list[Delivery]:
        right: list[Delivery] = []
        for each in map(held, super()._hand_out(receiver, limit, now)):
            _, original = self.originals.get(id(each.message), (each.message, each.message))
            right.append(Held(original, each.attempt, each.published_at, None, each.order))
            receiver.in_hand[right[-1]] = receiver.in_hand.pop(each)
        return right


@broken("ORD-8")
class NoKeyIsAKey(Rekeys):
    """Messages without a key wait for each other."""

    def rekeyed(self, key: str | None) -> str | None:
        return "none" if key is None else key


@broken("ORD-9")
class EmptyKeyIsNone(Rekeys):
    """Messages with the empty key are in no order."""

    def rekeyed(self, key: str | None) -> str | None:
        return key or None


@broken("ORD-10")
class FoldsCase(Rekeys):
    """Keys that differ only in case are one."""

    def rekeyed(self, key: str | None) -> str | None:
        return key and key.casefold()


@broken("ORD-10")
class NormalisesKeys(Rekeys):
    """Keys that look the same are one."""

    def rekeyed(self, key: str | None) -> str | None:
        return key and unicodedata.normalize("NFC", key)


@broken("ORD-10")
class CutsKeys(Rekeys):
    """Keys with the same first 1000 characters are one."""

    def rekeyed(self, key: str | None) -> str | None:
        return key and key[:1000]


@broken("ORD-10")
class StopsAtNul(Rekeys):
    """Keys that are the same before a NUL are one."""

    def rekeyed(self, key: str | None) -> str | None:
        return key and key.partition("\0")[0]


@broken("ORD-11")
class TwoInterleavings(KeyedSubscription):
    """The second subscription has the messages of different producers in another order."""

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        super().put(messages, published_at)
        for lane in self.lanes.values():
            if self.name != "main" and lane.head == 0:
                lane.waiting.sort(key=lambda each: each.message.body)


@broken("ORD-12")
class BatchIsOneKey(KeyedSubscription):
    """All that is published together goes where its first message goes."""

    def put(self, messages: Sequence[Message], published_at: float) -> None:
        super().put([replace(each, key=messages[0].key) for each in messages], published_at)
