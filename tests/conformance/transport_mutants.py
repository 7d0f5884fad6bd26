"""All mutants of the transport suite."""

from tests.conformance import (
    transport_broken_batches as _batches,
    transport_broken_brokers as _brokers,
    transport_broken_delays as _delays,
    transport_broken_keys as _keys,
    transport_broken_links as _links,
    transport_broken_peeks as _peeks,
    transport_broken_queues as _queues,
    transport_broken_runtime as _runtime,
    transport_broken_shelf as _shelf,
)
from tests.conformance.transport_broken import MUTANTS as MUTANTS, Mutant as Mutant

__all__ = ["MUTANTS", "Mutant"]
_ = (_batches, _brokers, _delays, _keys, _links, _peeks, _queues, _runtime, _shelf)
