"""Does today's code ask for what the history holds? And if not, a report that says where."""

from __future__ import annotations

from typing import cast

from infinitic.clock import to_datetime
from infinitic.codec.release_0_1 import is_same_call
from infinitic.definitions.workflows import ReplayCheck
from infinitic.failures import describe as describe_error
from infinitic.messages.commands import (
    CallRemote,
    CancelMethod,
    CancelPosition,
    Command,
    CompleteMethod,
    ContinueRun,
    FailMethod,
    RecordInline,
    RecordPatch,
    RefuseCall,
    Remote,
    ScheduleTask,
    SignalRemote,
    StartChild,
    StartTimer,
)
from infinitic.replay.places import (
    find_raising_line as find_raising_line,
    find_running_line as find_running_line,
    find_waiting_line as find_waiting_line,
)

_ROUNDING = 2e-6
"""Seconds by which two instants may differ that are the same."""


def is_same_command(recorded: Command, requested: Command, check: ReplayCheck) -> bool:
    """Tell whether the code asks for the command that history holds.

    Args:
        recorded: the command in the history.
        requested: the command that the code gives now.
        check: how closely to look.
    """
    if check is ReplayCheck.NONE:
        return getattr(recorded, "position", None) == getattr(requested, "position", None)
    if type(recorded) is not type(requested):
        return False
    match recorded, requested:
        case ScheduleTask(), ScheduleTask():
            was = (recorded.position, recorded.service, recorded.task)
            if was != (requested.position, requested.service, requested.task):
                return False
            return check is ReplayCheck.SIMPLE or is_same_call(bytes(recorded.arguments), bytes(requested.arguments))
        case StartChild() | CallRemote() | SignalRemote(), StartChild() | CallRemote() | SignalRemote():
            return is_same_remote(recorded, requested, arguments=check is ReplayCheck.STRICT)
        case StartTimer(), StartTimer():
            if recorded.position != requested.position:
                return False
            # Histories of earlier releases have timers that are due a microsecond sooner.
            return check is not ReplayCheck.STRICT or abs(recorded.due - requested.due) < _ROUNDING
        case RecordInline(), RecordInline():
            return (recorded.position, recorded.name) == (requested.position, requested.name)
        case RefuseCall(), RefuseCall():
            return recorded.name == requested.name
        case ContinueRun(), ContinueRun():
            return recorded.method == requested.method
        case CancelPosition(), CancelPosition():
            return recorded.position == requested.position
        case _:
            return getattr(recorded, "method_id", None) == getattr(requested, "method_id", None)


def is_same_remote(recorded: Remote, requested: Remote, *, arguments: bool) -> bool:
    """Tell whether two requests ask the same of the same instance.

    Args:
        recorded: the request in the history.
        requested: the one that the code gives now, of the same kind.
        arguments: whether their arguments, or values, must be the same, too.
    """
    if _name_remote(recorded) != _name_remote(requested):
        return False
    if not arguments:
        return True
    if isinstance(recorded, SignalRemote) or isinstance(requested, SignalRemote):
        return bytes(getattr(recorded, "value", b"")) == bytes(getattr(requested, "value", b""))
    return is_same_call(bytes(recorded.arguments), bytes(requested.arguments))


def _name_remote(command: Remote) -> tuple[int, str, str, str, str]:
    """What of a request to another instance is compared: where it stands, and whom it asks what."""
    match command:
        case StartChild():
            return command.position, command.workflow, "", command.custom_id, command.method
        case CallRemote():
            return command.position, command.workflow, command.workflow_id, command.custom_id, command.method
        case SignalRemote():
            where = command.custom_id or command.tag
            return command.position, command.workflow, command.workflow_id, where, command.channel


def describe(command: Command | None) -> str:
    """Describe a command in words, for a report."""
    match command:
        case None:
            return "nothing more"
        case ScheduleTask():
            return f"task {command.service}.{command.task}{_describe_payload(bytes(command.arguments))}"
        case StartTimer():
            return f"a timer, due {_describe_instant(command.due)}"
        case RecordInline():
            return f"inline {command.name}"
        case CancelPosition():
            return f"cancelling position {command.position}"
        case CompleteMethod():
            return f"the return of method {command.method_id}{_describe_payload(bytes(command.value))}"
        case FailMethod():
            return f"the failure of method {command.method_id} ({command.failure.exception.name})"
        case RefuseCall():
            return f"{command.name}, which was refused ({command.reason})"
        case ContinueRun():
            return f"the next run, with {command.method}{_describe_payload(bytes(command.arguments))}"
        case RecordPatch():
            return f"the change '{command.name}'"
        case CancelMethod():
            return f"the cancellation of method {command.method_id}"
        case StartChild():
            return f"child {command.workflow}.{command.method}{_describe_payload(bytes(command.arguments))}"
        case CallRemote():
            called = f"{command.workflow}.{command.method}{_describe_payload(bytes(command.arguments))}"
            return f"a call of {called} on {command.workflow_id or command.custom_id}"
        case SignalRemote():
            signal = f"{command.workflow}.{command.channel}{_describe_payload(bytes(command.value))}"
            return f"a signal {signal} to {command.workflow_id or command.custom_id or command.tag}"


def describe_difference(recorded: Command | None, requested: Command | None, then: str | None, line: str | None) -> str:
    """Describe how code differs from the history.

    Args:
        recorded: what the history holds; None for nothing more.
        requested: what the code asks for; None for nothing more.
        then: the line at which it was asked for when it was recorded, if that is known.
        line: the line at which the code asks, or waits.
    """
    return (
        f"the history holds {describe(recorded)}"
        + (f", asked for at {then} when it was recorded" if then is not None else "")
        + f", the code asks for {describe(requested)}"
        + (f", at {line}" if line is not None else "")
    )


def find_position(recorded: Command | None, requested: Command | None, following: int) -> int:
    """Find the position at which two commands differ: that of one of them, or the next one."""
    positions: list[int | None] = [getattr(each, "position", None) for each in (recorded, requested)]
    return next((each for each in positions if each is not None), following)


def _describe_payload(payload: bytes, longest: int = 100) -> str:
    text = payload.decode(errors="replace")
    return f" with {text[:longest]}{'…' if len(text) > longest else ''}"


def _describe_instant(due: float) -> str:
    try:
        return to_datetime(due).isoformat()
    except (ValueError, OverflowError):
        # `call_at` takes times that no datetime can hold.
        return f"{due:g} s after 1970"


QUESTIONS = (
    "Was the code changed, without a new version? Does it depend on the time, on random numbers or ids, on a global or "
    "an environment that changes, or on the order of a set? Use self.now(), self.random, self.uuid4(), self.inline(…)"
)
"""What somebody asks who has to find out why replay went another way."""


def describe_stall(name: str, workflow_id: str, reason: object) -> str:
    """Say for logs which instance stalls, and why. The id stands there once.

    Args:
        name: the name of the workflow.
        workflow_id: the id of the instance.
        reason: the error, or its text.
    """
    who = f"Workflow {name} {workflow_id}"
    return f"{who} stalls: {str(reason).removeprefix(who).lstrip(',: ')}"


def describe_in_one_line(error: BaseException, longest: int = 300) -> str:
    """Describe an exception in one line, with the line of the user that raised it.

    Args:
        error: the exception.
        longest: how many characters of its text to give at most.
    """
    described = describe_error(error)
    text = f"{described.name.removeprefix('builtins.')}: {described.message}".replace("\n", " ")
    return f"{text[:longest]}{'…' if len(text) > longest else ''}, at {find_raising_line(error)[-longest:]}"


_FOREIGN = ("attached to a different loop", "is bound to a different event loop", "Task got bad yield")


def find_foreign_await(error: BaseException) -> BaseException | None:
    """What asyncio raised when the code awaited something of another loop.

    That is the error itself, or one behind or in it. None if it is no such error.
    """
    waiting: list[BaseException | None] = [error]
    seen = set[int]()
    for each in waiting:
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, RuntimeError) and any(text in str(each) for text in _FOREIGN):
            return each
        if isinstance(each, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", each).exceptions
        waiting += (each.__cause__, each.__context__)
    return None
