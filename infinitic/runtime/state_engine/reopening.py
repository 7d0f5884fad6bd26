"""Another way to decide a step: run failed tasks again, if the code has not dealt with them.

It reads the history three times: to find the tasks, to replay it without their failures, and to
find what came of these. So it costs what the history costs, but no memory that grows with it. If
the code is on another worker, that one makes the replay, and the head waits for what it finds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from infinitic import ids
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.effects import ProbeElsewhere
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.reopening import Undoing, begin_elsewhere, reject, reopen, select_tasks
from infinitic.engines.workflow.survey import Survey, SurveyedTask
from infinitic.messages.client import ReplyTo
from infinitic.messages.engine import ChildReopened, Probed, RetryTasks
from infinitic.messages.events import Event
from infinitic.runtime.history import feed_history, read_reopenings
from infinitic.runtime.probing import FailedProbe, ProbedHistory, find_undoing
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.inputs import Draft
from infinitic.storage import StateStorage


class Reopening:
    """Decides what becomes of requests to run failed tasks again.

    Args:
        specs: the versions of the workflow whose code this worker runs itself.
        states: where histories are read.
    """

    def __init__(self, specs: Mapping[int, WorkflowSpec], states: StateStorage) -> None:
        self._specs = specs
        self._states = states

    async def decide(self, instance: CachedInstance, message: RetryTasks | Probed | ChildReopened, now: float) -> Draft:
        """Run failed tasks again, or refuse it, or have another worker find out whether they can.

        Args:
            instance: the instance. Its live object is closed, and replaced if tasks run again.
            message: the request, or what another worker has found for one.
            now: seconds since the Unix epoch.

        Raises:
            DamagedState: the history is damaged.
            PayloadUnavailable: the payload codec is away. Try again later.
        """
        instance.discard_live()
        if isinstance(message, RetryTasks | ChildReopened):
            return await self._retry(instance, message, now)
        return await self._finish(instance, message, now)

    async def _retry(self, instance: CachedInstance, message: RetryTasks | ChildReopened, now: float) -> Draft:
        head, key = instance.head, instance.key
        assert head is not None
        survey = await self._survey(instance)
        reply_to: ReplyTo | None = None
        epoch: int | None = None
        tasks: Mapping[int, SurveyedTask]
        if isinstance(message, RetryTasks):
            reply_to, exact = message.reply_to, bool(message.task_ids)
            selection = select_tasks(head, message, survey)
            if selection.problem is not None:
                return _reject(head, reply_to, selection.problem)
            tasks = selection.tasks
        else:
            remote = survey.failed_remotes.get(message.position)
            if remote is None or remote.retry_sequence != message.retry_sequence:
                return _reject(head, None, "does not wait for it")
            tasks, exact, epoch = {message.position: remote}, True, message.epoch
        spec = None if head.version is None else self._specs.get(head.version)
        if spec is None:
            return Draft(begin_elsewhere(head, message, tasks), [], [ProbeElsewhere()])
        history = ProbedHistory(key, spec, head.meta, head.run, head.sequence, head.undone, head.base)
        outcome = await find_undoing(history, tasks, self._states, exact=exact)
        if isinstance(outcome, FailedProbe):
            return _reject(head, reply_to, _describe(head, tasks, outcome.reason, outcome.culprits))
        draft = await self._reopen(instance, outcome.undoing, reply_to, now, epoch)
        if head.pending:
            # The probe was not handed what waits in the history. The next step replays that, too.
            outcome.instance.close()
            return draft
        instance.live, instance.pending, instance.bytes = outcome.instance, [], outcome.bytes
        return draft

    async def _finish(self, instance: CachedInstance, message: Probed, now: float) -> Draft:
        head = instance.head
        assert head is not None
        assert head.probe is not None
        reply_to = head.probe.reply_to
        if message.reason is not None:
            survey = await self._survey(instance)
            return _reject(head, reply_to, _describe(head, survey.failed, message.reason, message.culprits))
        undoing = Undoing(message.tasks, message.cancellations, message.open, message.methods, message.relative)
        return await self._reopen(instance, undoing, reply_to, now, head.probe.epoch)

    async def _reopen(
        self, instance: CachedInstance, undoing: Undoing, reply_to: ReplyTo | None, now: float, epoch: int | None
    ) -> Draft:
        head = instance.head
        assert head is not None
        survey = await self._survey(instance, [*undoing.tasks, *undoing.cancellations])
        problem = find_contradiction(undoing, survey, survey.failed if epoch is None else survey.failed_remotes)
        if problem is not None:
            return _reject(head, reply_to, problem)
        changed, event, outbox = reopen(head, undoing, survey, reply_to, now, epoch)
        return Draft(changed, [event], outbox)

    async def _survey(self, instance: CachedInstance, kept: Sequence[int] = ()) -> Survey:
        head, key = instance.head, instance.key
        assert head is not None
        reopenings = await read_reopenings(key, head.undone, self._states)
        wanted = {*kept}
        for event in reopenings:
            wanted |= {each.position for each in event.tasks}
            wanted |= {each.position for each in event.timers}
            wanted |= {*event.cancellations}
        reader = _SurveyReader(Survey(wanted), head.base)
        (await feed_history(reader, key, head.sequence, self._states, head.base)).finish(head)
        return reader.survey


class _SurveyReader:
    """Counts the segments that are fed to a survey."""

    def __init__(self, survey: Survey, base: int) -> None:
        self.survey = survey
        self._sequence = max(base - 1, 0)

    def feed(self, events: Iterable[Event], /) -> None:
        self._sequence += 1
        self.survey.read(self._sequence, events)


def find_contradiction(undoing: Undoing, survey: Survey, failed: Collection[int]) -> str | None:
    """Say what of the findings of a probe cannot be; None if all can.

    Only an executor with a bug sends such, or one that has replayed another history.
    """
    if not undoing.tasks or not all(each in failed for each in undoing.tasks):
        return f"has no failed tasks at positions {[*undoing.tasks]}, as a probe says"
    for each in undoing.open:
        if each not in survey.kept_tasks and each not in survey.kept_timers:
            return f"has no task and no timer at position {each}, which a probe names"
        if each in survey.open or each in survey.timers:
            return f"still waits for position {each}, which a probe names"
    for method_id in undoing.methods:
        method = survey.methods.get(method_id)
        if method is None or not method.ended:
            return f"has no failed method {method_id}, which a probe names"
    return None


def _reject(head: WorkflowHead, reply_to: ReplyTo | None, why: str) -> Draft:
    cleared = head if head.probe is None else replace(head, probe=None)
    rejected = reject(cleared, None, reply_to, why)
    return Draft(rejected.head, [], rejected.outbox)


def _describe(head: WorkflowHead, tasks: Mapping[int, SurveyedTask], reason: str, culprits: Collection[int]) -> str:
    """Say why tasks cannot run again."""
    blamed = [each for each in sorted(culprits) if each in tasks]
    if not blamed:
        return f"has other code now, which does not repeat its history: {reason}"
    shown = ", ".join(
        f"{ids.task_id(head.id, head.run, each)} ({tasks[each].service}.{tasks[each].task})" for each in blamed[:3]
    )
    more = f" and {len(blamed) - 3:,} more" if len(blamed) > 3 else ""
    noun, failure = ("task", "its failure") if len(blamed) == 1 else ("tasks", "their failures")
    return f"cannot run {noun} {shown}{more} again: the code has dealt with {failure}. Without, {reason}"
