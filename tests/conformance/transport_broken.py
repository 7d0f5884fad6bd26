"""How a mutant is told: what is broken, and which rules of the transport suite must fail for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from infinitic_testing.conformance.transport import TransportConformance
from infinitic_transports.memory import Broker, InMemoryTransport
from infinitic_transports.memory.keyed import KeyedSubscription
from infinitic_transports.memory.shared import SharedSubscription
from tests.conformance.transport_memory import OnMemory

Kind = TypeVar("Kind", bound=type)


@dataclass(frozen=True)
class Mutant:
    """`suite` runs the rules on what is broken. Each of `kills` must fail; others may."""

    name: str
    fault: str
    kills: tuple[str, ...]
    suite: type[TransportConformance]


MUTANTS: list[Mutant] = []


def broken(*kills: str, **more: type[Any]) -> Callable[[Kind], Kind]:
    """Mark a subscription, broker, connection or suite as broken; `more` are other parts of it."""

    def register(kind: Kind) -> Kind:
        seams = dict[str, type[Any]](more)
        if issubclass(kind, KeyedSubscription):
            seams["broker_kind"] = type(kind.__name__, (Broker,), {"keyed": kind})
        elif issubclass(kind, SharedSubscription):
            seams["broker_kind"] = type(kind.__name__, (Broker,), {"shared": kind})
        elif issubclass(kind, Broker):
            seams["broker_kind"] = kind
        elif issubclass(kind, InMemoryTransport):
            seams["transport_kind"] = kind
        base = kind if issubclass(kind, TransportConformance) else OnMemory
        suite = type(f"On{kind.__name__}", (base,), {**seams, "scale": 0.02})
        fault = (kind.__doc__ or "").strip().removesuffix(".")
        MUTANTS.append(Mutant(kind.__name__, fault, kills, cast("type[TransportConformance]", suite)))
        return kind

    return register
