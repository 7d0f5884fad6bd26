"""A probe: a replay in which the failures of some tasks, or of the code itself, are left out.

It shows whether the code of a workflow has dealt with these failures. If it has not, the live
instance that the replay has made waits at the place where they came, as if they had not come.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.workflow.reopening import Undoing
from infinitic.errors import NonDeterminismError, WorkflowCodeError
from infinitic.messages.commands import CancelPosition, FailMethod
from infinitic.messages.events import Reopened, Stimulus
from infinitic.replay.awaited import TimerDeferred
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic.replay.rerunning import EndSkipping, GoesBeyond
from infinitic.replay.skipping import Skipping
from infinitic.replay.stops import StopActivation
from infinitic.replay.undone import Undone
from infinitic.runtime.history import feed_history, read_reopenings
from infinitic.storage import StateKey, StateStorage

MAX_PROBES = 20
"""How often a request is tried with fewer tasks, if it need not be all of them."""


class ProbedInstance(NamedTuple):
    """The live instance of a probe that has succeeded.

    Attributes:
        instance: it goes on without the failures.
        undoing: what came of the failures in the history.
        bytes: how many bytes of history it was fed.
    """

    instance: Instance
    undoing: Undoing
    bytes: int


class FailedProbe(NamedTuple):
    """Why a probe has failed.

    Attributes:
        reason: what the history holds, and the code asks for instead; or why the code cannot run.
        culprits: the tasks whose failures came last before code and history differ: the code has
            dealt with them. Empty if none came before: the code has been changed.
    """

    reason: str
    culprits: tuple[int, ...]


class ProbedHistory(NamedTuple):
    """What is replayed.

    Attributes:
        key: the instance.
        spec: its code.
        meta: what the client that started it gave along.
        run: the number of its run.
        until: the sequence of the last segment.
        undone: the segments in which it was re-opened before.
        base: the segment with which its run begins; 0: the first one.
    """

    key: StateKey
    spec: WorkflowSpec
    meta: Mapping[str, bytes]
    run: int
    until: int
    undone: Sequence[int]
    base: int


async def find_undoing(
    history: ProbedHistory, tasks: Collection[int], states: StateStorage, *, exact: bool
) -> ProbedInstance | FailedProbe:
    """Find out whether failed tasks can run again.

    Args:
        history: what is replayed.
        tasks: the positions of these tasks.
        states: where histories are read.
        exact: whether all of them must run again. Otherwise those are left out with whose failures
            the code has dealt.

    Raises:
        DamagedState: the history is damaged.
        PayloadUnavailable: the payload codec is away. Try again later.
    """
    reopenings = await read_reopenings(history.key, history.undone, states)
    tried = set(tasks)
    probes = 0
    while True:
        outcome = await _probe(history, tried, states, reopenings)
        probes += 1
        if isinstance(outcome, ProbedInstance):
            return outcome
        left = tried.difference(outcome.culprits)
        if exact or not left or len(left) == len(tried) or probes == MAX_PROBES:
            return outcome
        tried = left


async def probe_rerun(history: ProbedHistory, failing: int, states: StateStorage) -> Undoing | FailedProbe:
    """Find out whether today's code can run an activation again in which the first method failed.

    The code runs until it asks for something new. That is left to the activation itself.

    Args:
        history: what is replayed.
        failing: the number of the activation.
        states: where histories are read.

    Raises:
        DamagedState: the history is damaged.
        PayloadUnavailable: the payload codec is away. Try again later.
    """
    key = history.key
    reopenings = await read_reopenings(key, history.undone, states)
    instance = Instance(history.spec, key.id, history.meta, history.run)
    replay = Replay(instance, Undone(reopenings, rerun=failing))
    try:
        await feed_history(replay, key, history.until, states, history.base)
        replay.finish(unanswered=False)
        skipping = EndSkipping(instance.recorder, history.spec.check, instance.open)
        with suppress(GoesBeyond, StopActivation):
            instance.activate(0.0 if replay.failed is None else replay.failed.at, replay.pending, replay.recorded)
        return _judge(instance, skipping, replay.pending)
    except (NonDeterminismError, WorkflowCodeError) as error:
        difference = error.difference if isinstance(error, NonDeterminismError) else ""
        return FailedProbe(f"has other code now, which does not repeat its history: {difference or error}", ())
    finally:
        instance.close()


def _judge(instance: Instance, skipping: EndSkipping, stimuli: Sequence[Stimulus]) -> Undoing | FailedProbe:
    """Tell what is undone, if the first method does not fail again before it asks for more."""
    skipped = skipping.skipped
    methods = [each.method_id for each in skipped if isinstance(each, FailMethod)]
    if instance.id not in methods:
        again = next((each for each in skipping.repeated if each.method_id == instance.id), None)
        error = "" if again is None else f": {again.failure.exception}"
        return FailedProbe(f"fails again at the same place, with the code of today{error}", ())
    canceled = [each.position for each in skipped if isinstance(each, CancelPosition)]
    # What is handed over later settles these: it had come as well.
    settled = {getattr(each, "position", None) for each in stimuli[instance.handed :]}
    waiting = skipping.open
    open_now = [each for each in canceled if each in waiting and each not in settled]
    relative = [each for each in open_now if not isinstance(waiting[each], TimerDeferred)]
    return Undoing((), canceled, open_now, methods, relative)


async def _probe(
    history: ProbedHistory, tasks: Collection[int], states: StateStorage, reopenings: Sequence[Reopened]
) -> ProbedInstance | FailedProbe:
    key = history.key
    instance = Instance(history.spec, key.id, history.meta, history.run)
    recorder = instance.recorder
    skipping = recorder.skipping = Skipping(history.spec.check, recorder.patches)
    undone = Undone(reopenings, tasks)
    replay = Replay(instance, undone)
    try:
        check = await feed_history(replay, key, history.until, states, history.base)
        replay.finish(unanswered=False)
    except (NonDeterminismError, WorkflowCodeError) as error:
        at = instance.activations
        difference = error.difference if isinstance(error, NonDeterminismError) else ""
        instance.close()
        last = max((activation for activation in undone.activations.values() if 0 < activation <= at), default=0)
        culprits = tuple(sorted(task for task, activation in undone.activations.items() if activation == last > 0))
        return FailedProbe(difference or str(error), culprits)
    except BaseException:
        instance.close()
        raise
    recorder.skipping = None
    skipped = skipping.skipped
    canceled = [each.position for each in skipped if isinstance(each, CancelPosition)]
    open_now = [each for each in canceled if each in instance.open]
    undoing = Undoing(
        sorted(tasks),
        canceled,
        open_now,
        [each.method_id for each in skipped if isinstance(each, FailMethod)],
        [each for each in open_now if not isinstance(instance.open[each], TimerDeferred)],
    )
    return ProbedInstance(instance, undoing, check.bytes)
