"""The conformance suite of the Transport port: one test or more for each rule of its contract.

Subclass it, and run pytest::

    class TestMine(TransportConformance):
        def connect(self) -> Transport:
            return MyTransport("mine://localhost")

Each test is named after its rule. What the adapter declares in `Capabilities.rules` decides: a guaranteed rule
must hold; a best-effort one runs, and the property `RULE held` is recorded; an unsupported one must raise
`UnsupportedCapability`. Topics have fresh names, so tests may run side by side on one broker.

RED-4, RED-5, RED-6 and ORD-14 are kept by the runtime, here over the adapter. FLO-4 (back-pressure on
producers) has no test: the port gives no way to fill a broker. ORD-8 and ORD-12 see that keys are spread; how
evenly is the business of the broker.
"""

from __future__ import annotations

from infinitic_testing.conformance.transport_bench import rule_of
from infinitic_testing.conformance.transport_delays import Delays
from infinitic_testing.conformance.transport_exclusive import Exclusive
from infinitic_testing.conformance.transport_flow import Flow
from infinitic_testing.conformance.transport_keys import Keys
from infinitic_testing.conformance.transport_life import Life
from infinitic_testing.conformance.transport_persistence import Persistence
from infinitic_testing.conformance.transport_retry import Retry
from infinitic_testing.conformance.transport_runtime import Runtime


class TransportConformance(Persistence, Exclusive, Keys, Delays, Retry, Flow, Life, Runtime):
    """What every adapter is held to. `Seams` says what may be overridden."""


def transport_rules() -> dict[str, list[str]]:
    """The names of the tests of each rule."""
    found: dict[str, list[str]] = {}
    for kind in TransportConformance.__mro__:
        for name in vars(kind):
            if name.startswith("test_"):
                found.setdefault(rule_of(name), []).append(name)
    return found
