"""Answers probes: replays without the failures of tasks that an operator wants to run again."""

from __future__ import annotations

from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.workflow.reopening import Undoing
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON
from infinitic.messages.engine import Probed
from infinitic.messages.executor import Activate, ProbeRequest
from infinitic.runtime.probing import FailedProbe, ProbedHistory, ProbedInstance, find_undoing, probe_rerun
from infinitic.storage import DamagedState, StateKey, StateStorage


async def answer_probe(
    key: StateKey, message: Activate, asked: ProbeRequest, spec: WorkflowSpec, states: StateStorage, clock: Clock
) -> Probed:
    """Run a probe.

    Args:
        key: the instance.
        message: the message that asks for it.
        asked: the probe in it.
        spec: the code.
        states: where histories are read.
        clock: the time of day.

    Raises:
        PayloadUnavailable: the payload codec is away. Try again later.
    """
    history = ProbedHistory(key, spec, message.meta, message.run, message.sequence, message.undone, message.base)
    outcome: ProbedInstance | Undoing | FailedProbe
    try:
        if asked.rerun:
            outcome = await probe_rerun(history, asked.rerun, states)
        else:
            outcome = await find_undoing(history, asked.tasks, states, exact=asked.exact)
    except DamagedState as damage:
        # It may also be gone: the engine sees that.
        outcome = FailedProbe(str(damage), ())
    if isinstance(outcome, FailedProbe):
        return Probed(
            made_at=clock.now(),
            request_id=asked.request_id,
            reply_to=asked.reply_to,
            reason=fit_text(outcome.reason, STALL_REASON),
            culprits=outcome.culprits,
        )
    if isinstance(outcome, ProbedInstance):
        outcome.instance.close()
    undoing = outcome.undoing if isinstance(outcome, ProbedInstance) else outcome
    return Probed(
        made_at=clock.now(),
        request_id=asked.request_id,
        reply_to=asked.reply_to,
        tasks=tuple(undoing.tasks),
        cancellations=tuple(undoing.cancellations),
        open=tuple(undoing.open),
        methods=tuple(undoing.methods),
        relative=tuple(undoing.relative),
    )
