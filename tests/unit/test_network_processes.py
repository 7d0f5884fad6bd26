"""The network and simulated processes: what arrives of a killed one, and what a paused one gets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infinitic.storage import Change, Outcome, Published
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_testing.loop import Process
from infinitic_testing.observing import Observer
from tests.unit.network_bench import CHANGE, KEY, TOPIC, Log, count_backlog, letter, make_network, play


class Killer(Observer):
    """Kills a process at the instant at which something that it did takes effect."""

    process: Process | None = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        self.kill()

    def delivered(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self.kill()

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self.kill()

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        self.kill()


def test_a_commit_of_a_process_that_is_killed_on_the_way_arrives_and_its_reply_does_not() -> None:
    async def main() -> None:
        network, _ = make_network()
        process = Process("worker")
        storage = network.connect_storage(process)
        steps = list[str]()

        async def work() -> None:
            try:
                steps.append("begins")
                await storage.states.commit([CHANGE])
                steps.append("goes on")
            finally:
                steps.append("cleans up")

        process.start(work())
        await asyncio.sleep(0)
        process.kill()
        assert not network.database.load([KEY])
        await asyncio.sleep(1.0)
        assert network.database.load([KEY])
        assert steps == ["begins"]

    play(main)


def test_a_process_that_has_killed_itself_sends_nothing_more() -> None:
    async def main() -> None:
        network, _ = make_network()
        network.broker.declare([TOPIC])
        process = Process("worker")
        storage, transport = network.connect_storage(process), network.connect_transport(process)

        async def work() -> None:
            process.kill()
            await asyncio.gather(storage.states.commit([CHANGE]), transport.publish(TOPIC, [letter("a")]))

        process.start(work())
        await asyncio.sleep(1.0)
        assert not network.database.load([KEY])
        assert count_backlog(network) == 0

    play(main)


@pytest.mark.parametrize("verb", ["publish", "receive", "ack", "commit"])
@pytest.mark.parametrize("profile", ["seeded", "pulsar"])
def test_an_observer_can_kill_a_process_at_the_instant_of_an_effect(verb: str, profile: str) -> None:
    killer, log = Killer(), Log()

    async def main() -> None:
        network, _ = make_network(observers=[log, killer], profile=profile)
        network.broker.declare([TOPIC])
        network.broker.publish(TOPIC, [letter("waits")], network.clock.now())
        process = Process("worker")
        transport, storage = network.connect_transport(process), network.connect_storage(process)
        steps = list[str]()

        async def work() -> None:
            consumer = await transport.subscribe(TOPIC, "main", 10)
            deliveries = await consumer.receive(10) if verb == "ack" else []
            killer.process = process
            steps.append("calls")
            match verb:
                case "publish":
                    await transport.publish(TOPIC, [letter("sent")])
                case "receive":
                    await consumer.receive(10)
                case "ack":
                    await consumer.ack(deliveries)
                    # With Pulsar, the acknowledgement is on its way now.
                    await asyncio.sleep(1.0)
                case _:
                    await storage.states.commit([CHANGE])
            steps.append("goes on")

        process.start(work())
        await asyncio.sleep(10.0)
        assert steps == ["calls"]
        assert not process.is_alive
        left = network.broker.stats(TOPIC).subscriptions["main"]
        assert (left.unacked, left.consumers) == (0, 0)
        assert left.backlog == {"publish": 2, "receive": 1, "ack": 0, "commit": 1}[verb]
        assert bool(network.database.load([KEY])) is (verb == "commit")

    play(main)


def test_acknowledgements_that_are_collected_are_lost_with_their_process() -> None:
    async def main() -> None:
        network, _ = make_network(profile="pulsar")
        network.broker.declare([TOPIC])
        network.broker.publish(TOPIC, [letter("a")], network.clock.now())
        process = Process("worker")
        transport = network.connect_transport(process)

        async def work() -> None:
            consumer = await transport.subscribe(TOPIC, "main", 10)
            await consumer.ack(await consumer.receive(10))
            process.kill()

        process.start(work())
        await asyncio.sleep(10.0)
        assert count_backlog(network) == 1

    play(main)


def test_a_paused_process_is_answered_when_it_goes_on() -> None:
    async def main() -> None:
        network, _ = make_network()
        network.broker.declare([TOPIC])
        process = Process("worker")
        storage, transport = network.connect_storage(process), network.connect_transport(process)
        steps = list[str]()
        joined = asyncio.Event()

        async def work() -> None:
            consumer = await transport.subscribe(TOPIC, "main", 10)
            joined.set()
            await storage.states.commit([CHANGE])
            steps.append("written")
            steps.extend(each.message.id for each in await consumer.receive(10))

        process.start(work())
        await joined.wait()
        process.pause()
        network.broker.publish(TOPIC, [letter("a")], network.clock.now())
        await asyncio.sleep(100.0)
        assert steps == []
        process.resume()
        await asyncio.sleep(1.0)
        assert steps == ["written", "a"]

    play(main)


def test_others_get_what_a_process_has_that_is_paused_for_too_long() -> None:
    async def main() -> None:
        network, _ = make_network()
        network.broker.declare([TOPIC])
        network.broker.publish(TOPIC, [letter("a")], network.clock.now())
        paused, other = Process("paused"), Process("other")
        received = dict[str, list[int]]()

        async def work(process: Process) -> None:
            consumer = await network.connect_transport(process).subscribe(TOPIC, "main", 10)
            while True:
                received.setdefault(process.name, []).extend(each.attempt for each in await consumer.receive(10))

        paused.start(work(paused))
        await asyncio.sleep(1.0)
        paused.pause()
        network.lose_session(paused)
        other.start(work(other))
        await asyncio.sleep(100.0)
        assert received == {"paused": [1], "other": [2]}

    play(main)
