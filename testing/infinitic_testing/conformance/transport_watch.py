"""Watches consumers under load: one holder for each key, and its order."""

from __future__ import annotations

import asyncio

from infinitic.transport import Delivery
from infinitic_testing.conformance.transport_bench import Bench, Peer, names


class Watch:
    """What each consumer has in hand, and what was handed out first in each key."""

    def __init__(self) -> None:
        self.hands: dict[str | None, tuple[Peer, set[Delivery]]] = {}
        self.firsts: dict[str, None] = {}
        self.settled: set[str] = set()

    async def work(self, peer: Peer) -> None:
        """Receive, look, acknowledge, until cancelled."""
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
                self.settled.update(names([delivery]))
                await peer.ack([delivery])

    def left(self, peer: Peer) -> None:
        """This consumer is about to leave."""
        self.hands = {key: held for key, held in self.hands.items() if held[0] is not peer}

    async def ended(self, bench: Bench, workers: list[asyncio.Task[None]], sent: list[str]) -> None:
        """Wait until all that was sent is settled, stop the workers, and check the order of each key."""

        async def all_settled() -> bool:
            for worker in workers:
                if worker.done():
                    worker.result()
            return self.settled >= set(sent)

        try:
            await bench.eventually(all_settled)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        for key in {name[0] for name in sent}:
            assert [name for name in self.firsts if name[0] == key] == [name for name in sent if name[0] == key]


async def comes_to_one(bench: Bench, name: str, holder: Peer, other: Peer, last: Delivery) -> None:
    """A message comes to the holder of its key, or to either once the last that is in hand of the key is settled."""
    got = names(await holder.rest())
    await holder.ack([last])
    mine, others = await asyncio.gather(holder.rest(), other.rest())
    assert got + names(mine) + names(others) == [name]
