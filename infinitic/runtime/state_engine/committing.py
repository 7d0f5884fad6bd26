"""Phase 3 of a step: **committed**.

Write head, history and outbox, all or nothing, by compare-and-set.

What a crash here does: before the write, nothing has happened. After it, nobody has published the
outbox. So the messages come again, whoever takes the instance over publishes the outbox from the
storage, and recognises the messages as repeats. If the outcome is unknown, the instance is loaded
again, which shows it. What people should know of it is told then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from infinitic.clock import Clock
from infinitic.engines.workflow.render import make_response
from infinitic.errors import InfiniticError, StorageError
from infinitic.messages import client, engine as inputs
from infinitic.messages.delegated import CompleteTask, FailTask
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.runtime.lane import Lane
from infinitic.runtime.state_engine.closing import DecidedStep
from infinitic.runtime.state_engine.group_commit import GroupCommit, Settled
from infinitic.runtime.state_engine.instances import Instances
from infinitic.runtime.state_engine.lane_attempts import end_local_tasks
from infinitic.runtime.state_engine.news import News, Telling, find_news
from infinitic.storage import Change, Duplicate, Lost, Refused, StateStorage, Written
from infinitic.transport import Delivery, Outgoing


class Repeats(msgspec.Struct, frozen=True, eq=False):
    """Inputs that were taken before, or whose instance is long gone. Nothing is written for them.

    Attributes:
        lane: where they wait.
        deliveries: the inputs.
        outgoing: the answers to the clients that sent them, once more.
    """

    lane: Lane
    deliveries: Sequence[Delivery]
    outgoing: Sequence[Outgoing]


class CommittedSteps(msgspec.Struct, frozen=True, eq=False):
    """Steps that are durable. Made by `Committing`: nothing else may be published.

    Attributes:
        steps: their changes are written. Steps that change nothing are here too: they were decided
            on the head that is stored now.
        repeats: inputs that need no step.
    """

    steps: Sequence[DecidedStep]
    repeats: Sequence[Repeats] = ()


class Committing:
    """Writes steps of one workflow.

    Args:
        name: the workflow.
        states: tells whether a head is still the stored one.
        group_commit: writes changes.
        instances: those in memory.
        clock: the time of day.
        telling: tells what is new in these steps.
    """

    def __init__(
        self,
        name: str,
        states: StateStorage,
        group_commit: GroupCommit,
        instances: Instances,
        clock: Clock,
        telling: Telling,
    ) -> None:
        self._name = name
        self._states = states
        self._group_commit = group_commit
        self._instances = instances
        self._clock = clock
        self._telling = telling

    async def commit(self, decided: Sequence[DecidedStep]) -> CommittedSteps:
        """Write what was decided.

        A step that is not written fails its lane, or leaves it as it is: then its messages are
        received again at once, with the instance as it is stored.

        Raises:
            StorageError: the storage as a whole fails. The outcome of each of these steps is
                unknown.
        """
        changes: list[Change] = []
        unchanged = False
        for step in decided:
            if step.change is not None:
                changes.append(step.change)
            else:
                unchanged = True
        if unchanged:
            decided = await self._drop_outdated(decided)
        try:  # whatever fails here, some of it may be written
            return await self.sort_out(decided, await self._group_commit.commit(changes) if changes else ())
        except Exception:
            self.keep_news(decided)
            raise

    async def sort_out(self, decided: Sequence[DecidedStep], settled: Iterable[Settled]) -> CommittedSteps:
        """Take over what has become of steps.

        Args:
            decided: the steps. Those without a change are passed on.
            settled: one outcome for each step with a change, in the same order.
        """
        outcomes = iter(settled)
        committed: list[DecidedStep] = []
        repeats: list[Repeats] = []
        for step in decided:
            change = step.change
            if change is None:
                committed.append(step)
                end_local_tasks(step.lane, len(step.inputs.deliveries), committed=False)
                continue
            outcome = next(outcomes)
            if isinstance(outcome, Written):  # the usual case
                self._apply(step, change, outcome.version)
                if step.lane.under_way is not None:
                    end_local_tasks(step.lane, len(step.inputs.deliveries), committed=True)
                committed.append(step)
                continue
            instance, lane = step.instance, step.lane
            match outcome:
                case Lost(current=current):
                    if current == change.version:  # it was written, and then again
                        self.keep_news([step])
                    # Another worker has changed it: what is held in memory is of no use.
                    instance.discard_live()
                    if change.expected is None and not await self._states.load([instance.key]):
                        repeats.append(_find_refused(step))
                case Duplicate():
                    self._instances.release(instance)
                    repeats.append(_find_repeats(step, outcome.deduplication_ids))
                case Refused():
                    self._instances.release(instance)
                    lane.fail(InfiniticError(outcome.reason), self._clock.now(), counted=True)
                case StorageError():
                    self.keep_news([step])
                    self._instances.release(instance)
                    lane.fail(outcome, self._clock.now(), counted=False)
        for each in repeats:
            end_local_tasks(each.lane, len(each.deliveries), committed=False)
        return CommittedSteps(committed, repeats)

    async def _drop_outdated(self, decided: Sequence[DecidedStep]) -> Sequence[DecidedStep]:
        """Leave out steps that change nothing, but were decided on an outdated head.

        A step with a change is guarded by the compare-and-set. A step without one is not: its
        messages might matter to the newer head, and would be lost once they are acknowledged.
        """
        doubtful = [step for step in decided if step.change is None and not step.is_current]
        if not doubtful:
            return decided
        stored = await self._states.load([step.instance.key for step in doubtful])
        outdated: set[str] = set()
        for step in doubtful:
            instance = step.instance
            found = stored.get(instance.key)
            if (None if found is None else found.version) != instance.version:
                instance.discard_live()
                outdated.add(instance.key.id)
        return [step for step in decided if step.lane.key not in outdated]

    def _apply(self, step: DecidedStep, change: Change, version: int) -> None:
        """Take over in memory what is durable now, and tell people what they should know."""
        transition, instance = step.transition, step.instance
        assert transition is not None
        before, head = instance.head, transition.head
        news: News | None = None
        # Most steps end no method, and then there is nothing to look for.
        if before is None or head.methods is not before.methods or head.stalled is not None:
            news = find_news(self._name, before, transition, step.draft.fault)
        instance.apply(change, head, version)
        if news is not None:
            self._telling.tell(step.lane.key, news)

    def keep_news(self, steps: Sequence[DecidedStep]) -> None:
        """Keep what is new in steps of which nobody knows whether they were written."""
        for step in steps:
            if step.change is not None and step.transition is not None:
                news = find_news(self._name, step.instance.head, step.transition, step.draft.fault)
                if news is not None:
                    self._telling.keep(step.change, news)


def _find_repeats(step: DecidedStep, deduplication_ids: Sequence[str]) -> Repeats:
    """The inputs of a step whose ids were stored before: they have been taken already."""
    deliveries: list[Delivery] = []
    outgoing: list[Outgoing] = []
    head = step.draft.head
    stalled = None if head is None else head.stalled
    # What was refused is stored as well: by an instance that was closed, or for a method that did
    # not run. It is not known which was, so a repeat of it is not answered. The first one was.
    was_open = head is not None and not head.closed and not head.epoch
    has_failed = head is not None and head.methods[0].status is WorkflowStatus.FAILED
    for delivery, message in step.inputs.decoded:
        reply_to: client.ReplyTo | None = None
        match message:
            case inputs.CallMethod():
                deduplication_id = message.method_id
            case inputs.Signal():
                deduplication_id, reply_to = message.signal_id, message.reply_to
            case (
                inputs.RetryTasks()
                | inputs.ChildReopened()
                | inputs.CancelTask()
                | inputs.Delete()
                | CompleteTask()
                | FailTask()
            ):
                # What became of it is in the outbox of the step that took it.
                deduplication_id = message.request_id
            case inputs.RetryWorkflowTask() if step.inputs.probe is not None or has_failed:
                # Likewise: a failed instance may have refused it.
                deduplication_id = message.request_id
            case (
                inputs.Cancel()
                | inputs.RetryWorkflowTask()
                | inputs.Unpark()
                | inputs.Terminate()
                | inputs.CompleteTimers()
            ):
                deduplication_id, reply_to = message.request_id, message.reply_to
            case _:
                continue
        if deduplication_id in deduplication_ids:
            deliveries.append(delivery)
            if reply_to is not None and was_open and not getattr(message, "method_id", ""):
                outgoing.append(make_response(reply_to, client.Applied(reply_to.request, stalled)))
    return Repeats(step.lane, deliveries, outgoing)


def _find_refused(step: DecidedStep) -> Repeats:
    """All inputs of a step whose instance has been purged. They must not start it again."""
    asked = [getattr(message, "reply_to", None) for _, message in step.inputs.decoded]
    at = 0.0 if step.change is None else step.change.at
    outgoing = [
        make_response(to, client.WorkflowUnknown(to.request), at) for to in asked if isinstance(to, client.ReplyTo)
    ]
    return Repeats(step.lane, [delivery for delivery, _ in step.inputs.decoded], outgoing)
