"""Shared commits that are broken, and which rules must fail for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from infinitic.errors import TransportError
from infinitic.shared_commit import SharedCommit, Unsent, WholeStep
from infinitic.storage import Lost, Outcome, Storage, Written
from infinitic.transport import Outgoing, TransportClosed, UnknownTopic
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.conformance.shared_commit import SHARED_COMMIT_RULES, SharedCommitConformance
from infinitic_testing.intercepting import InterceptedStorage
from infinitic_testing.memory_pair import MemoryCommit, PairedTransport
from infinitic_transports.memory.transport import InMemoryConsumer
from tests.conformance.shared_commit_memory import OnPair

Kind = TypeVar("Kind", bound=type)


@dataclass(frozen=True)
class Mutant:
    """`suite` runs the rules on what is broken. Each of `kills` must fail; others may."""

    name: str
    fault: str
    kills: tuple[str, ...]
    suite: type[SharedCommitConformance]


MUTANTS: list[Mutant] = []


def broken(*kills: str) -> Callable[[Kind], Kind]:
    """Mark a commit, or the connection that hands it out, as broken."""

    def register(kind: Kind) -> Kind:
        if issubclass(kind, MemoryCommit):
            make: Any = kind

            def share_commit(self: PairedTransport, storage: Storage) -> SharedCommit | None:
                shared: SharedCommit = make(self, storage)
                return shared if isinstance(storage, InMemoryStorage) else None

            transport = type(f"{kind.__name__}Pair", (PairedTransport,), {"share_commit": share_commit})
        else:
            transport = kind
        suite = type(f"On{kind.__name__}", (OnPair,), {"transport_kind": transport})
        fault = (kind.__doc__ or "").strip().removesuffix(".")
        MUTANTS.append(Mutant(kind.__name__, fault, kills, suite))
        return kind

    return register


def find_failing(mutant: Mutant, rules: Iterable[str]) -> set[str]:
    """Those of the rules that have a test which fails."""
    return {rule for rule in rules if any(_does_fail(mutant, test) for test in list_shared_commit_tests(rule))}


def list_shared_commit_tests(rule: str) -> list[str]:
    """The tests of a rule."""
    prefix = f"test_{rule.lower().replace('-', '_')}_"
    return [each for each in vars(SharedCommitConformance) if each.startswith(prefix)]


def _does_fail(mutant: Mutant, test: str) -> bool:
    try:
        getattr(mutant.suite(), test)()
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 (however it fails)
        return True
    return False


@broken("ONE-1", "ONE-8")
class LeavesInputs(MemoryCommit):
    """Nothing is acknowledged."""

    async def _complete(self, step: WholeStep) -> None:
        await super()._complete(replace(step, deliveries=()))


@broken("ONE-1")
class ForgetsDelays(MemoryCommit):
    """A delayed message is sent at once."""

    async def _complete(self, step: WholeStep) -> None:
        outgoing = [replace(each, message=replace(each.message, deliver_at=None)) for each in step.outgoing]
        await super()._complete(replace(step, outgoing=outgoing))


@broken("ONE-2")
class SettlesLost(MemoryCommit):
    """The inputs of a step are acknowledged, although its change was lost."""

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        results = await super().commit(steps)
        for step, result in zip(steps, results, strict=True):
            if isinstance(result, Lost):
                await self._complete(replace(step, outgoing=()))
        return results


@broken("ONE-2", "ONE-5", "ONE-6")
class SendsLost(MemoryCommit):
    """The messages of a step are sent, although its change was lost."""

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        results = await super().commit(steps)
        for step, result in zip(steps, results, strict=True):
            if isinstance(result, Lost):
                await self._send(step.outgoing)
        return results


@broken("ONE-2")
class OneFate(MemoryCommit):
    """The messages and inputs of all steps share one fate."""

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        results = await super().commit([replace(step, outgoing=(), deliveries=()) for step in steps])
        if all(isinstance(each, Written) for each in results):
            for step in steps:
                await self._complete(step)
        return results


@broken("ONE-3")
class RefusesAll(MemoryCommit):
    """One message that is refused keeps all steps from happening."""

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        refusals = [self._find_refusal(step.outgoing) for step in steps]
        found = next((each for each in refusals if each is not None), None)
        return await super().commit(steps) if found is None else [Unsent(found) for _ in steps]


@broken("ONE-3")
class LeavesOutWhatIsRefused(MemoryCommit):
    """A message that is refused is left out, and the rest happens."""

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        fitting = [
            replace(step, outgoing=[each for each in step.outgoing if self._find_refusal([each]) is None])
            for step in steps
        ]
        return await super().commit(fitting)


@broken("ONE-4")
class NeedsListeners(MemoryCommit):
    """A topic that nobody listens to is unknown."""

    def _find_refusal(self, outgoing: Sequence[Outgoing]) -> TransportError | None:
        for each in outgoing:
            if self._transport.broker.find_record(each.topic) is None:
                return UnknownTopic(f"{each.topic.name} is not there")
        return super()._find_refusal(outgoing)


@broken("ONE-5")
class NeedsItsInputs(MemoryCommit):
    """A step whose inputs are not in hand any more does not happen."""

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        for step in steps:
            assert isinstance(step.consumer, InMemoryConsumer)
            if not all(each in step.consumer.in_hand for each in step.deliveries):
                return [Lost(None) for _ in steps]
        return await super().commit(steps)


@broken("ONE-5")
class ClosedConsumersFail(MemoryCommit):
    """An acknowledgement by a consumer that has left is an error."""

    async def _complete(self, step: WholeStep) -> None:
        await step.consumer.ack(step.deliveries)
        await super()._complete(step)


@broken("ONE-7")
class SettlesLater(MemoryCommit):
    """The acknowledgements come a moment after the commit."""

    async def _complete(self, step: WholeStep) -> None:
        await super()._complete(replace(step, deliveries=()))
        asyncio.get_running_loop().call_later(0.1, self._settle_now, step)

    def _settle_now(self, step: WholeStep) -> None:
        assert isinstance(step.consumer, InMemoryConsumer)
        try:
            step.consumer.ack(step.deliveries).send(None)
        except (StopIteration, TransportClosed):
            return


@broken("ONE-9")
class OneByOne(MemoryCommit):
    """Steps are committed one after the other."""

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        return [each for step in steps for each in await super(OneByOne, self).commit([step])]


@broken("ONE-10")
class WritesWhenClosed(MemoryCommit):
    """A change is written, although the connection to the broker is closed."""

    async def commit(self, steps: Sequence[WholeStep]) -> list[Outcome | Unsent]:
        try:
            return await super().commit(steps)
        except TransportClosed:
            await self._storage.states.commit([step.change for step in steps])
            raise


@broken("ONE-11")
class LooksThroughAll(PairedTransport):
    """It goes past whatever stands before the database."""

    __slots__ = ()

    def share_commit(self, storage: Storage) -> SharedCommit | None:
        while isinstance(storage, InterceptedStorage):
            storage = storage.inner
        return super().share_commit(storage)


@broken("ONE-12")
class TwoCommits(MemoryCommit):
    """The change is written first, and its messages are sent then."""

    async def _complete(self, step: WholeStep) -> None:
        await asyncio.sleep(0)
        await super()._complete(step)


__all__ = ["MUTANTS", "SHARED_COMMIT_RULES", "Mutant", "find_failing", "list_shared_commit_tests"]
