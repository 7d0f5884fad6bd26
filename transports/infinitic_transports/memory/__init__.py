"""The in-memory broker. It keeps every promise of `infinitic.transport`, but nothing on disk.

Workers and clients use `InMemoryTransport`. Its connections share a `Broker`: a synchronous core
without loop, clock or randomness, which simulations and tests can drive directly.
"""

from infinitic_transports.memory.broker import DEFAULT_MAX_PAYLOAD as DEFAULT_MAX_PAYLOAD, Broker as Broker
from infinitic_transports.memory.choice import Choose as Choose
from infinitic_transports.memory.profiles import (
    PulsarLikeBroker as PulsarLikeBroker,
    SeededBroker as SeededBroker,
    make_broker as make_broker,
)
from infinitic_transports.memory.subscription import BrokerConsumer as BrokerConsumer
from infinitic_transports.memory.transport import InMemoryTransport as InMemoryTransport

__all__ = [
    "DEFAULT_MAX_PAYLOAD",
    "Broker",
    "BrokerConsumer",
    "Choose",
    "InMemoryTransport",
    "PulsarLikeBroker",
    "make_broker",
]
