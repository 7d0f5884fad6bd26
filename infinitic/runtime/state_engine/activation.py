"""The second part of deciding: hand the stimuli to the code, here or on another worker.

The code changes nothing but its live object. If the step is not committed, that object is closed,
and made again from the history.
"""

from __future__ import annotations

from collections.abc import Sequence

from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.effects import ActivateElsewhere, Effect
from infinitic.engines.workflow import begin, begin_elsewhere, begin_run, decide, note_failures, stall
from infinitic.errors import InfiniticError, PayloadUnavailable
from infinitic.limits import Limits
from infinitic.messages import events
from infinitic.messages.events import AttemptError, Event, Started, Stimulus, TaskHandedOver
from infinitic.replay.activating import activate_inside
from infinitic.replay.instance import Instance
from infinitic.replay.stops import TooMuchTogether
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.inputs import Draft


def activate(
    instance: CachedInstance,
    draft: Draft,
    spec: WorkflowSpec,
    now: float,
    retention: float | None,
    limits: Limits,
    most: int | None = None,
    seen: int = 0,
) -> Draft:
    """Run the code of an instance with the stimuli that wait, until it has asked for enough.

    Args:
        instance: its live object is made if it is not there. So it must be there if the instance
            has a history.
        draft: what came of the inputs.
        spec: the code.
        now: seconds since the Unix epoch.
        retention: seconds to keep the instance once it is closed; None: what its class says.
        limits: how many bytes may be asked for.
        most: how many stimuli are handed over at most; None: all.
        seen: how many events of the draft an activation of the same step has dealt with already.

    Returns:
        The draft with what the code asked for. If the code cannot be run the instance stalls in it.

    Raises:
        TooMuchTogether: fewer stimuli fit into one activation. The live object is closed.
        PayloadUnavailable: the payload codec is away. Try again later.
    """
    head = draft.head
    assert head is not None
    stimuli: list[Stimulus] = [*instance.pending]
    started: Started | None = None
    for event in draft.events[seen:] if seen else draft.events:
        # A class that does not match costs `isinstance` ten times as much as this.
        if type(event) is Started:
            started = event
        elif type(event) is not AttemptError and type(event) is not TaskHandedOver:
            stimuli.append(event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # nothing else here
    live = instance.live
    if live is None:
        live = instance.live = Instance(spec, head.id, head.meta, head.run)
        if started is not None:
            live.note_start(started)
    activated = begin(head, now, each=len(stimuli) > 1)
    try:
        if spec.around is None:
            commands = live.activate(activated.at, stimuli[:most], limits=limits)
        else:
            commands = activate_inside(spec.around, live, activated.at, stimuli[:most], limits=limits)
    except TooMuchTogether:
        instance.discard_live()
        raise
    except PayloadUnavailable:  # a key service is away: nothing has happened, it is tried again
        raise
    except InfiniticError as fault:
        return stall_draft(instance, draft, fault)
    handed = live.recorder.handed
    instance.pending = stimuli[handed:]
    partial = handed if instance.pending else None
    kept = spec.retention if retention is None else retention
    decided, outbox = decide(head, commands, spec.version, kept, activated, partial, live.cleanup)
    if live.failures or decided.failures:
        decided = note_failures(decided, live.failures)
    happened: Sequence[Event] = [*draft.events, activated, *commands]
    if partial is not None:
        happened = [*draft.events, activated, events.Partial(partial), *commands]
    effects: Sequence[Effect] = [*draft.outbox, *outbox] if draft.outbox else outbox
    if decided.continuing:
        decided, happened, effects = begin_run(decided, live.carry, happened, effects, now)
        if decided.run != head.run:
            instance.discard_live()
    return Draft(decided, happened, effects)


def activate_elsewhere(draft: Draft, now: float) -> Draft:
    """Have another worker run the code.

    Args:
        draft: what came of the inputs, or of the decision for the activation before.
        now: seconds since the Unix epoch.
    """
    head = draft.head
    assert head is not None
    activated = begin(head, now, each=True)
    return Draft(
        begin_elsewhere(head, activated),
        [*draft.events, activated],
        [*draft.outbox, ActivateElsewhere(activated.number, head.pending)],
    )


def stall_draft(instance: CachedInstance, draft: Draft, fault: InfiniticError) -> Draft:
    """Have the instance stall, since its code cannot be run.

    What came is kept in the history, and is handed over when somebody retries.

    Args:
        instance: its live object is closed.
        draft: what came of the inputs alone.
        fault: what is wrong.
    """
    assert draft.head is not None
    instance.discard_live()
    return Draft(stall(draft.head, str(fault)), draft.events, draft.outbox, fault)
