"""To the workflow state engine: everything that may change an instance, keyed by its id.

All times are in seconds since the Unix epoch.

On the wire: at when the message was first published, copied by whoever forwards it · m method ·
a arguments · r whom to answer · i id · c channel · v value · p position · rs retry sequence ·
ri retry index · q sequence of the segment that holds the request · x meta · f failure · d delay ·
u run · b who sends · l how the attempt went · e reason · mi id of a method · g tags · n custom id ·
k epoch · bt the tag by which the sender found the instance · s status.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, NoName, Seconds, Whole
from infinitic.errors import ExceptionDetail, TaskFailure
from infinitic.messages.attempts import NO_HEARTBEAT, Execution
from infinitic.messages.client import ReplyTo
from infinitic.messages.commands import Command
from infinitic.messages.decoding import make_decoder
from infinitic.messages.delegated import CompleteTask, FailTask, TaskDelegated
from infinitic.messages.events import Carry
from infinitic.messages.outcomes import MethodFailure, RemoteStatus
from infinitic.messages.task_operations import CancelTask as CancelTask


class _Input(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="t", gc=False):
    made_at: Seconds = msgspec.field(name="at")


class Start(_Input, frozen=True, kw_only=True, tag="start"):
    """Create the instance, and run its first method. Clients and parents send it.

    If it has a custom id, the tag engine sends it, after it has claimed the custom id. `epoch`
    counts how often it was a dead letter, and has claimed the custom id anew.

    A duplicate finds the instance, or its remnant, and changes nothing. One that is older than the
    deduplication window goes to the dead letters.
    """

    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    by: NoName = msgspec.field(name="b", default="")
    tags: tuple[Name, ...] = msgspec.field(name="g", default=())
    custom_id: NoName = msgspec.field(name="n", default="")
    epoch: Whole = msgspec.field(name="k", default=0)


class CallMethod(_Input, frozen=True, kw_only=True, tag="call"):
    """Run one more method on a running instance. Clients and other instances send it.

    A duplicate is recognised by `method_id`, which is a deduplication id.
    """

    method_id: Name = msgspec.field(name="i")
    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    by: NoName = msgspec.field(name="b", default="")
    by_tag: NoName = msgspec.field(name="bt", default="")


class Signal(_Input, frozen=True, kw_only=True, tag="signal"):
    """Hand a value to a channel of a running instance. Clients and other instances send it.

    A duplicate is recognised by `signal_id`, which is a deduplication id.
    """

    signal_id: Name = msgspec.field(name="i")
    channel: Name = msgspec.field(name="c")
    value: msgspec.Raw = msgspec.field(name="v")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    by: NoName = msgspec.field(name="b", default="")
    by_tag: NoName = msgspec.field(name="bt", default="")


class TaskCompleted(_Input, frozen=True, kw_only=True, tag="task_completed"):
    """A task returned this value. Service executors send it.

    It counts once for each position, whichever attempt it comes from. A duplicate changes nothing.
    """

    position: Whole = msgspec.field(name="p")
    value: msgspec.Raw = msgspec.field(name="v")
    run: Whole = msgspec.field(name="u", default=0)
    execution: Execution | None = msgspec.field(name="l", default=None)


class TaskFailed(_Input, frozen=True, kw_only=True, tag="task_failed"):
    """A task failed, and no attempt is left. Service executors send it.

    It counts only if this attempt was sent last. Release 0.1 did not say which attempt it was:
    `retry_index` is None then. A duplicate finds the position closed, and changes nothing.
    """

    position: Whole = msgspec.field(name="p")
    failure: TaskFailure = msgspec.field(name="f")
    run: Whole = msgspec.field(name="u", default=0)
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    retry_index: Whole | None = msgspec.field(name="ri", default=None)
    execution: Execution | None = msgspec.field(name="l", default=None)


class AttemptFailed(_Input, frozen=True, kw_only=True, tag="attempt_failed"):
    """An attempt failed, and its retry policy wants another one `delay` seconds later.

    Service executors send it. It counts only for the attempt that was sent last, so a duplicate
    changes nothing.
    """

    position: Whole = msgspec.field(name="p")
    failure: TaskFailure = msgspec.field(name="f")
    delay: Seconds = msgspec.field(name="d")
    sequence: Whole = msgspec.field(name="q")
    run: Whole = msgspec.field(name="u", default=0)
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    retry_index: Whole = msgspec.field(name="ri", default=0)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    execution: Execution | None = msgspec.field(name="l", default=None)
    heartbeat: msgspec.Raw = msgspec.field(name="hb", default=NO_HEARTBEAT)


class Wake(_Input, frozen=True, kw_only=True, tag="wake"):
    """Look at the timers and retries. The engine sends it to itself, for the time `due`.

    A duplicate finds nothing that is due, and changes nothing.
    """

    due: float = msgspec.field(name="d")


class Cancel(_Input, frozen=True, kw_only=True, tag="cancel"):
    """Cancel the whole instance, or one of its methods. Clients and other instances send it.

    A duplicate is recognised by `request_id`, which is a deduplication id.

    Attributes:
        request_id: the deduplication id.
        reply_to: whom to tell that it is applied.
        method_id: the method; empty: all of them.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    method_id: NoName = msgspec.field(name="mi", default="")
    by_tag: NoName = msgspec.field(name="bt", default="")
    by: NoName = msgspec.field(name="b", default="")


class Wait(_Input, frozen=True, kw_only=True, tag="wait"):
    """Answer the client when a method ends, or at once if it has ended. Clients send it.

    A duplicate finds the client among those who wait, and changes nothing. If the method has ended,
    the client is answered once more.

    Attributes:
        reply_to: whom to answer.
        method_id: the method; None: the first one.
        single: whether the client numbers its requests, and has one at a time for a method. Then
            this request takes the place of those before.
        stop: whether the client stops waiting.
    """

    reply_to: ReplyTo = msgspec.field(name="r")
    method_id: NoName | None = msgspec.field(name="i", default=None)
    single: bool = msgspec.field(name="o", default=False)
    stop: bool = msgspec.field(name="z", default=False)


class Describe(_Input, frozen=True, kw_only=True, tag="describe"):
    """Tell what is known of the instance. Clients send it. A duplicate is answered once more."""

    reply_to: ReplyTo = msgspec.field(name="r")


class RetryWorkflowTask(_Input, frozen=True, kw_only=True, tag="retry_workflow_task"):
    """Run the activation again at which the instance stalled or failed, with the code of today.

    Clients and the command line send it. A duplicate is recognised by `request_id`, which is a
    deduplication id.

    On the wire: c claimed · e refused · n custom id, for which see `RetryTasks`.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    by_tag: NoName = msgspec.field(name="bt", default="")
    claimed: Whole = msgspec.field(name="c", default=0)
    refused: str = msgspec.field(name="e", default="")
    custom_id: NoName = msgspec.field(name="n", default="")


class RetryTasks(_Input, frozen=True, kw_only=True, tag="retry_tasks"):
    """Run failed tasks again, and re-open the methods that their failure has ended.

    Clients and the command line send it. A duplicate is recognised by `request_id`, which is a
    deduplication id. All conditions that are given must hold for a task.

    On the wire: k task ids · s status · v service · m task · c claimed · e refused · n custom id ·
    g tag · bt by tag.

    Attributes:
        request_id: the deduplication id.
        reply_to: whom to answer.
        task_ids: exactly these tasks; empty: those that the other conditions name.
        status: "failed" or "timed_out"; empty: both.
        service: the name of their service; empty: any.
        task: the name of the task; empty: any.
        tag: one of the tags of the task; empty: any.
        by_tag: the tag by which the instance was found; empty: it was named.
        claimed: the tag engine has sent it on, and has claimed the custom id of the closed instance
            for this epoch; 0: it has not.
        refused: why the custom id could not be claimed, as the end of a sentence about the
            instance; empty: it was, or was not asked for.
        custom_id: what was claimed; empty: nothing was.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    task_ids: tuple[Name, ...] = msgspec.field(name="k", default=())
    status: NoName = msgspec.field(name="s", default="")
    service: NoName = msgspec.field(name="v", default="")
    task: NoName = msgspec.field(name="m", default="")
    claimed: Whole = msgspec.field(name="c", default=0)
    refused: str = msgspec.field(name="e", default="")
    custom_id: NoName = msgspec.field(name="n", default="")
    tag: NoName = msgspec.field(name="g", default="")
    by_tag: NoName = msgspec.field(name="bt", default="")


class Probed(_Input, frozen=True, kw_only=True, tag="probed"):
    """What a probe for `RetryTasks` or `RetryWorkflowTask` has found. Workflow executors send it.

    It counts only for the probe that the instance waits for, so a duplicate changes nothing.

    On the wire: k tasks · c cancellations · o open · m methods · l relative · e reason ·
    b culprits.

    Attributes:
        request_id: that of the request.
        reply_to: whom to answer if the instance is gone.
        tasks: positions of the tasks that can run again.
        cancellations: positions that the code had cancelled because of their failure.
        open: those of `cancellations` for which the code waits without them.
        methods: ids of methods that have failed because of it.
        relative: those of `cancellations` that are timers which count from when they are set.
        reason: why the probe has failed; None: it has not.
        culprits: if it has failed, the tasks with whose failures the code has dealt.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    tasks: tuple[Whole, ...] = msgspec.field(name="k", default=())
    cancellations: tuple[Whole, ...] = msgspec.field(name="c", default=())
    open: tuple[Whole, ...] = msgspec.field(name="o", default=())
    methods: tuple[Name, ...] = msgspec.field(name="m", default=())
    relative: tuple[Whole, ...] = msgspec.field(name="l", default=())
    reason: str | None = msgspec.field(name="e", default=None)
    culprits: tuple[Whole, ...] = msgspec.field(name="b", default=())


class ChildReopened(_Input, frozen=True, kw_only=True, tag="child_reopened"):
    """A child has failed, or a method that this instance called on another one, and runs again.

    The state engine of the other instance sends it to each instance that waited. A duplicate is
    recognised by `request_id`, which is a deduplication id.

    Attributes:
        request_id: the deduplication id.
        position: the position at which this instance waited.
        run: the run of this instance that waited.
        retry_sequence: which request is answered once more, see `ReplyTo.place`.
        epoch: that of the other instance from now on. A failure of an older one counts no more.
        claimed: see `RetryTasks`.
        refused: see `RetryTasks`.
        custom_id: see `RetryTasks`.
    """

    request_id: Name = msgspec.field(name="i")
    position: Whole = msgspec.field(name="p")
    run: Whole = msgspec.field(name="u", default=0)
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    epoch: Whole = msgspec.field(name="k", default=0)
    claimed: Whole = msgspec.field(name="c", default=0)
    refused: str = msgspec.field(name="e", default="")
    custom_id: NoName = msgspec.field(name="n", default="")


class Unpark(_Input, frozen=True, kw_only=True, tag="unpark"):
    """Have a parked instance take messages again. `infinitic dead-letters replay` sends it.

    The letters of the instance follow it, in order. A duplicate is recognised by `request_id`,
    which is a deduplication id.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


class Terminate(_Input, frozen=True, kw_only=True, tag="terminate"):
    """Close the instance at once, whatever its state, without running its code.

    Clients and parents send it.

    A duplicate is recognised by `request_id`, which is a deduplication id. `reason` is for people.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    by_tag: NoName = msgspec.field(name="bt", default="")
    reason: str = msgspec.field(name="e", default="")
    by: NoName = msgspec.field(name="b", default="")


class Delete(_Input, frozen=True, kw_only=True, tag="delete"):
    """Let a closed instance be removed now, and not when its retention ends. Clients send it.

    A duplicate is recognised by `request_id`, which is a deduplication id.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)


class CompleteTimers(_Input, frozen=True, kw_only=True, tag="complete_timers"):
    """Fire the timers that the code waits for, before their time. Clients send it.

    A duplicate is recognised by `request_id`, which is a deduplication id.

    Attributes:
        request_id: the deduplication id.
        reply_to: whom to tell that it is applied.
        method_id: the method whose timers fire; empty: those of all methods.
    """

    request_id: Name = msgspec.field(name="i")
    reply_to: ReplyTo | None = msgspec.field(name="r", default=None)
    by_tag: NoName = msgspec.field(name="bt", default="")
    method_id: NoName = msgspec.field(name="mi", default="")


class Decision(_Input, frozen=True, kw_only=True, tag="decision"):
    """What workflow code asks for, or why it cannot run. Workflow executors send it.

    It counts only for the activation that runs, and its epoch. So a duplicate changes nothing.

    On the wire: n number of the activation · w version · s retention in seconds · g digest of the
    commands · c commands · e why the instance stalls · k epoch of the activation; absent: release
    0.1, which knows none · h how many of the stimuli were handed over, while the others wait for
    the next activation; absent: all · u what background tasks raised and nobody awaited ·
    y the next free position when the code saw that the instance is cancelled; absent: it has not ·
    j what the next run gets; absent: the first method has not asked for one.
    """

    activation: Whole = msgspec.field(name="n")
    version: Whole = msgspec.field(name="w", default=0)
    retention: Seconds = msgspec.field(name="s", default=0.0)
    digest: str = msgspec.field(name="g", default="")
    commands: tuple[Command, ...] = msgspec.field(name="c", default=())
    stalled: str | None = msgspec.field(name="e", default=None)
    epoch: Whole | None = msgspec.field(name="k", default=None)
    handed: Whole | None = msgspec.field(name="h", default=None)
    failures: tuple[str, ...] = msgspec.field(name="u", default=())
    cleanup: Whole | None = msgspec.field(name="y", default=None)
    carry: Carry | None = msgspec.field(name="j", default=None)


class RemoteSettled(_Input, frozen=True, kw_only=True, tag="settled"):
    """A child has ended, or a method that this instance called on another one.

    The state engine of the other instance sends it; so does whoever refuses a request. A success
    counts once for each position, whichever request it answers; anything else only if it answers
    the newest request. A duplicate finds the position closed, and changes nothing.

    Attributes:
        position: the position at which this instance waits.
        run: the run of this instance that waits.
        retry_sequence: which request it answers, see `ReplyTo.place`.
        epoch: that of the other instance when the method ended.
        status: what has become of the method.
        value: what it returned.
        failure: what it raised.
        reason: why the request was refused, or the other instance terminated.
    """

    position: Whole = msgspec.field(name="p")
    run: Whole = msgspec.field(name="u", default=0)
    retry_sequence: Whole = msgspec.field(name="rs", default=0)
    epoch: Whole = msgspec.field(name="k", default=0)
    status: RemoteStatus = msgspec.field(name="s", default=RemoteStatus.COMPLETED)
    value: msgspec.Raw = msgspec.field(name="v", default=msgspec.Raw())
    failure: MethodFailure | None = msgspec.field(name="f", default=None)
    reason: str = msgspec.field(name="e", default="")


class AskQuery(_Input, frozen=True, kw_only=True, tag="query"):
    """Ask the code of the instance something, by one of its `@query` methods. Clients send it.

    It changes nothing, and leaves no history. A duplicate is answered once more.
    """

    query: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    reply_to: ReplyTo = msgspec.field(name="r")


NO_VALUE = msgspec.Raw()
"""The value of an `Asked` that has none. It has to be this very object to be left out."""


class Asked(_Input, frozen=True, kw_only=True, tag="asked"):
    """The answer of the code to a query, for the client. Workflow executors send it.

    It is forwarded if the engine has taken the decision of the code that answers. Otherwise the
    client is told to ask again. A duplicate is forwarded once more.

    Attributes:
        activation: the activation that the code has run last.
        epoch: that of this activation.
        reply_to: the client.
        digest: that of the decision of the code; None: the answer comes from the history.
        value: what the query returned.
        failure: why there is no answer. If both are missing, the engine has to tell.
    """

    activation: Whole = msgspec.field(name="n")
    epoch: Whole = msgspec.field(name="k", default=0)
    reply_to: ReplyTo = msgspec.field(name="r")
    digest: str | None = msgspec.field(name="g", default=None)
    value: msgspec.Raw = msgspec.field(name="v", default=NO_VALUE)
    run: Whole = msgspec.field(name="u", default=0)
    failure: ExceptionDetail | None = msgspec.field(name="f", default=None)


Input = (
    Start
    | CallMethod
    | Signal
    | TaskCompleted
    | TaskFailed
    | AttemptFailed
    | Wake
    | Cancel
    | Wait
    | Describe
    | RetryWorkflowTask
    | Decision
    | Unpark
    | AskQuery
    | Asked
    | Terminate
    | RemoteSettled
    | CompleteTimers
    | RetryTasks
    | Probed
    | ChildReopened
    | CancelTask
    | TaskDelegated
    | CompleteTask
    | FailTask
    | Delete
)

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(Input), "input of an instance")
