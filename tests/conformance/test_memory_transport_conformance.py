"""The in-memory transport keeps the contract in each profile, also behind a network."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import ClassVar

from infinitic.transport import Transport
from infinitic_testing.choices import Choices
from infinitic_testing.faults.catalog import Faults
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.network import Network
from infinitic_testing.network.transport import NetworkTransport
from infinitic_transports.memory import Broker, make_broker
from tests.conformance.transport_memory import OnMemory
from tests.unit.network_bench import FakeProcess

SEED = 7


class TestInMemory(OnMemory):
    pass


class TestSeeded(OnMemory):
    """What the contract leaves open is drawn. Delayed messages are not late."""

    profile: ClassVar[str] = "seeded"

    @cached_property
    def broker(self) -> Broker:
        choices = Choices(SEED)
        return make_broker(self.profile, choose=lambda what, count: 0 if what == "delay" else choices.pick(what, count))


class TestPulsarLike(TestSeeded):
    """As `TestSeeded`. The order of a key survives here, as in the adapter for Pulsar."""

    profile = "pulsar"

    @cached_property
    def broker(self) -> Broker:
        choices = Choices(SEED)

        def choose(what: str, count: int) -> int:
            return 0 if what in ("delay", "order") else choices.pick(what, count)

        return make_broker(self.profile, choose=choose)


class TestNetwork(OnMemory):
    """Each call takes time on its way, and there are no faults."""

    profile: ClassVar[str] = "fifo"
    # Two ways of 50 ms at most for each of several calls.
    promptness = 1.0
    # The brokers are the same as above, and get as many as they can keep there.
    scale = 0.2

    @cached_property
    def network(self) -> Network:
        choices = Choices(SEED)
        plan = FaultPlan(Faults.none(), choices)
        return Network(choices=choices, plan=plan, clock=self.clock(), profile=self.profile)

    @cached_property
    def broker(self) -> Broker:
        return self.network.broker

    def connect(self) -> Transport:
        return self.network.connect_transport(FakeProcess())

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, NetworkTransport)
        transport.crash()

    async def restart(self) -> None:
        self.network.restart_broker(1.0)
        # Its consumers join again within a second.
        await asyncio.sleep(3.0)


class TestSeededNetwork(TestNetwork):
    profile = "seeded"


class TestPulsarLikeNetwork(TestNetwork):
    profile = "pulsar"
