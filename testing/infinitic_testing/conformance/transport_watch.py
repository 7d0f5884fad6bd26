"""Watches consumers under load: each key has one holder, and its messages are in order."""

from __future__ import annotations

import asyncio

from infinitic.transport import Delivery
from infinitic_testing.conformance.transport_bench import Peer, TransportBench, read_names


class KeyWatch:
    """What each consumer has in hand, and the order of first deliveries of each key."""

    def __init__(self) -> None:
        self.hands: dict[str | None, tuple[Peer, set[Delivery]]] = {}
        self.firsts: dict[str, None] = {}
        self.settled: set[str] = set()

    async def work(self, peer: Peer) -> None:
        """Receive, check and acknowledge, until cancelled."""
        while True:
            got = await peer.consumer.receive(3)
            for delivery in got:
                holder, hand = self.hands.setdefault(delivery.message.key, (peer, set()))
                assert holder is peer, f"key {delivery.message.key} has two holders"
                hand.add(delivery)
                self.firsts[delivery.message.body.decode()] = None
            await asyncio.sleep(0)
            for delivery in got:
                await asyncio.sleep(0)
                _, hand = self.hands[delivery.message.key]
                hand.remove(delivery)
                if not hand:
                    del self.hands[delivery.message.key]
                self.settled.update(read_names([delivery]))
                await peer.ack([delivery])

    def forget(self, peer: Peer) -> None:
        """Forget a consumer that is about to leave."""
        self.hands = {key: held for key, held in self.hands.items() if held[0] is not peer}

    async def finish(self, bench: TransportBench, workers: list[asyncio.Task[None]], sent: list[str]) -> None:
        """Wait until all messages are settled, end the workers, and check the order of each key."""

        async def all_settled() -> bool:
            for worker in workers:
                if worker.done():
                    worker.result()
            return self.settled >= set(sent)

        try:
            await bench.wait_until(all_settled)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        for key in {name[0] for name in sent}:
            assert [name for name in self.firsts if name[0] == key] == [name for name in sent if name[0] == key]


async def check_next_holder(bench: TransportBench, name: str, holder: Peer, other: Peer, last: Delivery) -> None:
    """Check who gets the next message of a key.

    It is the holder of the key, or either consumer once the last message in hand is settled.

    Args:
        bench: the connections.
        name: the message.
        holder: the consumer that has the key.
        other: another consumer.
        last: what the holder has in hand.
    """
    got = read_names(await holder.take_rest())
    await holder.ack([last])
    mine, others = await asyncio.gather(holder.take_rest(), other.take_rest())
    assert got + read_names(mine) + read_names(others) == [name]
