"""The history of an instance: what happened to it, and what its code asked for, in order.

*Stimuli* are what the code must see. All that wait are handed to it when the instance is resumed;
`Activated` marks that moment. The commands of an activation follow its `Activated`. If the code
runs on another worker, stimuli of the next activation may lie between. Replay needs nothing else.

Events are never sent alone. The engine writes each of them once: a duplicate of an input makes no
event.

On the wire, besides the names of `messages.commands`: w when · n number · e one by one · h handed
over · b by whom · l how the attempt went · e reason · d unanswered · u custom id · s status ·
c completed · lo ran as a local task.
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, NoName, Seconds, Whole
from infinitic.errors import TaskFailure
from infinitic.messages.attempts import NO_HEARTBEAT, Execution
from infinitic.messages.commands import Command
from infinitic.messages.outcomes import MethodFailure, RemoteStatus


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t", gc=False):
    pass


class MethodStarted(_Event, frozen=True, tag="m"):
    """A method was called: the first one by `Start`, others by `CallMethod`.

    Attributes:
        at: when the engine took the call, in seconds since the Unix epoch; 0: an
            older release wrote it.
        meta: what the caller gave along. That of the first method is in the head.
        by: who called: the name of a client, or the id of an instance.
    """

    method_id: Name = msgspec.field(name="i")
    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    at: Seconds = msgspec.field(name="w", default=0.0)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    by: NoName = msgspec.field(name="b", default="")


class TaskResult(_Event, frozen=True, tag="r"):
    """A task returned: `TaskCompleted`.

    Attributes:
        execution: how the attempt went; None: an older release ran it, or somebody outside has
            completed it.
        by: who completed it, if it was delegated: the name of a client.
        local: whether it ran as a local task: inside the transition that holds this event.
    """

    position: Whole = msgspec.field(name="p")
    value: msgspec.Raw = msgspec.field(name="v")
    execution: Execution | None = msgspec.field(name="l", default=None)
    by: NoName = msgspec.field(name="b", default="")
    local: bool = msgspec.field(name="lo", default=False)


class TaskError(_Event, frozen=True, tag="e"):
    """A task failed, and no attempt is left: `TaskFailed`.

    Attributes:
        execution: how the last attempt went; None: an older release ran it, or it never ran.
        local: as for `TaskResult`.
    """

    position: Whole = msgspec.field(name="p")
    failure: TaskFailure = msgspec.field(name="f")
    execution: Execution | None = msgspec.field(name="l", default=None)
    local: bool = msgspec.field(name="lo", default=False)


class TaskTimeout(_Event, frozen=True, tag="o"):
    """The total timeout of a task, a child or a call is over. A `Wake` found that."""

    position: Whole = msgspec.field(name="p")


class TimerFired(_Event, frozen=True, tag="f"):
    """A timer is due. A `Wake` found that.

    `completed` says that it is not due yet, and somebody has completed it: `CompleteTimers`.
    """

    position: Whole = msgspec.field(name="p")
    completed: bool = msgspec.field(name="c", default=False)


class SignalReceived(_Event, frozen=True, tag="s"):
    """A signal came: `Signal`.

    Attributes:
        at: when the engine took it, in seconds since the Unix epoch; 0: an older release wrote
            it.
        meta: what the sender gave along.
        by: who sent it: the name of a client, or the id of an instance.
    """

    channel: Name = msgspec.field(name="c")
    value: msgspec.Raw = msgspec.field(name="v")
    at: Seconds = msgspec.field(name="w", default=0.0)
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    by: NoName = msgspec.field(name="b", default="")


class CancelRequested(_Event, frozen=True, tag="x"):
    """Somebody cancelled the instance, or one of its methods: `Cancel`.

    Attributes:
        method_id: the method; empty: the instance.
        at: when the engine took it, in seconds since the Unix epoch; 0: an older release wrote it.
        by: who cancelled: the name of a client, or the id of an instance.
    """

    method_id: NoName = msgspec.field(name="i", default="")
    at: Seconds = msgspec.field(name="w", default=0.0)
    by: NoName = msgspec.field(name="b", default="")


class RemoteResult(_Event, frozen=True, tag="rr"):
    """A child, or the method of another instance, returned: `RemoteSettled`.

    Attributes:
        position: that of the child or the call.
        value: what it returned.
        at: when the engine took that, in seconds since the Unix epoch.
    """

    position: Whole = msgspec.field(name="p")
    value: msgspec.Raw = msgspec.field(name="v")
    at: Seconds = msgspec.field(name="w", default=0.0)


class RemoteError(_Event, frozen=True, tag="re"):
    """A child, or the method of another instance, did not complete: `RemoteSettled`.

    Attributes:
        position: that of the child or the call.
        status: what has become of it.
        failure: what the method raised; None if it did not raise.
        reason: why the request was refused, or the other instance terminated; otherwise empty.
        at: when the engine took that, in seconds since the Unix epoch.
    """

    position: Whole = msgspec.field(name="p")
    status: RemoteStatus = msgspec.field(name="s")
    failure: MethodFailure | None = msgspec.field(name="f", default=None)
    reason: str = msgspec.field(name="e", default="")
    at: Seconds = msgspec.field(name="w", default=0.0)


class TaskCanceled(_Event, frozen=True, tag="tc"):
    """Somebody cancelled a task by its tag: `CancelTask`.

    Attributes:
        position: that of the task.
        at: when the engine took that, in seconds since the Unix epoch.
        by: who cancelled: the name of a client.
    """

    position: Whole = msgspec.field(name="p")
    at: Seconds = msgspec.field(name="w", default=0.0)
    by: NoName = msgspec.field(name="b", default="")


class AttemptError(_Event, frozen=True, tag="k"):
    """An attempt of a task failed, and another one follows: the message `AttemptFailed`.

    It is no stimulus: the code is not told.

    Attributes:
        meta: what the next attempt gets from this one.
        execution: how the attempt went; None: an older release ran it.
        next_at: when the next attempt was to be sent, in seconds since the Unix epoch; 0: an older
            release wrote it.
        heartbeat: what it said with its last heartbeat; empty: nothing.
        local: as for `TaskResult`.
    """

    position: Whole = msgspec.field(name="p")
    failure: TaskFailure = msgspec.field(name="f")
    meta: dict[str, bytes] = msgspec.field(name="x", default={})
    execution: Execution | None = msgspec.field(name="l", default=None)
    next_at: Seconds = msgspec.field(name="d", default=0.0)
    heartbeat: msgspec.Raw = msgspec.field(name="hb", default=NO_HEARTBEAT)
    local: bool = msgspec.field(name="lo", default=False)


class TaskHandedOver(_Event, frozen=True, tag="td"):
    """The function of a delegated task returned: `TaskDelegated`. Somebody outside ends the task.

    It is no stimulus: the code is not told.

    Attributes:
        position: that of the task.
        execution: how the attempt went.
        at: when the engine took it, in seconds since the Unix epoch.
    """

    position: Whole = msgspec.field(name="p")
    execution: Execution | None = msgspec.field(name="l", default=None)
    at: Seconds = msgspec.field(name="w", default=0.0)


class Activated(_Event, frozen=True, tag="a"):
    """The instance was resumed, with all stimuli that waited.

    Attributes:
        number: counts the activations of the instance, from 1.
        at: what its code sees as the time, in seconds since the Unix epoch.
        each: whether the stimuli were handed over one by one, each until the code waited again.
            Release 0.1 handed over all at once. For a single stimulus both are the same, and it is
            left out.
    """

    number: Whole = msgspec.field(name="n")
    at: Seconds = msgspec.field(name="w")
    each: bool = msgspec.field(name="e", default=False)


class Partial(_Event, frozen=True, tag="p"):
    """Only the first `handed` stimuli of the last activation were handed over.

    The others wait for the next activation. It comes before the commands of that activation.
    """

    handed: Whole = msgspec.field(name="h")


class Abandoned(_Event, frozen=True, tag="b"):
    """Somebody terminated the instance: `Terminate`. It is the last event, and no stimulus.

    Attributes:
        reason: why, for people.
        unanswered: whether an activation ran on another worker. What it asked for is not in the
            history.
        at: when the engine took it, in seconds since the Unix epoch.
        by: who terminated: the name of a client, or the id of an instance.
    """

    reason: str = msgspec.field(name="e", default="")
    unanswered: bool = msgspec.field(name="d", default=False)
    at: Seconds = msgspec.field(name="w", default=0.0)
    by: NoName = msgspec.field(name="b", default="")


class Started(_Event, frozen=True, tag="h"):
    """The instance was started with tags or a custom id. Without them there is no such event.

    It is no stimulus: the code finds its tags in its context.

    Attributes:
        at: when the start was made, in seconds since the Unix epoch.
        tags: those of the instance.
        custom_id: that of the instance; empty: it has none.
    """

    at: Seconds = msgspec.field(name="w")
    tags: tuple[Name, ...] = msgspec.field(name="g", default=())
    custom_id: NoName = msgspec.field(name="u", default="")


class ReopenedTask(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A task that is asked for once more.

    Attributes:
        position: its position.
        retry_sequence: how often an operator has asked for it by now.
        timeout_at: when the workflow stops waiting for it, in seconds since the Unix epoch; None:
            never.
        canceled: whether the code had cancelled it because of the failure. False: it has failed
            itself.
    """

    position: Whole
    retry_sequence: Whole
    timeout_at: float | None = None
    canceled: bool = False


class ReopenedTimer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A timer that the code had cancelled because of the failure, and which is set again.

    `due` is when it fires, in seconds since the Unix epoch.
    """

    position: Whole
    due: float


class Reopened(_Event, frozen=True, tag="u"):
    """An operator has asked for failed tasks once more, or for code that has failed.

    That is `RetryTasks`, or `RetryWorkflowTask`. A replay leaves out what is undone by it: the
    failures of these tasks, the ends of these methods, and the cancellations of these tasks and
    timers, as far as they come before it.

    On the wire: k tasks · d timers · m methods · c cancellations · a rerun.

    Attributes:
        at: when, in seconds since the Unix epoch.
        tasks: the tasks that are asked for once more, ascending by position.
        timers: the timers that are set again, ascending by position.
        methods: the ids of the methods that run again, in the order in which they had ended.
        cancellations: further positions whose cancellation is undone. Nothing is asked for once
            more, because their result had come as well.
        rerun: the activation in which the first method has failed, if its code runs again; 0: it
            does not. A replay does not run this activation, nor those between it and this event.
            The next one hands over what they did, at the time of this activation, and the code
            asks for what they hold before it goes on.
    """

    at: Seconds = msgspec.field(name="w")
    tasks: tuple[ReopenedTask, ...] = msgspec.field(name="k")
    timers: tuple[ReopenedTimer, ...] = msgspec.field(name="d", default=())
    methods: tuple[Name, ...] = msgspec.field(name="m", default=())
    cancellations: tuple[Whole, ...] = msgspec.field(name="c", default=())
    rerun: Whole = msgspec.field(name="a", default=0)


class RunStarted(_Event, frozen=True, tag="n"):
    """The next run begins: `continue_as_new`. What came before concerns it no more.

    In the same segment follow its tags, its first method, and the signals and calls that the run
    before has not taken.
    """

    run: Whole = msgspec.field(name="u")


class Carry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a run hands over to the next one. It is part of a `Decision`, and no event.

    On the wire: m method · a arguments · s signals · c calls · g tags · u custom id.

    Attributes:
        method: the first method of the next run.
        arguments: its arguments.
        signals: those that nobody has taken, in order.
        calls: methods that were called and have not begun.
        tags: those of the instance.
        custom_id: that of the instance; empty: it has none.
    """

    method: Name = msgspec.field(name="m")
    arguments: msgspec.Raw = msgspec.field(name="a")
    signals: tuple[SignalReceived, ...] = msgspec.field(name="s", default=())
    calls: tuple[MethodStarted, ...] = msgspec.field(name="c", default=())
    tags: tuple[Name, ...] = msgspec.field(name="g", default=())
    custom_id: NoName = msgspec.field(name="u", default="")


Stimulus = (
    MethodStarted
    | TaskResult
    | TaskError
    | TaskTimeout
    | TimerFired
    | SignalReceived
    | CancelRequested
    | RemoteResult
    | RemoteError
    | TaskCanceled
)
UnseenEvent = AttemptError | TaskHandedOver
"""What happens to tasks while the code waits for them."""

Event = Stimulus | UnseenEvent | Activated | Partial | Command | Abandoned | Started | Reopened | RunStarted

encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(list[Event])


def decode(data: bytes) -> list[Event]:
    """Decode the events of a segment.

    Raises:
        msgspec.DecodeError: these bytes are no JSON.
        msgspec.ValidationError: this JSON is no list of events.
    """
    return _decoder.decode(data)
