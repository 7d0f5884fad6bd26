"""Bugs in the phases of a step: order of commit, publish and acknowledge, and what is in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec.structs import replace

from infinitic.engines.effects import Answer
from infinitic.runtime.lane import Lane
from infinitic.runtime.state_engine import closing, committing, takeover
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.committing import CommittedSteps, Committing
from infinitic.runtime.state_engine.engine import StateEngine
from infinitic.runtime.state_engine.instances import Instances
from infinitic.runtime.state_engine.publishing import PublishedSteps
from infinitic.runtime.state_engine.takeover import Takeover
from tests.simulation.planted.planting import Part, Planter, bug

ENGINE = "state engine"


def _run_phases(act: Callable[[Any, Any], Awaitable[None]]) -> Part:
    """Make a `_run_steps` whose phases after deciding are those of `act`."""

    async def run_steps(self: Any, lanes: Sequence[Lane]) -> None:
        received = await self._receiving.receive(lanes)
        waiting = deque(received)
        try:
            while waiting:
                await act(self, await self._deciding.decide(waiting))
        except BaseException as error:
            self._instances.abandon([each.instance for each in received], error)
            raise

    return run_steps


@bug(ENGINE)
def publish_before_commit(planter: Planter) -> None:
    """The outbox of a step is published before the step is committed."""

    async def act(engine: Any, decided: Any) -> None:
        await engine._publishing.publish(CommittedSteps(decided))
        committed = await engine._committing.commit(decided)
        await engine._settling.settle(PublishedSteps(committed.steps, committed.repeats))

    planter.put(StateEngine, "_run_steps", _run_phases(act))


@bug(ENGINE)
def ack_before_publish(planter: Planter) -> None:
    """The messages of a step are acknowledged before its outbox is published."""

    async def act(engine: Any, decided: Any) -> None:
        committed = await engine._committing.commit(decided)
        await engine._subscription.ack([each for step in committed.steps for each in step.inputs.deliveries])
        await engine._settling.settle(await engine._publishing.publish(committed))

    planter.put(StateEngine, "_run_steps", _run_phases(act))


@bug(ENGINE)
def ack_before_commit(planter: Planter) -> None:
    """The messages of a step are acknowledged before it is committed."""

    async def act(engine: Any, decided: Any) -> None:
        await engine._subscription.ack([each for step in decided for each in step.inputs.deliveries])
        committed = await engine._committing.commit(decided)
        await engine._settling.settle(await engine._publishing.publish(committed))

    planter.put(StateEngine, "_run_steps", _run_phases(act))


@bug(ENGINE)
def outdated_step_accepted(planter: Planter) -> None:
    """A step that changes nothing is taken as done, although it was decided on an outdated head."""

    async def drop_none(self: Any, decided: Any) -> Any:
        return decided

    planter.put(Committing, "_drop_outdated", drop_none)


@bug(ENGINE)
def cache_kept_after_lost_commit(planter: Planter) -> None:
    """An instance stays in memory as it was, although another worker has changed it."""

    @planter.wrap(Committing, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        committed = await original(self, decided)
        written = {step.lane.key for step in committed.steps}
        for step in decided:
            if step.lane.key not in written and step.instance.version is not None:
                self._instances.keep(step.instance)
        return committed


@bug(ENGINE)
def cache_kept_after_unknown_commit(planter: Planter) -> None:
    """An instance stays in memory with what its code did, although nobody knows whether the commit
    took effect.
    """

    def abandon(self: Instances, instances: Sequence[CachedInstance], error: BaseException) -> None:
        for instance in instances:
            self.keep(instance)

    def forget(self: Instances, workflow_id: str) -> None:
        """Keep it."""

    planter.put(Instances, "abandon", abandon)
    planter.put(Instances, "forget", forget)


@bug(ENGINE)
def live_kept_after_lost_commit(planter: Planter) -> None:
    """The code of an instance stays live after a commit that was lost, and goes on from there."""

    @planter.wrap(Committing, "commit")
    async def commit(original: Part, self: Any, decided: Any) -> Any:
        lives = [(step.instance, step.instance.live, step.instance.pending) for step in decided]
        heads = [(step, step.transition) for step in decided]
        for instance, _, _ in lives:
            instance.live = None
        try:
            committed = await original(self, decided)
        finally:
            for instance, live, pending in lives:
                instance.live, instance.pending = live, pending
        written = {step.lane.key for step in committed.steps}
        for step, transition in heads:
            if step.lane.key not in written and transition is not None and step.instance.version is not None:
                # As if the step had been written.
                stored = (await self._states.load([step.instance.key])).get(step.instance.key)
                if stored is not None and step.change is not None:
                    step.instance.apply(step.change, transition.head, stored.version)
                    self._instances.keep(step.instance)
        return committed


@bug(ENGINE)
def all_acked_with_one_repeat(planter: Planter) -> None:
    """If one message of a step is a repeat, all messages of the step are acknowledged."""

    @planter.wrap(committing, "_find_repeats")
    def find_repeats(original: Part, step: Any, deduplication_ids: Sequence[str]) -> Any:
        return replace(original(step, deduplication_ids), deliveries=step.inputs.deliveries)


@bug(ENGINE)
def takeover_without_publishing(planter: Planter) -> None:
    """A worker that takes an instance over does not publish its last outbox."""

    async def publish_last(self: Takeover, instance: CachedInstance) -> None:
        instance.sent = True

    planter.put(Takeover, "publish_last", publish_last)


@bug(ENGINE)
def outbox_marked_before_publish(planter: Planter) -> None:
    """The commit says already that the outbox is published."""

    @planter.wrap(closing, "_make_change")
    def make_change(original: Part, *args: Any) -> Any:
        return replace(original(*args), published=True)


@bug(ENGINE)
def answers_lost_in_takeover(planter: Planter) -> None:
    """A worker that takes an instance over publishes its tasks, but not its answers to clients."""

    @planter.wrap(takeover, "render")
    def render(original: Part, effects: Any, *args: Any) -> Any:
        return original([each for each in effects if not isinstance(each, Answer)], *args)
