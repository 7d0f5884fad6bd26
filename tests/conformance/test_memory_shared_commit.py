"""The commit of the in-memory pair keeps its rules, also over a network; broken ones do not."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import cached_property
from typing import Any, TypeVar

import pytest

from infinitic.clock import Clock
from infinitic.storage import Storage
from infinitic.transport import Transport
from infinitic_testing.choices import Choices
from infinitic_testing.conformance import SharedCommitConformance
from infinitic_testing.faults.catalog import Faults
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.faults.profiles import ONE_DATABASE
from infinitic_testing.loop import VirtualClock, run
from infinitic_testing.network import Network
from infinitic_testing.network.transport import NetworkTransport
from tests.conformance.shared_commit_broken import (
    MUTANTS,
    SHARED_COMMIT_RULES,
    Mutant,
    find_failing,
    list_shared_commit_tests,
)
from tests.conformance.shared_commit_memory import OnPair
from tests.unit.network_bench import FakeProcess

T = TypeVar("T")


class TestMemoryPair(OnPair):
    """Both at one instant."""


class TestNetworkPair(SharedCommitConformance):
    """Each call takes time on its way."""

    patience, silence, delay, virtual = 30.0, 1.0, 2.0, True

    @cached_property
    def network(self) -> Network:
        choices = Choices(7)
        plan = FaultPlan(Faults.none(), choices)
        return Network(choices=choices, plan=plan, clock=VirtualClock(), profile=ONE_DATABASE)

    def connect_both(self) -> tuple[Transport, Storage]:
        process = FakeProcess()
        return self.network.connect_transport(process), self.network.connect_storage(process)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return run(main)

    def clock(self) -> Clock:
        return VirtualClock()

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, NetworkTransport)
        transport.crash()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_killed(mutant: Mutant) -> None:
    assert find_failing(mutant, mutant.kills) == set(mutant.kills)


def test_each_rule_kills_a_mutant() -> None:
    assert {rule for mutant in MUTANTS for rule in mutant.kills} == set(SHARED_COMMIT_RULES)
    assert all(list_shared_commit_tests(rule) for rule in SHARED_COMMIT_RULES)
