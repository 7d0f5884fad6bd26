"""The Apache Pulsar transport. Nothing here imports a driver before a transport is made."""

from infinitic_transports.pulsar.settings import PulsarSettings as PulsarSettings
from infinitic_transports.pulsar.transport import PulsarTransport as PulsarTransport

__all__ = ["PulsarSettings", "PulsarTransport"]
