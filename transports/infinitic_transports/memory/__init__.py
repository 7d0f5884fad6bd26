"""The in-memory broker: one process, nothing on disk, every promise of `infinitic.transport` kept.

`InMemoryTransport` is what workers and clients are given. `Broker` is what its connections share: a
synchronous core without loop, clock or randomness, to be driven directly by simulations and tests.
"""

from infinitic_transports.memory.broker import DEFAULT_MAX_PAYLOAD as DEFAULT_MAX_PAYLOAD, Broker as Broker
from infinitic_transports.memory.parts import Choose as Choose, Receiver as Receiver
from infinitic_transports.memory.transport import InMemoryTransport as InMemoryTransport

__all__ = ["DEFAULT_MAX_PAYLOAD", "Broker", "Choose", "InMemoryTransport", "Receiver"]
