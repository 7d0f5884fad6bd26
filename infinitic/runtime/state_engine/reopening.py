"""Another way to decide a step: run failed tasks or failed code again, if that is possible.

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
from infinitic.engines.workflow.rerunning import begin_rerun_elsewhere, resume
from infinitic.engines.workflow.survey import Survey, SurveyedTask
from infinitic.messages.client import ReplyTo
from infinitic.messages.engine import ChildReopened, Probed, RetryTasks, RetryWorkflowTask
from infinitic.messages.events import Event, Reopened
from infinitic.replay.divergence import describe as describe_command
from infinitic.runtime.history import feed_history, read_reopenings
from infinitic.runtime.probing import FailedProbe, ProbedHistory, find_undoing, probe_rerun
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

    async def decide(
        self, instance: CachedInstance, message: RetryTasks | RetryWorkflowTask | Probed | ChildReopened, now: float
    ) -> Draft:
        """Run failed tasks or code again, or refuse it, or have another worker find out if it can.

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
        if isinstance(message, RetryWorkflowTask):
            return await self._rerun(instance, message, now)
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
        for event in draft.events:
            if isinstance(event, Reopened):
                outcome.instance.note_reopened(event)
        instance.live, instance.pending, instance.bytes = outcome.instance, [], outcome.bytes
        return draft

    async def _rerun(self, instance: CachedInstance, message: RetryWorkflowTask, now: float) -> Draft:
        head, key = instance.head, instance.key
        assert head is not None
        survey = await self._survey(instance)
        failing = survey.failing
        if failing is None:
            return _give_up_rerun(head, message.reply_to, "did not fail in its code: there is nothing to run again")
        if survey.following is not None:
            asked = describe_command(survey.following)
            why = f"has gone on since its first method failed, and asked for {asked}: the failure is history"
            return _give_up_rerun(head, message.reply_to, why)
        spec = None if head.version is None else self._specs.get(head.version)
        if spec is None:
            return Draft(begin_rerun_elsewhere(head, message, failing), [], [ProbeElsewhere()])
        history = ProbedHistory(key, spec, head.meta, head.run, head.sequence, head.undone, head.base)
        outcome = await probe_rerun(history, failing.number, self._states)
        if isinstance(outcome, FailedProbe):
            return _give_up_rerun(head, message.reply_to, outcome.reason)
        return await self._reopen(instance, outcome, message.reply_to, now, None, rerun=True)

    async def _finish(self, instance: CachedInstance, message: Probed, now: float) -> Draft:
        head = instance.head
        assert head is not None
        assert head.probe is not None
        reply_to = head.probe.reply_to
        if message.reason is not None:
            if head.probe.rerun:
                return _give_up_rerun(head, reply_to, message.reason)
            survey = await self._survey(instance)
            return _reject(head, reply_to, _describe(head, survey.failed, message.reason, message.culprits))
        undoing = Undoing(message.tasks, message.cancellations, message.open, message.methods, message.relative)
        rerun = head.probe.rerun != 0
        return await self._reopen(instance, undoing, reply_to, now, head.probe.epoch, rerun=rerun)

    async def _reopen(
        self,
        instance: CachedInstance,
        undoing: Undoing,
        reply_to: ReplyTo | None,
        now: float,
        epoch: int | None,
        *,
        rerun: bool = False,
    ) -> Draft:
        head = instance.head
        assert head is not None
        survey = await self._survey(instance, [*undoing.tasks, *undoing.cancellations])
        failing = survey.failing if rerun else None
        failed = survey.failed if epoch is None else survey.failed_remotes
        problem = find_contradiction(undoing, survey, failed, head.id if rerun else None)
        if problem is not None:
            return _reject(head, reply_to, problem)
        changed, event, outbox = reopen(head, undoing, survey, reply_to, now, epoch, failing)
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


def find_contradiction(
    undoing: Undoing, survey: Survey, failed: Collection[int], main: str | None = None
) -> str | None:
    """Say what of the findings of a probe cannot be; None if all can.

    Only an executor with a bug sends such, or one that has replayed another history.

    Args:
        undoing: what it has found.
        survey: of the whole history.
        failed: the positions that may run again.
        main: the id of the first method, if its code is to run again. Then it is about no task.
    """
    if main is not None and (undoing.tasks or main not in undoing.methods):
        return f"does not re-open its first method, but {[*undoing.tasks, *undoing.methods]}, as a probe says"
    if main is None and (not undoing.tasks or not all(each in failed for each in undoing.tasks)):
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


def _give_up_rerun(head: WorkflowHead, reply_to: ReplyTo | None, why: str) -> Draft:
    """Refuse to run failed code again. An instance that has stalled since then goes on instead."""
    if head.stalled is None:
        return _reject(head, reply_to, why)
    resumed, outbox = resume(replace(head, probe=None), reply_to)
    return Draft(resumed, [], outbox)


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
