"""`TransportConformance`: the rules of the Transport port as tests, at least one for each rule.

Subclass it, and run pytest::

    class TestMine(TransportConformance):
        def connect(self) -> Transport:
            return MyTransport("mine://localhost")

Each test is named after its rule. What the adapter says in `Capabilities.rules` decides:

- a guaranteed rule must hold,
- a best-effort rule is run, and the property `RULE held` of the test says whether it held,
- the methods of an unsupported rule must raise `UnsupportedCapability`.

Implement more of `TransportSuite`, and more rules run: `crash`, `restart`, `remove`,
`make_connector`. `TransportSuite` says what these words mean for an embedded broker, which is a
library over files.

Topics have fresh names, so tests may run at the same time on one broker.

The rules RED-4, RED-5, RED-6 and ORD-14 are kept by the runtime; here it runs on the adapter. In
real time, RED-6 and one test of ORD-14 take a minute, and run if `slow` is set. FLO-4
(back-pressure on producers) has no test, since the port has no way to fill a broker. ORD-8 and
ORD-12 test that keys are spread over consumers. How evenly they are spread is up to the broker.
"""

from __future__ import annotations

from infinitic_testing.conformance.transport_bench import parse_rule
from infinitic_testing.conformance.transport_delays import DelayRules
from infinitic_testing.conformance.transport_exclusive import ExclusiveRules
from infinitic_testing.conformance.transport_flow import FlowRules
from infinitic_testing.conformance.transport_keys import KeyRules
from infinitic_testing.conformance.transport_life import LifecycleRules
from infinitic_testing.conformance.transport_peek import PeekRules
from infinitic_testing.conformance.transport_persistence import PersistenceRules
from infinitic_testing.conformance.transport_process import ProcessRules
from infinitic_testing.conformance.transport_retry import RetryRules
from infinitic_testing.conformance.transport_runtime import RuntimeRules
from infinitic_testing.conformance.transport_several import SeveralTopicsRules


class TransportConformance(
    PersistenceRules,
    SeveralTopicsRules,
    ExclusiveRules,
    KeyRules,
    DelayRules,
    RetryRules,
    FlowRules,
    PeekRules,
    LifecycleRules,
    ProcessRules,
    RuntimeRules,
):
    """All rules. `TransportSuite` says what may be overridden."""


def list_transport_rules() -> dict[str, list[str]]:
    """List the rules of the suite, each with the names of its tests."""
    found: dict[str, list[str]] = {}
    for kind in TransportConformance.__mro__:
        for name in vars(kind):
            if name.startswith("test_"):
                found.setdefault(parse_rule(name), []).append(name)
    return found
