"""Rules about messages that the broker accepts, checked at that instant.

Each rule is a function of the message and of the instance that it is about (None if there is none).
It returns what is wrong, or None.
"""

from __future__ import annotations

from collections.abc import Iterable

from infinitic import ids
from infinitic.engines.state import WorkflowHead
from infinitic.engines.validate import InvalidInput, check_decision
from infinitic.errors import ExceptionDetail
from infinitic.messages import client, commands, engine, events
from infinitic.messages.delegated import CompleteTask, FailTask, TaskDelegated
from infinitic.messages.executor import Activate
from infinitic.messages.outcomes import MethodFailure, RemoteStatus
from infinitic.messages.service import ExecuteTask
from infinitic.storage import StateKey
from infinitic_testing.invariants.instances import ObservedInstance
from infinitic_testing.invariants.traffic import Decoded

Report = engine.TaskCompleted | engine.TaskFailed | engine.AttemptFailed | TaskDelegated
Ending = client.MethodCompleted | client.MethodFailed | client.MethodCanceled | client.MethodTerminated

_COMMANDS = (
    engine.Cancel,
    engine.RetryWorkflowTask,
    engine.Unpark,
    engine.Terminate,
    engine.CompleteTimers,
    engine.RetryTasks,
    engine.CancelTask,
    engine.Delete,
    CompleteTask,
    FailTask,
)
_DEDUPLICATED = (engine.Start, engine.CallMethod, engine.Signal, *_COMMANDS)


def check_task_was_asked(task: ExecuteTask, instance: ObservedInstance | None) -> str | None:
    """The attempt is in a committed outbox, and the task is the one in the history."""
    if instance is None:
        return f"{task} is sent for an instance that is not in the storage"
    if task.run < instance.history.run:
        return None
    if (task.position, task.retry_sequence, task.retry_index) not in instance.sent:
        return f"attempt {task.retry_index} of task {task.position} is in no outbox that was written"
    request = instance.history.requests[task.position]
    if not isinstance(request, commands.ScheduleTask):
        return f"task {task.position} is sent, and the history has {request} there"
    asked = (request.service, request.task, bytes(request.arguments))
    if asked != (task.service, task.task, bytes(task.arguments)):
        return f"task {task.position} is sent as {task}, and the history has {request}"
    return None


def check_activation_was_opened(message: Activate, instance: ObservedInstance | None) -> str | None:
    """The activation is in the history."""
    if instance is not None and message.run < instance.history.run:
        return None
    if instance is None or message.activation > instance.history.activation:
        return f"activation {message.activation} is sent, and it is not in the storage"
    return None


def check_decision_was_asked(message: engine.Decision, instance: ObservedInstance | None) -> str | None:
    """The activation that was decided is in the history."""
    if instance is not None and (message.epoch or 0) < instance.head.epoch:
        return None
    if instance is None or message.activation > instance.history.activation:
        return f"a decision for activation {message.activation} is sent, which is not in the storage"
    return None


def check_wake_was_armed(message: engine.Wake, instance: ObservedInstance | None) -> str | None:
    """The wake is in a committed outbox."""
    if instance is None:
        return "a wake is sent for an instance that is not in the storage"
    if message.due not in instance.wakes:
        return f"a wake for {message.due!r} is sent, which is in no outbox that was written"
    return None


def check_report_was_asked(message: Report, instance: ObservedInstance | None) -> str | None:
    """The attempt that is reported was sent."""
    if instance is None:
        return f"{message} is sent for an instance that is not in the storage"
    if message.run < instance.history.run:
        return None
    # A report that says no attempt says that the task was run at all.
    sequence, index = 0, 0
    if not isinstance(message, engine.TaskCompleted) and message.retry_index is not None:
        sequence, index = message.retry_sequence, message.retry_index
    was_sent = (message.position, sequence, index) in instance.sent
    if not was_sent and isinstance(message, engine.TaskCompleted):
        # One that was cancelled at once is sent when it is asked for again.
        was_sent = any(position == message.position for position, _, _ in instance.sent)
    if not was_sent:
        return f"{message} reports an attempt that was never sent"
    return None


def check_request_was_asked(
    message: engine.Start | engine.CallMethod, key: StateKey, parent: ObservedInstance | None
) -> str | None:
    """What an instance asks of another one is in the history of the one that asks.

    Args:
        message: the request.
        key: the instance that is asked.
        parent: the one that asks; None: it is not in the storage.
    """
    reply_to = message.reply_to
    run, position, retry_sequence = (0, 0, 0) if reply_to is None else reply_to.place
    if parent is None or position >= len(parent.history.requests):
        return f"{message} is sent for an instance that has not asked for it"
    request = parent.history.requests[position]
    match request, message:
        case commands.StartChild(), engine.Start():
            where = key.id == ids.remote_id(parent.key.id, run, position, retry_sequence)
        case commands.CallRemote(), engine.CallMethod():
            where = not request.workflow_id or key.id == request.workflow_id
        case _:
            return f"{message} is sent, and the history has {request}"
    same = (request.workflow, request.method, bytes(request.arguments))
    if not where or same != (key.name, message.method, bytes(message.arguments)):
        return f"{message} is sent to {key}, and the history has {request}"
    return None


def read_settlement(settled: engine.RemoteSettled) -> client.Response:
    """Make the response that a client would get in place of an instance that waits."""
    request = ids.remote_request(settled.run, settled.position, settled.retry_sequence)
    match settled.status:
        case RemoteStatus.COMPLETED:
            return client.MethodCompleted(request, settled.value)
        case RemoteStatus.FAILED:
            failure = settled.failure
            return client.MethodFailed(request, MethodFailure(ExceptionDetail("", "")) if failure is None else failure)
        case RemoteStatus.CANCELED:
            return client.MethodCanceled(request)
        case RemoteStatus.TERMINATED:
            return client.MethodTerminated(request, settled.reason)
        case RemoteStatus.UNKNOWN | RemoteStatus.REFUSED:
            return client.WorkflowUnknown(request, settled.reason)


def check_end_is_durable(message: Ending, asked: engine.Input | None, instance: ObservedInstance | None) -> str | None:
    """The end that a client is told is in the history."""
    if asked is None or instance is None:
        return f"{message} answers a request that nobody has sent, or an instance that is not in the storage"
    method_id = _find_method(asked, instance.head)
    ends = [*instance.history.former_ends.get(method_id, ()), instance.history.ends.get(method_id)]
    if any(_tells(message, end) for end in ends):
        return None
    # A cancelled instance begins no more methods.
    if isinstance(message, client.MethodCanceled) and ends[-1] is None and isinstance(asked, engine.CallMethod):
        return None if instance.head.canceling else f"a client is told {message}, and the instance is not cancelled"
    return f"a client is told {message}, and the history says of method {method_id}: {ends[-1]}"


def _tells(message: Ending, end: commands.EndMethod | events.Abandoned | None) -> bool:
    match message, end:
        case client.MethodCompleted(value=told), commands.CompleteMethod(value=value) if bytes(told) == bytes(value):
            return True
        # What is too large for a message is told as a failure.
        case client.MethodFailed(), commands.FailMethod() | commands.CompleteMethod():
            return True
        case client.MethodCanceled(), commands.CancelMethod():
            return True
        case client.MethodTerminated(reason=told), events.Abandoned(reason=reason) if told == reason:
            return True
        case _:
            return False


def check_applied_is_durable(
    message: client.Applied | client.Rejected, asked: engine.Input | None, instance: ObservedInstance | None
) -> str | None:
    """The input that a client is told to be applied, or refused, is in the storage."""
    deduplication_id = None if asked is None else find_deduplication_id(asked)
    if isinstance(asked, engine.Terminate) and instance is not None and instance.is_over:
        return None
    if instance is None or deduplication_id is None or deduplication_id not in instance.taken:
        return f"a client is told that its request is applied, and it is not in the storage: {asked}"
    return None


def check_unknown(
    message: client.WorkflowUnknown, asked: engine.Input | None, instance: ObservedInstance | None, since: float
) -> str | None:
    """A client is told that there is no such workflow only if there is none.

    Args:
        message: what it is told. One with a reason says nothing about the workflow.
        asked: its request.
        instance: the instance.
        since: when the request was sent, by the clock of the simulation.
    """
    if message.reason or asked is None or instance is None or instance.is_over or instance.head.parked:
        return None
    if instance.started_at >= since or instance.reopened_at >= since:
        # It may have been looked for before it was there.
        return None
    if isinstance(asked, engine.Wait) and _find_method(asked, instance.head) not in instance.history.running:
        return None
    if names_no_method(asked, instance):
        return None
    return f"a client is told that the workflow is unknown, and it runs: {asked}"


def check_same_answer(
    answers: list[client.Response], message: Decoded, instance: ObservedInstance | None = None
) -> str | None:
    """All that a client is told of the end of one method is the same.

    Args:
        answers: those to the same request before.
        message: the next one.
        instance: whose method it is. If it was re-opened, the method may end once more.
    """
    if instance is not None and instance.history.former_ends:
        return None
    for other in answers:
        if isinstance(other, Ending) and isinstance(message, Ending) and other != message:
            return f"one request is answered {other} and {message}"
    return None


def check_dead_letter(
    message: Decoded | None,
    size: int,
    instance: ObservedInstance | None,
    age: float,
    window: float,
    largest: int,
) -> str | None:
    """Only a message that cannot be handled becomes a dead letter.

    Args:
        message: decoded; None if it cannot be.
        size: how many bytes its body has.
        instance: the one that it is for.
        age: seconds since it was made.
        window: the deduplication window, in seconds.
        largest: how many bytes the storage takes.
    """
    if message is None or size > largest // 2:
        return None
    if instance is not None and instance.head.parked:
        return None
    # The clocks of workers may differ.
    if isinstance(message, _DEDUPLICATED) and age > window / 2:
        return None
    if isinstance(message, engine.Decision) and instance is not None:
        try:
            check_decision(instance.head, message)
        except InvalidInput:
            return None
    return f"it can be handled: {message}"


def find_deduplication_id(message: Decoded) -> str | None:
    """The id by which a message is recognised when it comes again; None if it has none."""
    match message:
        case engine.CallMethod():
            return message.method_id
        case engine.Signal():
            return message.signal_id
        case engine.Cancel() | engine.RetryWorkflowTask() | engine.Unpark():
            return message.request_id
        case CompleteTask() | FailTask():
            return message.request_id
        case engine.Terminate() | engine.CompleteTimers() | engine.RetryTasks() | engine.ChildReopened():
            return message.request_id
        case engine.CancelTask() | engine.Delete():
            return message.request_id
        case _:
            return None


def names_no_method(asked: engine.Input, instance: ObservedInstance) -> bool:
    """True if a command is for one method, which does not run. It has no effect then."""
    if not isinstance(asked, engine.Cancel | engine.CompleteTimers):
        return False
    return asked.method_id != "" and asked.method_id not in instance.history.running


def _find_method(asked: engine.Input, head: WorkflowHead) -> str:
    match asked:
        case engine.CallMethod():
            return asked.method_id
        case engine.Wait(method_id=str(method_id)):
            return method_id
        case _:
            return head.id


def check_reopening_was_told(
    message: engine.ChildReopened, parent: StateKey, instances: Iterable[ObservedInstance]
) -> str | None:
    """An instance is told of a re-opening only if that is in a committed outbox."""
    told = {request_id for each in instances for key, request_id in each.told_reopened if key == parent}
    if message.claimed:
        # The tag engine sends it on, with another id. A newer epoch is claimed anew.
        told = set(map(ids.claimed_id, told))
        told |= set(map(ids.claimed_id, told))
    if message.request_id in told:
        return None
    return f"{message} tells of a re-opening that is in no outbox that was written"
