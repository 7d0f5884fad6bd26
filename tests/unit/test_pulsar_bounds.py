"""The Pulsar adapter counts the bytes of the messages that it received or sends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from infinitic.errors import UsageError
from infinitic.topics import Ordering, Topic
from infinitic.transport import Message
from infinitic_transports.pulsar.buffer import BufferedMessage, ReceiveBuffer
from infinitic_transports.pulsar.client import PulsarClient
from infinitic_transports.pulsar.outgoing import GROUP_BYTES, PublishBatch
from infinitic_transports.pulsar.producer import Producer


class Id:
    """A message id of the library."""

    def serialize(self) -> bytes:
        return b""

    def ledger_id(self) -> int:
        return 0

    def entry_id(self) -> int:
        return 0


def put(buffer: ReceiveBuffer, number: int, key: str | None, size: int, due: float = 0.0) -> None:
    held = BufferedMessage(Id(), str(number).encode(), number, size)
    buffer.add(Message(str(number), key, bytes(size)), held, 1, 0.0, due)


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_the_bytes_on_a_shelf_are_those_of_what_is_there(keyed: bool, seed: int) -> None:
    """Whatever arrives, is taken, is given back and becomes due."""
    chance, buffer, now = random.Random(seed), ReceiveBuffer(keyed=keyed), 0.0
    for number in range(300):
        now += chance.random()
        match chance.randrange(5):
            case 0 | 1:
                due = now + chance.random() * 3 if chance.random() < 0.3 else 0.0
                put(buffer, number, chance.choice(["a", "b", None]), chance.randrange(10), due)
            case 2:
                buffer.take(chance.randrange(4), chance.randrange(1, 20))
            case 3 if buffer.in_hand:
                delivery = chance.choice(list(buffer.in_hand))
                if chance.random() < 0.5:
                    buffer.settle(delivery)
                else:
                    buffer.give_back(delivery, now + chance.choice([0.0, 2.0]))
            case _:
                buffer.release(now)
        ready = {id(delivery.token) for delivery in buffer.ready}
        in_hand = {id(held) for held in buffer.in_hand.values()}
        assert buffer.ready_bytes == sum(len(delivery.message.body) for delivery in buffer.ready)
        again = [delivery for delivery in buffer.ready if cast(BufferedMessage, delivery.token).returned]
        assert buffer.returned_bytes == sum(len(delivery.message.body) for delivery in again)
        assert buffer.returned == len(again)
        rest = [held for held in buffer.known.values() if id(held) not in ready | in_hand]
        assert buffer.waiting_bytes == sum(held.size for held in rest)
        assert buffer.waiting == len(rest)


def test_one_receive_returns_so_many_bytes_or_one_message() -> None:
    buffer = ReceiveBuffer(keyed=False)
    for number, size in enumerate((100, 3, 3, 3)):
        put(buffer, number, None, size)
    assert [len(buffer.take(10, 5)) for _ in range(3)] == [1, 2, 1]


class Library:
    """The part of a client that a producer needs. It accepts messages when the test says so."""

    class Result:
        Ok = "Ok"

    def __init__(self) -> None:
        self.library = self
        self.where = "here"
        self.under_way: list[tuple[int, Callable[..., None]]] = []
        self.sent: list[int] = []

    def send_async(self, message: int, answer: Callable[..., None]) -> None:
        self.sent.append(message)
        self.under_way.append((message, answer))

    def accept(self) -> None:
        for _, answer in self.under_way:
            answer("Ok", None)
        self.under_way.clear()

    def is_connected(self) -> bool:
        return True

    def close_async(self, answer: Callable[..., None]) -> None:
        answer("Ok", None)


def test_what_is_under_way_is_bounded_in_number_and_in_bytes_and_keeps_its_order() -> None:
    async def test() -> None:
        library = Library()
        producer = Producer(cast(Any, library), cast(PulsarClient, library), "topic", 10, 100)
        sizes = [30, 30, 30, 30, 300, 1, *[2] * 20]
        sending = asyncio.create_task(producer.send(list(range(len(sizes))), sizes))
        while not sending.done():
            await asyncio.sleep(0)
            under_way = [sizes[message] for message, _ in library.under_way]
            assert len(under_way) <= 10
            assert sum(under_way) <= 100 or len(under_way) == 1
            library.accept()
        await sending
        assert library.sent == list(range(len(sizes)))
        assert not producer.busy

    asyncio.run(asyncio.wait_for(test(), 10))


class Builder:
    """Builds what it was told, and counts what is alive."""

    built = 0

    def __getattr__(self, name: str) -> Callable[..., object]:
        return lambda *given: given

    def content(self, body: bytes) -> None:
        type(self).built += len(body)

    def property(self, name: str, value: str) -> None:
        (name + value).encode()

    def build(self) -> object:
        return self


def test_many_bytes_are_copied_into_the_library_group_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Builder, "built", 0)
    library: Any = type("Library", (), {"MessageBuilder": Builder})
    outgoing, body = PublishBatch(Topic("t", Ordering.KEYED, "main")), bytes(GROUP_BYTES // 2)
    for number in range(6):
        outgoing.add(Message(str(number), "k", body), None, len(body))
    groups = outgoing.build_groups(library)
    assert Builder.built == 0
    for count, (_, messages, sizes) in enumerate(groups, 1):
        assert len(messages) == len(sizes) == 2
        assert Builder.built == count * GROUP_BYTES
    outgoing.add(Message("\ud800", "k", b""), None, 0)
    with pytest.raises(UsageError, match="not Unicode text"):
        outgoing.build_groups(library)
