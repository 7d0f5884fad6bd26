"""What tests of the simulated network work with: a network, processes, an observer, messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from infinitic.storage import Change, Claim, Outcome, Published, StateKey, TagChange
from infinitic.topics import Ordering, Topic
from infinitic.transport import Delivery, Message, Transport
from infinitic_testing.choices import Choices
from infinitic_testing.faults.catalog import Faults
from infinitic_testing.faults.plan import FaultPlan, Phase
from infinitic_testing.loop import VirtualClock, run
from infinitic_testing.network import Network
from infinitic_testing.observing import Observer

TOPIC = Topic("letters", Ordering.KEYED, "main")
SHARED = Topic("tasks", Ordering.SHARED, "main")
KEY = StateKey("Trip", "1")
CHANGE = Change(KEY, None, 1, b"head", 0.0)


class FakeProcess:
    """Has a name, and can be killed."""

    def __init__(self, name: str = "worker") -> None:
        self.name = name
        self.is_alive = True
        self._callbacks: list[Callable[[], object]] = []

    def on_kill(self, callback: Callable[[], object], /) -> None:
        self._callbacks.append(callback)

    def kill(self) -> None:
        self.is_alive = False
        for callback in self._callbacks:
            callback()


class Log(Observer):
    """Notes what takes effect, with the time of the loop."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        self.lines.append((who, f"published {[each.id for each in messages]}"))

    def delivered(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self.lines.append((who, f"delivered {[each.message.id for each in deliveries]}"))

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self.lines.append((who, f"acknowledged {[each.message.id for each in deliveries]}"))

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        self.lines.append((who, f"committed {outcomes}"))

    def purged(self, who: str, now: float, count: int) -> None:
        self.lines.append((who, f"purged {count}"))

    def tagged(self, who: str, changes: Sequence[TagChange]) -> None:
        self.lines.append((who, f"tagged {[each.id for each in changes]}"))

    def claimed(self, who: str, asked: TagChange, claim: Claim) -> None:
        self.lines.append((who, f"{asked.id} claims: {claim.id}"))


def make_network(seed: int = 1, *, faults: str = "none", **options: Any) -> tuple[Network, FaultPlan]:
    choices = Choices(seed)
    plan = FaultPlan(Faults.parse(faults), choices)
    return Network(choices=choices, plan=plan, clock=VirtualClock(), **options), plan


def letter(name: str) -> Message:
    return Message(name, "k", name.encode())


def play(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(main())


def make_faulty(fault: str, *, seed: int = 1, profile: str = "seeded") -> tuple[Network, FaultPlan, FakeProcess]:
    """Make a network in which one fault happens wherever it can."""
    network, plan = make_network(seed, faults=fault, profile=profile)
    plan.rates[fault] = 1.0
    plan.phase = Phase.FAULTY
    return network, plan, FakeProcess()


def prepare(network: Network, process: FakeProcess) -> Transport:
    """Connect, with topics that exist."""
    network.broker.declare([TOPIC, SHARED])
    return network.connect_transport(process)


def count_backlog(network: Network, topic: Topic = TOPIC) -> int:
    return network.broker.stats(topic).subscriptions["main"].backlog


async def measure(call: Awaitable[object]) -> float:
    """Await a call, and return the seconds that it took."""
    began = asyncio.get_running_loop().time()
    await call
    return asyncio.get_running_loop().time() - began


async def check_healed(network: Network, plan: FaultPlan, fault: str, call: Callable[[], Awaitable[object]]) -> None:
    """After the faults a call is quick and does not fail, and nothing is counted."""
    assert plan.fired[fault] > 0
    plan.phase = Phase.HEALED
    network.heal()
    fired = plan.fired.copy()
    for _ in range(20):
        assert await measure(call()) < 1.0
    assert plan.fired == fired
