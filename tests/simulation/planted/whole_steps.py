"""Bugs where a step is one commit: what belongs to it is done without it, or not with it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from infinitic.runtime.state_engine import committing_whole
from infinitic.runtime.state_engine.committing import CommittedSteps, Committing
from infinitic.runtime.state_engine.committing_whole import CommittingWhole
from infinitic.runtime.state_engine.publishing import PublishedSteps
from infinitic.shared_commit import WholeStep
from infinitic.storage import Lost, StorageOutcomeUnknown, Written
from infinitic_testing.memory_pair import MemoryCommit
from tests.simulation.planted.planting import Part, Planter, bug

ONE_COMMIT = "one commit"


@bug(ONE_COMMIT)
def lost_step_acknowledged(planter: Planter) -> None:
    """The inputs of a step are acknowledged, although its change was lost."""

    @planter.wrap(MemoryCommit, "commit")
    async def commit(original: Part, self: Any, steps: Any) -> Any:
        results = await original(self, steps)
        for step, result in zip(steps, results, strict=True):
            if isinstance(result, Lost):
                await self._complete(replace(step, outgoing=()))
        return results


@bug(ONE_COMMIT)
def lost_step_sent(planter: Planter) -> None:
    """The messages of a step are sent, although its change was lost."""

    @planter.wrap(MemoryCommit, "commit")
    async def commit(original: Part, self: Any, steps: Any) -> Any:
        results = await original(self, steps)
        for step, result in zip(steps, results, strict=True):
            if isinstance(result, Lost):
                await self._complete(replace(step, deliveries=()))
        return results


@bug(ONE_COMMIT)
def whole_step_acknowledged_before(planter: Planter) -> None:
    """The inputs of a step are acknowledged before it is committed as a whole."""

    @planter.wrap(CommittingWhole, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        await self._subscription.ack([each for step in decided for each in step.inputs.deliveries])
        return await original(self, decided)


@bug(ONE_COMMIT)
def whole_step_sent_before(planter: Planter) -> None:
    """The messages of a step are sent before it is committed as a whole."""

    @planter.wrap(CommittingWhole, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        await self._publishing.publish(CommittedSteps(decided))
        return await original(self, decided)


@bug(ONE_COMMIT)
def messages_after_their_commit(planter: Planter) -> None:
    """A step is written as published, and its messages are sent after that, outside the commit."""

    def make(change: Any, outgoing: Any, consumer: Any, deliveries: Any) -> Any:
        return WholeStep(change, (), consumer, deliveries)

    planter.put(committing_whole, "WholeStep", make)

    @planter.wrap(CommittingWhole, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        left = await original(self, decided)
        await self._publishing.publish(CommittedSteps([step for step in decided if step not in left]))
        return left


@bug(ONE_COMMIT)
def unknown_step_sent(planter: Planter) -> None:
    """The messages of a step are sent, although nobody knows whether it was committed."""

    @planter.wrap(CommittingWhole, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        try:
            return await original(self, decided)
        except StorageOutcomeUnknown:
            await self._publishing.publish(CommittedSteps(decided))
            raise


@bug(ONE_COMMIT)
def unknown_step_settled(planter: Planter) -> None:
    """A step of which nobody knows whether it was committed is taken as done."""

    @planter.wrap(CommittingWhole, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        try:
            return await original(self, decided)
        except StorageOutcomeUnknown:
            done = [step for step in decided if step.change is not None and not step.inputs.dead_letters]
            outcomes = [Written(step.change.version) for step in done]
            committed = await self._committing.sort_out(done, outcomes)
            await self._settling.settle(PublishedSteps(committed.steps, ()))
            return [step for step in decided if step not in done]


@bug(ONE_COMMIT)
def refused_step_settled(planter: Planter) -> None:
    """A step of which the broker refuses a message is acknowledged, and never written."""

    @planter.wrap(CommittingWhole, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        for step in await original(self, decided):
            await self._settling.settle(PublishedSteps([step], ()))
        return []


@bug(ONE_COMMIT)
def refused_message_left_out(planter: Planter) -> None:
    """A step is committed without the messages that the broker refuses."""

    def find_refusal(self: Any, outgoing: Any) -> None:
        """Whatever it is, it is left out."""

    planter.put(MemoryCommit, "_find_refusal", find_refusal)


@bug(ONE_COMMIT)
def whole_cache_kept(planter: Planter) -> None:
    """An instance goes on from a step whose change was lost."""

    @planter.wrap(Committing, "sort_out")
    async def sort_out(original: Part, self: Any, decided: Any, settled: Any) -> Any:
        outcomes = [
            Written(step.change.version) if isinstance(each, Lost) and step.change.expected is not None else each
            for step, each in zip([step for step in decided if step.change is not None], settled, strict=True)
        ]
        return await original(self, decided, outcomes)


@bug(ONE_COMMIT)
def ordinary_step_marked_early(planter: Planter) -> None:
    """A step that goes the ordinary way is marked as published before it is sent."""

    @planter.wrap(CommittingWhole, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        left = await original(self, decided)
        return [replace(step, change=step.change and replace(step.change, published=True)) for step in left]
