"""Public conformance suites: what every adapter of a port is held to."""

from infinitic_testing.conformance.transport import TransportConformance as TransportConformance
